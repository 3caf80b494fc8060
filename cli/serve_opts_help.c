/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What `breakwater serve --help` says: a screen with what most people need, and a screen for each
 * group of options.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/serve_opts_priv.h"

static const char summary[] =
    "Usage: breakwater serve [OPTION]... IMAGE [[OPTION]... IMAGE]... [OPTION]...\n"
    "       breakwater serve [OPTION]... --config FILE\n"
    "Serve disk images over NBD, at localhost:10809 unless told otherwise, until SIGTERM.\n"
    "Options of an export hold for the image before them; before the first image, for all.\n"
    "\n"
    "  -k, --socket PATH         listen on a Unix socket (alias --unix)\n"
    "  -p, --port N              listen on this TCP port\n"
    "  -b, --bind ADDRESS        ... at this address, * is all (alias --ipaddr) [localhost]\n"
    "  -x, --export-name NAME    name of the export (alias --exportname) [empty]\n"
    "  -f, --format FORMAT       qcow2 or raw; never probed [qcow2 if IMAGE ends in .qcow2]\n"
    "  -r, --read-only           refuse writes (alias --readonly)\n"
    "  -e, --shared N            at most N clients (alias --max-connections) [0: no limit]\n"
    "  -B, --bitmap NAME         record changed blocks as qemu:dirty-bitmap:NAME\n"
    "      --tls-certificates DIR  require TLS, with the certificates in DIR\n"
    "      --faults FILE         inject faults by these rules\n"
    "      --config FILE         serve what this file says\n"
    "      --fork                go into the background once ready\n"
    "  -v, --verbose             log more; twice: everything\n"
    "  -h, --help [TOPIC]        more about: listen, tls, export, image, changes, faults,\n"
    "                            limits, running; or all of it\n"
    "  -V, --version\n";

static const char help_listen[] =
    "Where to listen; repeatable and together, --stdin aside:\n"
    "  -k, --socket PATH         listen on a Unix socket (alias --unix); @NAME: an abstract one\n"
    "  -p, --port N              listen on this TCP port; 0: any free one\n"
    "  -b, --bind ADDRESS        ... at this address, * is all (alias --ipaddr) [localhost]\n"
    "  -k -                      listen on a Unix socket that has a new name\n"
    "      --vsock[=PORT]        listen on a vsock port; without PORT those of -p are vsock's\n"
    "      --socket-fd N         listen on, or serve, an inherited socket\n"
    "      --stdin               serve the one client at standard input (alias --single)\n";

static const char help_tls[] =
    "TLS:\n"
    "      --tls MODE            off, on or require [require if there are credentials]\n"
    "      --tls-certificates DIR  server-cert.pem, server-key.pem and ca-cert.pem\n"
    "      --tls-psk FILE        pre-shared keys: USER:HEXKEY lines, as of psktool\n"
    "      --tls-verify-peer     clients must show a certificate of ca-cert.pem\n"
    "      --object TYPE,id=ID,...  QEMU's tls-creds-x509, tls-creds-psk, authz-simple, "
    "authz-list\n"
    "      --tls-creds ID        use these credentials; TLS is required\n"
    "Who may use an export:\n"
    "      --tls-only            clients that use TLS\n"
    "      --tls-allow RULE      subject=PATTERN, sha256=FINGERPRINT, user=PATTERN; repeatable\n"
    "      --tls-authz ID        only clients that this object lets in\n";

static const char help_export[] =
    "The export:\n"
    "  -x, --export-name NAME    its name (alias --exportname) [empty; of several, the file's]\n"
    "  -D, --description TEXT    shown to clients that list the exports\n"
    "  -e, --shared N            at most N clients (alias --max-connections) [0: no limit]\n"
    "  -r, --read-only           refuse writes (alias --readonly)\n"
    "  -o, --offset BYTES        serve the disk from this offset on\n"
    "      --allow-resize        clients may change the size of the disk\n"
    "  -A, --allocation-depth    publish which image of a backing chain has what\n";

static const char help_image[] =
    "The image:\n"
    "  -f, --format FORMAT       qcow2 or raw; never probed [qcow2 if IMAGE ends in .qcow2]\n"
    "  -l, --load-snapshot SNAPSHOT  serve this internal snapshot, read-only (alias --snapshot)\n"
    "  -s, --discard-changes     what clients write is gone at the end\n"
    "      --cache MODE          writeback, none (direct I/O), unsafe (flushes do nothing)\n"
    "  -n, --nocache             the same as --cache none\n"
    "      --discard MODE        unmap or ignore [unmap]\n"
    "      --detect-zeroes MODE  off, on (a write of zeros takes no space), unmap (frees it)\n"
    "      --l2-cache-size SIZE  most memory for an image's L2 tables [all of them, or 32M]\n"
    "      --image-opts          IMAGE is driver=qcow2|raw,file.driver=file,file.filename=PATH\n"
    "      --aio MODE            threads, native or io_uring: no effect\n"
    "      --no-lock             take no lock on the image\n"
    "      --backing-dir DIR     where backing files may lie [the folder of IMAGE]\n";

static const char help_changes[] =
    "Changed blocks and frozen views:\n"
    "  -B, --bitmap NAME[,granularity=N]\n"
    "                            record changed blocks as qemu:dirty-bitmap:NAME; repeatable\n"
    "      --checkpoints, --no-checkpoints\n"
    "                            EXPORT@NAME is a frozen view, or not [with -B it is]\n"
    "      --max-checkpoints N   remember so many [64]\n"
    "      --view-grace TIME     keep a view so long after its last client [30s]\n"
    "      --scratch-dir DIR     for data that views keep [$TMPDIR, else /var/tmp]\n"
    "      --scratch-limit SIZE  most of it, for each view [1G]\n";

static const char help_faults[] =
    "Faults:\n"
    "      --faults FILE         inject faults by these rules (blkdebug's, and [fault] sections)\n"
    "      --fault 'KEY=VALUE ...'  inject this fault; repeatable. See breakwater-faults(1)\n"
    "      --fault-seed N        of what faults draw [a random one, which is logged]\n"
    "      --fault-trace FILE    record what faults meet and decide (breakwater faults trace)\n"
    "      --fault-trace-size SIZE\n"
    "                            end the trace there [64M]\n"
    "      --fault-replay FILE   decide as this trace says, instead of by rules\n"
    "      --blkdebug KEY=VALUE,...  options of QEMU's blkdebug, or a JSON object of them\n";

static const char help_limits[] =
    "Limits:\n"
    "      --handshake-limit TIME  a client must be through by then (alias --timeout) [10s]; 0: no "
    "limit\n"
    "      --idle-timeout TIME   close a connection that asks for nothing so long [none]\n"
    "      --stall-timeout TIME  ... or stops in a message, or reads no replies [60s]\n"
    "      --max-options N       in one handshake [256]\n"
    "      --max-clients N       connections, all together [100, or what --shared makes needed]\n"
    "      --max-requests N      in flight, for each connection [64]\n"
    "      --max-total-requests N  in flight, all together [4096]\n"
    "      --max-connection-bytes SIZE  in flight, for each connection [a quarter of all]\n"
    "      --max-bytes SIZE      in flight, all together [64M]\n";

static const char help_running[] =
    "Running:\n"
    "      --config FILE         more exports, and options of the server\n"
    "      --check               do not serve: is the command line right, and FILE?\n"
    "      --control PATH        control socket: QMP, see breakwater-ctl(1)\n"
    "      --run COMMAND         serve as long as COMMAND runs, which finds the server at $uri\n"
    "      --exit-with-parent    end when the program that started this one ends\n"
    "      --fork, --foreground  go into the background once ready, or not [not]\n"
    "      --pid-file FILE       write the process id there (alias --pidfile)\n"
    "      --sandbox MODE        on, off, auto: on as far as the system has it [auto]\n"
    "      --allow-path PATH     in the sandbox, files below it may be opened, too; repeatable\n"
    "      --user USER           once ready, become this user (name or number)\n"
    "      --group GROUP         ... and this group [that of the user]\n"
    "  -v, --verbose             log more; twice: everything\n"
    "      --log-level LEVEL     error, warn, info, debug [warn; with faults info]\n"
    "  -t, --persistent  --print-uri  stay without clients, print the URI: done anyway\n"
    "  -T, --trace SPEC          QEMU's traces: no effect\n"
    "  -h, --help  -V, --version\n";

static const struct {
    const char *name, *text;
} topics[] = {
    {"listen", help_listen}, {"tls", help_tls},         {"export", help_export},
    {"image", help_image},   {"changes", help_changes}, {"faults", help_faults},
    {"limits", help_limits}, {"running", help_running},
};

bool serve_help(const char *topic, struct err **errp)
{
    bool all = topic && strcmp(topic, "all") == 0, found = all || !topic;

    if (!topic)
        fputs(summary, stdout);
    for (size_t i = 0; topic && i < ARRAY_LEN(topics); i++) {
        if (!all && strcmp(topic, topics[i].name) != 0)
            continue;
        printf("%s%s", all && i > 0 ? "\n" : "", topics[i].text);
        found = true;
    }
    return found || err_set(errp, EINVAL,
                            "--help: there is no topic '%s'; there are listen, tls, export, image, "
                            "changes, faults, limits, running and all",
                            topic);
}
