/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of serve and what --help says about them.
 */
#include "cli/serve_opts_priv.h"

const char serve_short_options[] = ":k:p:b:x:D:e:trf:l:B:Ano:vhV";

const struct option serve_long_options[] = {
    {"socket", required_argument, NULL, 'k'},
    {"unix", required_argument, NULL, 'k'},
    {"port", required_argument, NULL, 'p'},
    {"bind", required_argument, NULL, 'b'},
    {"ipaddr", required_argument, NULL, 'b'},
    {"export-name", required_argument, NULL, 'x'},
    {"exportname", required_argument, NULL, 'x'},
    {"description", required_argument, NULL, 'D'},
    {"shared", required_argument, NULL, 'e'},
    {"max-connections", required_argument, NULL, 'e'},
    {"persistent", no_argument, NULL, 't'},
    {"read-only", no_argument, NULL, 'r'},
    {"readonly", no_argument, NULL, 'r'},
    {"format", required_argument, NULL, 'f'},
    {"load-snapshot", required_argument, NULL, 'l'},
    {"snapshot", required_argument, NULL, 'l'},
    {"bitmap", required_argument, NULL, 'B'},
    {"allocation-depth", no_argument, NULL, 'A'},
    {"allow-resize", no_argument, NULL, OPT_ALLOW_RESIZE},
    {"nocache", no_argument, NULL, 'n'},
    {"offset", required_argument, NULL, 'o'},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"faults", required_argument, NULL, OPT_FAULTS},
    {"fault", required_argument, NULL, OPT_FAULT},
    {"fault-seed", required_argument, NULL, OPT_FAULT_SEED},
    {"fault-trace", required_argument, NULL, OPT_FAULT_TRACE},
    {"fault-trace-size", required_argument, NULL, OPT_FAULT_TRACE_SIZE},
    {"blkdebug", required_argument, NULL, OPT_BLKDEBUG},
    {"checkpoints", no_argument, NULL, OPT_CHECKPOINTS},
    {"no-checkpoints", no_argument, NULL, OPT_NO_CHECKPOINTS},
    {"scratch-dir", required_argument, NULL, OPT_SCRATCH_DIR},
    {"scratch-limit", required_argument, NULL, OPT_SCRATCH_LIMIT},
    {"cache", required_argument, NULL, OPT_CACHE},
    {"discard", required_argument, NULL, OPT_DISCARD},
    {"detect-zeroes", required_argument, NULL, OPT_DETECT_ZEROES},
    {"handshake-limit", required_argument, NULL, OPT_HANDSHAKE_LIMIT},
    {"max-requests", required_argument, NULL, OPT_MAX_REQUESTS},
    {"max-bytes", required_argument, NULL, OPT_MAX_BYTES},
    {"max-checkpoints", required_argument, NULL, OPT_MAX_CHECKPOINTS},
    {"view-grace", required_argument, NULL, OPT_VIEW_GRACE},
    {"backing-dir", required_argument, NULL, OPT_BACKING_DIR},
    {"pid-file", required_argument, NULL, OPT_PID_FILE},
    {"control", required_argument, NULL, OPT_CONTROL},
    {"fork", no_argument, NULL, OPT_FORK},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"print-uri", no_argument, NULL, OPT_PRINT_URI},
    {"no-lock", no_argument, NULL, OPT_NO_LOCK},
    {"vsock", optional_argument, NULL, OPT_VSOCK},
    {"socket-fd", required_argument, NULL, OPT_SOCKET_FD},
    {"stdin", no_argument, NULL, OPT_STDIN},
    {"single", no_argument, NULL, OPT_STDIN},
    {"tls", required_argument, NULL, OPT_TLS},
    {"tls-certificates", required_argument, NULL, OPT_TLS_CERTIFICATES},
    {"tls-psk", required_argument, NULL, OPT_TLS_PSK},
    {"tls-verify-peer", no_argument, NULL, OPT_TLS_VERIFY_PEER},
    {"tls-allow", required_argument, NULL, OPT_TLS_ALLOW},
    {"object", required_argument, NULL, OPT_OBJECT},
    {"tls-creds", required_argument, NULL, OPT_TLS_CREDS},
    {"tls-authz", required_argument, NULL, OPT_TLS_AUTHZ},
    {"tls-hostname", required_argument, NULL, OPT_TLS_HOSTNAME},
    {0},
};

const char serve_help[] =
    "Usage: breakwater serve [OPTION]... IMAGE\n"
    "Serve a disk image over NBD, at localhost:10809 unless told otherwise, until SIGTERM.\n"
    "\n"
    "  -k, --socket PATH         listen on a Unix socket (alias --unix); @NAME: an abstract one\n"
    "  -p, --port N              listen on this TCP port; 0: any free one\n"
    "  -b, --bind ADDRESS        ... at this address, * is all (alias --ipaddr) [localhost]\n"
    "      --vsock[=PORT]        listen on a vsock port; without PORT those of -p are vsock's\n"
    "      --socket-fd N         listen on, or serve, an inherited socket\n"
    "                            these are all repeatable, and go together\n"
    "      --stdin               serve the one client at standard input (alias --single)\n"
    "  -x, --export-name NAME    name of the export (alias --exportname) [empty]\n"
    "  -D, --description TEXT    shown to clients that list the exports\n"
    "  -e, --shared N            at most N clients (alias --max-connections) [0: no limit]\n"
    "      --tls MODE            off, on or require [require if there are credentials]\n"
    "      --tls-certificates DIR  server-cert.pem, server-key.pem and ca-cert.pem\n"
    "      --tls-psk FILE        pre-shared keys: USER:HEXKEY lines, as of psktool\n"
    "      --tls-verify-peer     clients must show a certificate of ca-cert.pem\n"
    "      --tls-allow RULE      subject=PATTERN, sha256=FINGERPRINT, user=PATTERN; repeatable\n"
    "      --object TYPE,id=ID,...  QEMU's tls-creds-x509, tls-creds-psk, authz-simple, "
    "authz-list\n"
    "      --tls-creds ID        use these credentials; TLS is required\n"
    "      --tls-authz ID        only clients that this object lets in\n"
    "  -f, --format FORMAT       qcow2 or raw; never probed [qcow2 if IMAGE ends in .qcow2]\n"
    "  -r, --read-only           refuse writes (alias --readonly)\n"
    "  -l, --load-snapshot SNAPSHOT  serve this internal snapshot, read-only (alias --snapshot)\n"
    "  -o, --offset BYTES        serve the disk from this offset on\n"
    "      --cache MODE          writeback, none (direct I/O), unsafe (flushes do nothing)\n"
    "  -n, --nocache             the same as --cache none\n"
    "      --discard MODE        unmap or ignore [unmap]\n"
    "      --detect-zeroes MODE  off, on (a write of zeros takes no space), unmap (frees it) "
    "[off]\n"
    "      --allow-resize        clients may change the size of the disk\n"
    "      --no-lock             take no lock on the image\n"
    "      --backing-dir DIR     where backing files may lie [the folder of IMAGE]\n"
    "      --faults FILE         inject faults by these rules (blkdebug's, and [fault] sections)\n"
    "      --fault 'KEY=VALUE ...'  inject this fault; repeatable. See breakwater-faults(1)\n"
    "      --fault-seed N        of what faults draw [a random one, which is logged]\n"
    "      --fault-trace FILE    record what faults meet and decide (breakwater faults trace)\n"
    "      --fault-trace-size SIZE\n"
    "                            end the trace there [64M]\n"
    "      --blkdebug KEY=VALUE,...  options of QEMU's blkdebug, or a JSON object of them\n"
    "  -B, --bitmap NAME[,granularity=N]\n"
    "                            record changed blocks as qemu:dirty-bitmap:NAME; repeatable\n"
    "  -A, --allocation-depth    publish which image of a backing chain has what\n"
    "      --checkpoints, --no-checkpoints\n"
    "                            EXPORT@NAME is a frozen view, or not [with -B it is]\n"
    "      --max-checkpoints N   remember so many [64]\n"
    "      --view-grace TIME     keep a view so long after its last client [30s]\n"
    "      --scratch-dir DIR     for data that views keep [$TMPDIR, else /var/tmp]\n"
    "      --scratch-limit SIZE  most of it, for each view [1G]\n"
    "      --handshake-limit TIME  a client must be through by then [10s]; 0: no limit\n"
    "      --max-requests N      in flight, for each connection [64]\n"
    "      --max-bytes SIZE      in flight, all together [64M]\n"
    "      --control PATH        control socket: QMP, see breakwater-ctl(1)\n"
    "      --fork                go into the background once ready\n"
    "      --pid-file FILE       write the process id there\n"
    "  -v, --verbose             log more; twice: everything\n"
    "      --log-level LEVEL     error, warn, info, debug [warn; with faults info]\n"
    "  -t, --persistent  --print-uri  stay without clients, print the URI: done anyway\n"
    "  -h, --help  -V, --version\n";
