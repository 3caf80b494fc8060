/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of qemu-nbd, for a breakwater that is started under its name: qemu-nbd's letters
 * and defaults, turned into serve's options. What is different on purpose: the format is never
 * probed, and what is not supported is refused by its name, never passed over.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/args.h"
#include "cli/serve_opts_priv.h"

struct dropin {
    struct serve_opts *o;
    bool persistent;
};

static const char short_options[] = ":hVb:o:p:rsnc:dvk:e:f:tl:x:T:D:AB:LP:";

/* Long options that mean what they mean to serve. */
static const char *const same[] = {
    "aio",
    "allocation-depth",
    "backing-dir",
    "bind",
    "bitmap",
    "cache",
    "description",
    "detect-zeroes",
    "discard",
    "export-name",
    "fork",
    "format",
    "handshake-limit",
    "help",
    "image-opts",
    "load-snapshot",
    "nocache",
    "object",
    "offset",
    "persistent",
    "pid-file",
    "port",
    "read-only",
    "shared",
    "socket",
    "tls-authz",
    "tls-creds",
    "tls-hostname",
    "trace",
    "verbose",
    "version",
};

#define SELINUX_LABEL 4096 /* a code that no option of serve has */

static const struct option others[] = {
    {"partition", required_argument, NULL, 'P'},
    {"connect", required_argument, NULL, 'c'},
    {"disconnect", no_argument, NULL, 'd'},
    {"list", no_argument, NULL, 'L'},
    {"snapshot", no_argument, NULL, 's'},
    {"selinux-label", required_argument, NULL, SELINUX_LABEL},
};

static const char help[] =
    "Usage: qemu-nbd [OPTION]... IMAGE\n"
    "This is breakwater, with the command line and the defaults of qemu-nbd.\n"
    "\n"
    "  -p, --port N  -b, --bind ADDRESS  where to listen [0.0.0.0:10809]\n"
    "  -k, --socket PATH         listen on a Unix socket instead\n"
    "  -e, --shared N            at most N clients; 0: no limit [1]\n"
    "  -t, --persistent          stay when the last client leaves\n"
    "  -x, --export-name NAME  -D, --description TEXT\n"
    "  -o, --offset BYTES  -A, --allocation-depth  -r, --read-only\n"
    "  -B, --bitmap NAME         publish this bitmap, which the image stores; repeatable\n"
    "  -f, --format FORMAT       qcow2 or raw; never probed [qcow2 if IMAGE ends in .qcow2]\n"
    "      --image-opts          IMAGE is driver=qcow2|raw,file.driver=file,file.filename=PATH\n"
    "      --backing-dir DIR     where backing files may lie [the folder of IMAGE]\n"
    "  -l, --load-snapshot SNAPSHOT\n"
    "  -s, --snapshot            what is written is gone at the end\n"
    "  -n, --nocache  --cache none|writeback|unsafe\n"
    "      --aio MODE            threads, native or io_uring: no effect\n"
    "      --discard MODE        ignore or unmap [ignore]\n"
    "      --detect-zeroes MODE  off, on or unmap [off]\n"
    "      --object TYPE,id=ID,...  --tls-creds ID  --tls-authz ID\n"
    "      --handshake-limit SECONDS\n"
    "      --fork  --pid-file FILE  -v, --verbose  -T, --trace SPEC (no effect)\n"
    "  -h, --help  -V, --version\n"
    "\n"
    "There is no -c, -d, -L, -P and --selinux-label. See breakwater-serve(1).\n";

/* refusal: why an option of qemu-nbd is not one of ours; NULL: it is. */
static const char *refusal(int opt)
{
    switch (opt) {
    case 'c':
        return "-c, --connect: kernel devices are not supported; connect with nbd-client";
    case 'd':
        return "-d, --disconnect: kernel devices are not supported; disconnect with nbd-client -d";
    case 'L':
        return "-L, --list: listing the exports of a server is not supported; nbdinfo --list does "
               "it";
    case 'P':
        return "-P, --partition is not supported; give the partition's begin as --offset";
    case SELINUX_LABEL:
        return "--selinux-label: SELinux labels are not supported";
    }
    return NULL;
}

/* QEMU knows two names for each. */
static const char *discard_mode(const char *text)
{
    if (strcmp(text, "on") == 0)
        return "unmap";
    return strcmp(text, "off") == 0 ? "ignore" : text;
}

static bool take(struct dropin *d, int opt, const char *arg, struct err **errp)
{
    struct listen_opts *l = &d->o->listen;
    const char *no = refusal(opt);

    if (no)
        return err_set(errp, ENOTSUP, "%s", no);
    switch (opt) {
    case 't':
        d->persistent = true;
        return true;
    case OPT_DISCARD:
        arg = discard_mode(arg);
        break;
    case 'B':
        return serve_add_bitmap(d->o->exports[0], arg, 0, errp); /* commas and all */
    case 'k':
        l->n_sockets = 0; /* qemu-nbd listens in one place: the last one said */
        break;
    case 'p':
        l->n_ports = 0;
        break;
    case 'b':
        l->n_hosts = 0;
        break;
    }
    return serve_option_coded(opt)->scope == SCOPE_SERVER
               ? serve_take_for_server(opt, arg, d->o, errp)
               : serve_take_for_export(opt, arg, d->o->exports[0], errp);
}

/* qemu-nbd would look into the image; what a guest has written there must not decide. */
static void assume_format(struct serve_export *x)
{
    if (x->format != FORMAT_UNSAID || format_settle(x->image, "-f", &x->format, NULL))
        return;
    x->format = FORMAT_RAW;
    x->format_assumed = true;
    log_warn("the format of '%s' is not said, and never probed: it is taken for raw. Say -f",
             x->image);
}

static bool finish(struct dropin *d, const char *image, struct err **errp)
{
    struct serve_opts *o = d->o;
    struct serve_export *x = o->exports[0];

    x->image = image;
    if (!serve_settle_image_opts(x, errp))
        return false;
    x->image_opts = false; /* that was it */
    assume_format(x);
    if (o->listen.n_sockets > 0)
        o->listen.n_ports = o->listen.n_hosts = 0;
    x->without_checkpoints = true;
    x->bitmaps_stored = true;
    o->server.exit_on_last_disconnect = !d->persistent;
    return serve_settle(o, errp);
}

enum serve_parse qemu_nbd_parse(int argc, char **argv, struct serve_opts *o, struct err **errp)
{
    struct dropin d = {.o = o};
    struct option long_options[ARRAY_LEN(same) + ARRAY_LEN(others) + 1];
    int opt;

    *o = (struct serve_opts){0};
    if (!serve_export_add(o, NULL, errp))
        return SERVE_WRONG;
    o->exports[0]->max_connections = 1;
    o->exports[0]->ignore_discard = true;
    o->listen.default_host = "0.0.0.0";
    o->listen.quiet = true;
    serve_long_options_of(same, ARRAY_LEN(same), others, ARRAY_LEN(others), long_options);
    struct args a = args_begin(argc, argv, short_options, long_options);
    while ((opt = args_next(&a, errp)) != ARGS_END) {
        if (opt == 'h' || opt == 'V') {
            fputs(opt == 'h' ? help : "qemu-nbd, of breakwater " BREAKWATER_VERSION "\n", stdout);
            return SERVE_DONE;
        }
        if (opt == ARGS_WRONG || !take(&d, opt, optarg, errp))
            return SERVE_WRONG;
    }
    if (optind + 1 != argc) {
        err_set(errp, EINVAL, optind == argc ? "the image is missing" : "one image at a time");
        return SERVE_WRONG;
    }
    return finish(&d, argv[optind], errp) ? SERVE_RUN : SERVE_WRONG;
}
