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
enum take serve_take_running(int opt, const char *arg, struct serve_opts *o, struct err **errp)
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
        o->verbose++;
        return TAKE_OK;
    case OPT_LOG_LEVEL:
        o->log_level_given = true;
        return take_if(parse_level(arg, &o->log_level, errp));
    }
    return TAKE_OTHER;
}

bool serve_take(int opt, const char *arg, struct serve_opts *o, struct serve_export *x,
                struct err **errp)
{
    static enum take (*const of_server[])(int, const char *, struct serve_opts *, struct err **) = {
        serve_take_running, serve_take_listen, serve_take_limits, serve_take_views, serve_take_tls,
    };
    static enum take (*const of_export[])(int, const char *, struct serve_export *,
                                          struct err **) = {
        serve_take_export,
        serve_take_image,
        serve_take_faults,
        serve_take_changes,
    };
    enum take t = TAKE_OTHER;

    for (size_t i = 0; t == TAKE_OTHER && i < ARRAY_LEN(of_server); i++)
        t = of_server[i](opt, arg, o, errp);
    for (size_t i = 0; t == TAKE_OTHER && i < ARRAY_LEN(of_export); i++)
        t = of_export[i](opt, arg, x, errp);
    if (t == TAKE_OTHER) /* a fault in the table */
        return err_set(errp, EINVAL, "option %d has no meaning", opt);
    return t == TAKE_OK;
}

static void set_log_level(const struct serve_opts *o)
{
    /* Who injects faults wants to see the rules' counters at the end. */
    if (o->verbose || serve_has_faults(o->export))
        log_set_level(o->verbose > 1 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    if (o->log_level_given)
        log_set_level(o->log_level);
}

bool serve_settle(struct serve_opts *o, struct err **errp)
{
    if (!activation_read(&o->listen.activation, errp) || !listen_check(&o->listen, errp))
        return false;
    if (o->listen.use_stdin && o->fork)
        return err_set(errp, EINVAL, "--stdin and --fork exclude each other");
    if (!serve_tls_settle(&o->tls, errp) || !serve_settle_export(o->export, o, errp))
        return false;
    /* Clients that only look (nbdinfo --list) need room beside those that are served. */
    if (o->export->max_connections > 90)
        o->server.max_connections = o->export->max_connections + 10;
    set_log_level(o);
    return true;
}

bool serve_bad_option(int opt, const char *word, struct err **errp)
{
    if (opt == ':')
        return err_set(errp, EINVAL, "option '%s' needs a value", word);
    return err_set(errp, EINVAL, "option '%s' is not known", word);
}

/* "--help TOPIC" as well as "--help=TOPIC". */
static enum serve_parse answer_help(int argc, char **argv, struct err **errp)
{
    const char *topic = optarg;

    if (!topic && optind < argc && argv[optind][0] != '-')
        topic = argv[optind];
    return serve_help(topic, errp) ? SERVE_DONE : SERVE_WRONG;
}

enum serve_parse serve_parse(int argc, char **argv, struct serve_opts *o, struct err **errp)
{
    int opt, at = 1;

    *o = (struct serve_opts){.export = serve_export_new(errp)};
    if (!o->export)
        return SERVE_WRONG;
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, serve_short_options, serve_long_options, NULL)) != -1) {
        if (opt == 'h')
            return answer_help(argc, argv, errp);
        if (opt == 'V') {
            printf("breakwater %s\n", BREAKWATER_VERSION);
            return SERVE_DONE;
        }
        if (opt == ':' || opt == '?') {
            serve_bad_option(opt, argv[optind > at ? optind - 1 : at], errp);
            return SERVE_WRONG;
        }
        if (!serve_take(opt, optarg, o, o->export, errp))
            return SERVE_WRONG;
        at = optind;
    }
    if (optind == argc)
        err_set(errp, EINVAL, "the image is missing");
    else if (optind + 1 < argc)
        err_set(errp, EINVAL, "one image at a time: '%s' is one too many", argv[optind + 1]);
    if (optind + 1 != argc)
        return SERVE_WRONG;
    o->export->image = argv[optind];
    return serve_settle(o, errp) ? SERVE_RUN : SERVE_WRONG;
}

void serve_opts_free(struct serve_opts *o)
{
    serve_export_free(o->export);
    activation_free(&o->listen.activation);
    serve_tls_free(&o->tls);
}
