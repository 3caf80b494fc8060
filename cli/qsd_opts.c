/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Parsing the command line of `breakwater daemon`.
 */
#include "cli/args.h"
#include "cli/qsd_opts.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"

enum { OPT_STEP = 0x100, OPT_DAEMONIZE = 0x200, OPT_PIDFILE, OPT_ALLOW_PATH };

static const struct option long_options[] = {
    {"allow-path", required_argument, NULL, OPT_ALLOW_PATH},
    {"blockdev", required_argument, NULL, OPT_STEP + QSD_BLOCKDEV},
    {"chardev", required_argument, NULL, OPT_STEP + QSD_CHARDEV},
    {"daemonize", no_argument, NULL, OPT_DAEMONIZE},
    {"export", required_argument, NULL, OPT_STEP + QSD_EXPORT},
    {"help", no_argument, NULL, 'h'},
    {"monitor", required_argument, NULL, OPT_STEP + QSD_MONITOR},
    {"nbd-server", required_argument, NULL, OPT_STEP + QSD_NBD_SERVER},
    {"object", required_argument, NULL, OPT_STEP + QSD_OBJECT},
    {"pidfile", required_argument, NULL, OPT_PIDFILE},
    {"trace", required_argument, NULL, 'T'},
    {"verbose", no_argument, NULL, 'v'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static void help(void)
{
    printf("Usage: breakwater daemon [OPTION]...\n"
           "Serve block nodes over NBD under the control of QMP, as qemu-storage-daemon does.\n"
           "\n"
           "      --blockdev OPTIONS   add a node: driver=NAME,node-name=NAME,... or JSON\n"
           "      --chardev OPTIONS    socket,id=ID,path=PATH,server=on,wait=off: for --monitor\n"
           "      --monitor OPTIONS    chardev=ID[,pretty=on]: control socket, speaks QMP\n"
           "      --nbd-server OPTIONS addr.type=unix,addr.path=PATH or addr.type=inet,\n"
           "                           addr.host=HOST,addr.port=PORT [,max-connections=N]\n"
           "      --export OPTIONS     type=nbd,id=ID,node-name=NAME[,name=EXPORT]\n"
           "                           [,writable=on][,bitmap=NAME]\n"
           "      --object OPTIONS     secret,id=ID,data=TEXT; iothread,id=ID;\n"
           "                           tls-creds-x509 or -psk,id=ID,endpoint=server,dir=DIR\n"
           "      --allow-path DIR     open files only below DIR (may be repeated)\n"
           "      --daemonize          go into the background once all is set up\n"
           "      --pidfile PATH       write the process ID there\n"
           "  -T, --trace PATTERN      accepted and ignored\n"
           "  -v, --verbose            log more; twice: much more\n"
           "  -h, --help               this\n"
           "  -V, --version            the version\n"
           "\n"
           "Options take effect in the order in which they are given.\n");
}

static bool put_step(struct qsd_opts *o, enum qsd_step_kind kind, const char *text,
                     struct err **errp)
{
    struct qsd_step *v = mem_realloc(o->steps, (o->n_steps + 1) * sizeof(*v));

    if (!v)
        return err_set(errp, ENOMEM, "out of memory");
    o->steps = v;
    v[o->n_steps++] = (struct qsd_step){kind, text};
    return true;
}

static bool put_path(struct qsd_opts *o, const char *path, struct err **errp)
{
    const char **v = mem_realloc(o->allow_paths, (o->n_allow_paths + 1) * sizeof(*v));

    if (!v)
        return err_set(errp, ENOMEM, "out of memory");
    o->allow_paths = v;
    v[o->n_allow_paths++] = path;
    return true;
}

static bool take_option(struct qsd_opts *o, int c, struct err **errp)
{
    switch (c) {
    case OPT_DAEMONIZE:
        o->fork = true;
        return true;
    case OPT_PIDFILE:
        o->pid_file = optarg;
        return true;
    case OPT_ALLOW_PATH:
        return put_path(o, optarg, errp);
    case 'T':
        return true;
    case 'v':
        log_set_level(log_get_level() >= LOG_LEVEL_INFO ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
        return true;
    default:
        return put_step(o, (enum qsd_step_kind)(c - OPT_STEP), optarg, errp);
    }
}

enum qsd_parse qsd_parse(int argc, char **argv, struct qsd_opts *o, struct err **errp)
{
    int c;

    *o = (struct qsd_opts){0};
    struct args a = args_begin(argc, argv, ":hT:vV", long_options);
    while ((c = args_next(&a, errp)) != ARGS_END) {
        if (c == 'h') {
            help();
            return QSD_DONE;
        }
        if (c == 'V') {
            printf("breakwater %s\n", BREAKWATER_VERSION);
            return QSD_DONE;
        }
        if (c == ARGS_WRONG || !take_option(o, c, errp))
            return QSD_WRONG;
    }
    if (optind < argc) {
        err_set(errp, EINVAL, "Unexpected argument: %s", argv[optind]);
        return QSD_WRONG;
    }
    return QSD_RUN;
}

void qsd_opts_free(struct qsd_opts *o)
{
    mem_free(o->steps);
    mem_free(o->allow_paths);
}
