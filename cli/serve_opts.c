/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Parsing of serve's command line. Letters and their meanings are qemu-nbd's, long names of nbdkit
 * are taken as aliases. Everything that can be judged without opening a file is judged here, so
 * that a wrong command line is always told from work that failed.
 */
#include "cli/serve_opts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"

bool serve_parse_uint(const char *text, const char *what, uint64_t min, uint64_t max, unsigned *out,
                      struct err **errp)
{
    uint64_t v;

    if (!parse_u64(text, what, min, max, &v, errp))
        return false;
    *out = (unsigned)v;
    return true;
}

static bool parse_level(const char *text, enum log_level *out, struct err **errp)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return err_set(errp, EINVAL, "--log-level: '%s' is not known; it is error, warn, info or debug",
                   text);
}

/* How the program runs. */
static enum take take_running(int opt, const char *arg, struct serve_opts *o,
                              struct serve_choices *ch, struct err **errp)
{
    switch (opt) {
    case 't':
    case OPT_PRINT_URI:
        return TAKE_OK; /* what is done anyway */
    case OPT_CONTROL:
        o->control = arg;
        return TAKE_OK;
    case OPT_PID_FILE:
        o->pid_file = arg;
        return TAKE_OK;
    case OPT_FORK:
        o->fork = true;
        return TAKE_OK;
    case 'v':
        ch->verbose++;
        return TAKE_OK;
    case OPT_LOG_LEVEL:
        ch->level_given = true;
        return take_if(parse_level(arg, &ch->level, errp));
    }
    return TAKE_OTHER;
}

bool serve_take(int opt, const char *arg, struct serve_opts *o, struct serve_choices *ch,
                struct err **errp)
{
    static enum take (*const groups[])(int, const char *, struct serve_opts *,
                                       struct serve_choices *, struct err **) = {
        take_running,      serve_take_listen,  serve_take_export, serve_take_image,
        serve_take_faults, serve_take_changes, serve_take_tls,
    };

    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        enum take t = groups[i](opt, arg, o, ch, errp);
        if (t != TAKE_OTHER)
            return t == TAKE_OK;
    }
    return err_set(errp, EINVAL, "option %d has no meaning", opt); /* a fault in the table */
}

bool serve_settle(struct serve_opts *o, const struct serve_choices *ch, struct err **errp)
{
    if (!serve_settle_image(o, errp) || !format_settle(o->image, "-f", &o->format, errp))
        return false;
    if (o->detect_zeroes == DETECT_ZEROES_UNMAP && o->ignore_discard)
        return err_set(errp, EINVAL, "--detect-zeroes=unmap needs --discard=unmap");
    if (o->has_snapshot && o->format != FORMAT_QCOW2)
        return err_set(errp, EINVAL, "-l: a raw image has no snapshots");
    if (o->has_snapshot && o->n_bitmaps)
        return err_set(errp, EINVAL, "-l and -B exclude each other: nothing changes in a snapshot");
    if (!activation_read(&o->listen.activation, errp) || !listen_check(&o->listen, errp))
        return false;
    if (o->listen.use_stdin && o->fork)
        return err_set(errp, EINVAL, "--stdin and --fork exclude each other");
    if (ch->checkpoints && ch->no_checkpoints)
        return err_set(errp, EINVAL, "--checkpoints and --no-checkpoints exclude each other");
    o->checkpoints = ch->checkpoints || (o->n_bitmaps > 0 && !ch->no_checkpoints);
    if (strlen(o->name) > 4096 || (o->description && strlen(o->description) > 4096))
        return err_set(errp, EINVAL, "--export-name and --description have at most 4096 bytes");
    if (!serve_check_faults(o, errp) || !serve_tls_settle(&o->tls, errp))
        return false;
    /* Clients that only look (nbdinfo --list) need room beside those that are served. */
    if (o->max_connections > 90)
        o->server.max_connections = o->max_connections + 10;
    /* Who injects faults wants to see the rules' counters at the end. */
    if (ch->verbose || serve_has_faults(o))
        log_set_level(ch->verbose > 1 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    if (ch->level_given)
        log_set_level(ch->level);
    return true;
}

bool serve_bad_option(int opt, const char *word, struct err **errp)
{
    if (opt == ':')
        return err_set(errp, EINVAL, "option '%s' needs a value", word);
    return err_set(errp, EINVAL, "option '%s' is not known", word);
}

enum serve_parse serve_parse(int argc, char **argv, struct serve_opts *o, struct err **errp)
{
    struct serve_choices ch = {0};
    int opt, at = 1;

    *o = (struct serve_opts){.name = ""};
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, serve_short_options, serve_long_options, NULL)) != -1) {
        if (opt == 'h') {
            fputs(serve_help, stdout);
            return SERVE_DONE;
        }
        if (opt == 'V') {
            printf("breakwater %s\n", BREAKWATER_VERSION);
            return SERVE_DONE;
        }
        if (opt == ':' || opt == '?') {
            serve_bad_option(opt, argv[optind > at ? optind - 1 : at], errp);
            return SERVE_WRONG;
        }
        if (!serve_take(opt, optarg, o, &ch, errp))
            return SERVE_WRONG;
        at = optind;
    }
    if (optind == argc)
        err_set(errp, EINVAL, "the image is missing");
    else if (optind + 1 < argc)
        err_set(errp, EINVAL, "one image at a time: '%s' is one too many", argv[optind + 1]);
    if (optind + 1 != argc)
        return SERVE_WRONG;
    o->image = argv[optind];
    return serve_settle(o, &ch, errp) ? SERVE_RUN : SERVE_WRONG;
}

void serve_opts_free(struct serve_opts *o)
{
    for (unsigned i = 0; i < o->n_bitmaps; i++)
        mem_free(o->bitmaps[i].name);
    mem_free(o->bitmaps);
    activation_free(&o->listen.activation);
    serve_tls_free(&o->tls);
    mem_free(o->fault);
    mem_free(o->snapshot_text);
    mem_free(o->image_text);
    mem_free(o->blkdebug_config);
    if (o->blkdebug)
        blkdebug_args_free(o->blkdebug);
    mem_free(o->blkdebug);
}
