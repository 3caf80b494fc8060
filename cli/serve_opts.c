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
#include "cli/args.h"
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

static bool take_sandbox(const char *arg, struct serve_opts *o, struct err **errp)
{
    static const char *const names[] = {"auto", "on", "off"}; /* enum serve_sandbox */

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(arg, names[i]) == 0) {
            o->sandbox = (enum serve_sandbox)i;
            return true;
        }
    }
    return err_set(errp, EINVAL, "--sandbox: '%s' is not known; it is on, off or auto", arg);
}

static bool take_allow_path(const char *arg, struct serve_opts *o, struct err **errp)
{
    if (o->n_allow_paths == SERVE_ALLOW_PATHS_MAX)
        return err_set(errp, E2BIG, "--allow-path: at most %d are possible", SERVE_ALLOW_PATHS_MAX);
    o->allow_paths[o->n_allow_paths++] = arg;
    return true;
}

/* How the program runs. */
enum take serve_take_running(int opt, const char *arg, struct serve_opts *o, struct err **errp)
{
    switch (opt) {
    case 't':
    case OPT_PRINT_URI:
        return TAKE_OK; /* what is done anyway */
    case 'T':
        return TAKE_OK; /* what QEMU would trace, there is not here */
    case OPT_FOREGROUND:
        o->fork = false;
        return TAKE_OK;
    case OPT_CONTROL:
        o->control = arg;
        return TAKE_OK;
    case OPT_PID_FILE:
        o->pid_file = arg;
        return TAKE_OK;
    case OPT_USER:
        o->user = arg;
        return TAKE_OK;
    case OPT_SANDBOX:
        return take_if(take_sandbox(arg, o, errp));
    case OPT_ALLOW_PATH:
        return take_if(take_allow_path(arg, o, errp));
    case OPT_GROUP:
        o->group = arg;
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

bool serve_take_for_server(int opt, const char *arg, struct serve_opts *o, struct err **errp)
{
    static enum take (*const groups[])(int, const char *, struct serve_opts *, struct err **) = {
        serve_take_running, serve_take_listen, serve_take_limits, serve_take_views, serve_take_tls,
    };
    const char *copy;
    enum take t = TAKE_OTHER;

    if (!said_add(&o->said, opt, arg, &copy, errp))
        return false;
    for (size_t i = 0; t == TAKE_OTHER && i < ARRAY_LEN(groups); i++)
        t = groups[i](opt, copy, o, errp);
    if (t == TAKE_OTHER) /* a fault in the table */
        return err_set(errp, EINVAL, "option %d has no meaning", opt);
    return t == TAKE_OK;
}

static void set_log_level(const struct serve_opts *o)
{
    bool faults = false;

    for (unsigned i = 0; i < o->n_exports; i++)
        faults |= serve_has_faults(o->exports[i]);
    /* Who injects faults wants to see the rules' counters at the end. */
    if (o->verbose || faults)
        log_set_level(o->verbose > 1 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    if (o->log_level_given)
        log_set_level(o->log_level);
}

/* Clients that only look (nbdinfo --list) need room beside those that are served. */
static void settle_max_clients(struct serve_opts *o)
{
    uint64_t served = 0;

    for (unsigned i = 0; i < o->n_exports; i++)
        served += o->exports[i]->max_connections;
    if (!o->server.max_connections && served > 90)
        o->server.max_connections = (unsigned)min_u64(served + 10, 200000);
}

/* A command needs a server that it finds, and whose output is not mixed with its own. */
static bool settle_run(struct serve_opts *o, struct err **errp)
{
    struct listen_opts *l = &o->listen;

    if (o->fork && (o->run || o->exit_with_parent))
        return err_set(errp, EINVAL, "%s and --fork exclude each other",
                       o->run ? "--run" : "--exit-with-parent");
    if (!o->run)
        return true;
    if (l->use_stdin)
        return err_set(errp, EINVAL, "--run and --stdin exclude each other");
    l->quiet = true;
    if (l->n_sockets + l->n_hosts + l->n_ports + l->n_vsock + l->n_fds == 0)
        l->private_socket = true;
    return true;
}

bool serve_settle(struct serve_opts *o, struct err **errp)
{
    if (!settle_run(o, errp))
        return false;
    if (!activation_read(&o->listen.activation, errp) || !listen_check(&o->listen, errp))
        return false;
    if (o->listen.use_stdin && o->fork)
        return err_set(errp, EINVAL, "--stdin and --fork exclude each other");
    if (!serve_tls_settle(&o->tls, errp) || !serve_settle_exports(o, errp))
        return false;
    if (!privileges_find(o->user, o->group, &o->privileges, errp))
        return false;
    settle_max_clients(o);
    set_log_level(o);
    return true;
}

/* --- The command line --- */

/* What was said on the command line, sorted by whom it is about. Options before the first image are
 * about every image, those behind an image about that one. */
struct words {
    struct said server, common;
    struct word_image {
        const char *path;
        struct said own;
    } * images;
    unsigned n_images;
    const char *config;
    const char *run;
    bool check, exit_with_parent;
};

static void words_free(struct words *w)
{
    for (unsigned i = 0; i < w->n_images; i++)
        said_free(&w->images[i].own);
    mem_free(w->images);
    said_free(&w->server);
    said_free(&w->common);
}

static bool add_image(struct words *w, const char *path, struct err **errp)
{
    struct word_image *list;

    if (w->n_images == SERVE_EXPORTS_MAX)
        return err_set(errp, E2BIG, "at most %d images are possible", SERVE_EXPORTS_MAX);
    list = mem_realloc(w->images, (w->n_images + 1) * sizeof(*list));
    if (!list)
        return err_set(errp, ENOMEM, "out of memory for options");
    w->images = list;
    list[w->n_images++] = (struct word_image){.path = path};
    return true;
}

/* "--help TOPIC" as well as "--help=TOPIC". */
static enum serve_parse answer_help(int argc, char **argv, struct err **errp)
{
    const char *topic = optarg;

    if (!topic && optind < argc && argv[optind][0] != '-')
        topic = argv[optind];
    return serve_help(topic, errp) ? SERVE_DONE : SERVE_WRONG;
}

static bool sort_option(struct words *w, int opt, struct err **errp)
{
    const struct serve_option *row = serve_option_coded(opt);
    struct said *to = w->n_images > 0 ? &w->images[w->n_images - 1].own : &w->common;

    switch (opt) {
    case 1: /* getopt's '-': no option */
        return add_image(w, optarg, errp);
    case OPT_CONFIG:
        if (w->config)
            return err_set(errp, EINVAL, "--config is given twice");
        w->config = optarg;
        return true;
    case OPT_CHECK:
        w->check = true;
        return true;
    case OPT_RUN:
        w->run = optarg;
        return true;
    case OPT_EXIT_WITH_PARENT:
        w->exit_with_parent = true;
        return true;
    }
    return said_add(row->scope == SCOPE_SERVER ? &w->server : to, opt, optarg, NULL, errp);
}

static enum serve_parse sort_words(int argc, char **argv, struct words *w, struct err **errp)
{
    struct args a = args_begin(argc, argv, serve_short_options, serve_long_options());
    int opt;

    while ((opt = args_next(&a, errp)) != ARGS_END) {
        if (opt == 'h')
            return answer_help(argc, argv, errp);
        if (opt == 'V') {
            printf("breakwater %s\n", BREAKWATER_VERSION);
            return SERVE_DONE;
        }
        if (opt == ARGS_WRONG || !sort_option(w, opt, errp))
            return SERVE_WRONG;
    }
    for (; optind < argc; optind++) {
        if (!add_image(w, argv[optind], errp))
            return SERVE_WRONG;
    }
    return SERVE_RUN;
}

static bool take_image_words(struct serve_opts *o, const struct words *w, unsigned i,
                             struct err **errp)
{
    const struct said *own = &w->images[i].own;
    struct serve_export *x = serve_export_add(o, &w->common, errp);

    if (!x || !serve_take_for_export(OPT_FILE, w->images[i].path, x, errp))
        return false;
    for (unsigned k = 0; k < own->n; k++) {
        if (!serve_take_for_export(own->v[k].code, own->v[k].arg, x, errp))
            return false;
    }
    return true;
}

/* The file first: what the command line says of the server comes later, and counts. */
static bool take_words(struct serve_opts *o, const struct words *w, struct err **errp)
{
    o->config = w->config;
    o->only_check = w->check;
    o->run = w->run;
    o->exit_with_parent = w->exit_with_parent;
    if (w->config && !serve_config_load(o, &w->common, errp))
        return false;
    for (unsigned i = 0; i < w->server.n; i++) {
        if (!serve_take_for_server(w->server.v[i].code, w->server.v[i].arg, o, errp))
            return false;
    }
    for (unsigned i = 0; i < w->n_images; i++) {
        if (!take_image_words(o, w, i, errp))
            return false;
    }
    if (o->n_exports > 0)
        return o->n_exports == 1 || !said_has(&w->common, 'x') ||
               err_set(errp, EINVAL,
                       "--export-name before the first image is the name of all %u exports; give "
                       "it behind the image that it is for",
                       o->n_exports);
    if (w->config)
        return err_set(errp, EINVAL, "%s: there is no export in it: no section [export NAME]",
                       w->config);
    return err_set(errp, EINVAL, "the image is missing");
}

enum serve_parse serve_parse(int argc, char **argv, struct serve_opts *o, struct err **errp)
{
    struct words w = {0};
    enum serve_parse result;

    *o = (struct serve_opts){0};
    result = sort_words(argc, argv, &w, errp);
    if (result == SERVE_RUN && (!take_words(o, &w, errp) || !serve_settle(o, errp)))
        result = SERVE_WRONG;
    words_free(&w);
    return result;
}

bool serve_parse_again(int argc, char **argv, struct serve_opts *o, struct err **errp)
{
    struct words w = {0};

    *o = (struct serve_opts){0};
    bool ok = sort_words(argc, argv, &w, errp) == SERVE_RUN && take_words(o, &w, errp) &&
              serve_tls_settle(&o->tls, errp) && serve_settle_exports(o, errp);
    words_free(&w);
    return ok;
}
