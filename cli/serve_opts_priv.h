/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files that parse serve's command line share. Each group of options is one file with one
 * function that takes its own and passes over the others; serve_opts_table.c names them all.
 */
#ifndef CLI_SERVE_OPTS_PRIV_H
#define CLI_SERVE_OPTS_PRIV_H

#include <getopt.h>

#include "cli/serve_opts.h"

/* Options without a letter. */
enum {
    OPT_FILE = 256, /* the image itself */
    OPT_CONFIG,
    OPT_AIO,
    OPT_RUN,
    OPT_EXIT_WITH_PARENT,
    OPT_FOREGROUND,
    OPT_IMAGE_OPTS,
    OPT_CHECK,
    OPT_TLS_ONLY,
    OPT_MAX_CLIENTS,
    OPT_MAX_TOTAL_REQUESTS,
    OPT_MAX_CONNECTION_BYTES,
    OPT_MAX_OPTIONS,
    OPT_IDLE_TIMEOUT,
    OPT_STALL_TIMEOUT,
    OPT_FAULTS,
    OPT_FAULT,
    OPT_FAULT_SEED,
    OPT_FAULT_TRACE,
    OPT_FAULT_TRACE_SIZE,
    OPT_FAULT_REPLAY,
    OPT_BLKDEBUG,
    OPT_CHECKPOINTS,
    OPT_NO_CHECKPOINTS,
    OPT_SCRATCH_DIR,
    OPT_SCRATCH_LIMIT,
    OPT_CACHE,
    OPT_DISCARD,
    OPT_DETECT_ZEROES,
    OPT_ALLOW_RESIZE,
    OPT_HANDSHAKE_LIMIT,
    OPT_MAX_REQUESTS,
    OPT_MAX_BYTES,
    OPT_MAX_CHECKPOINTS,
    OPT_VIEW_GRACE,
    OPT_BACKING_DIR,
    OPT_L2_CACHE_SIZE,
    OPT_PID_FILE,
    OPT_USER,
    OPT_SANDBOX,
    OPT_ALLOW_PATH,
    OPT_GROUP,
    OPT_CONTROL,
    OPT_FORK,
    OPT_LOG_LEVEL,
    OPT_PRINT_URI,
    OPT_NO_LOCK,
    OPT_VSOCK,
    OPT_SOCKET_FD,
    OPT_STDIN,
    OPT_TLS,
    OPT_TLS_CERTIFICATES,
    OPT_TLS_PSK,
    OPT_TLS_VERIFY_PEER,
    OPT_TLS_ALLOW,
    OPT_OBJECT,
    OPT_TLS_CREDS,
    OPT_TLS_AUTHZ,
    OPT_TLS_HOSTNAME,
};

/* Whom an option is about. */
enum serve_scope {
    SCOPE_COMMAND, /* this one run of the program */
    SCOPE_SERVER,
    SCOPE_EXPORT,
};
enum {
    SERVE_PATH = 1, /* its value names a file or folder */
    SERVE_MANY = 2, /* may be given several times */
    SERVE_KEY = 4,  /* in a configuration file only */
};
struct serve_option {
    const char *name; /* of the long option, and of the key in a configuration file */
    int has_arg;      /* as getopt_long has it */
    int code;         /* the letter, or OPT_... */
    enum serve_scope scope;
    unsigned flags;
};
extern const struct serve_option serve_options[]; /* ends with a NULL name */
extern const char serve_short_options[];
/* serve_option_named: by its name among those of a scope; serve_option_coded: any of that code.
 * NULL: there is none. */
const struct serve_option *serve_option_named(const char *name, enum serve_scope scope);
const struct serve_option *serve_option_coded(int code);
/* serve_long_options: for getopt_long. serve_long_options_of: only those of these names, n of them,
 * and n_more others; to out, which has room for all and an end. */
const struct option *serve_long_options(void);
void serve_long_options_of(const char *const *names, size_t n, const struct option *more,
                           size_t n_more, struct option *out);

enum take {
    TAKE_OTHER, /* not one of this group */
    TAKE_OK,
    TAKE_WRONG, /* *errp says why */
};
/* Of the server. */
enum take serve_take_listen(int opt, const char *arg, struct serve_opts *o, struct err **errp);
enum take serve_take_limits(int opt, const char *arg, struct serve_opts *o, struct err **errp);
enum take serve_take_views(int opt, const char *arg, struct serve_opts *o, struct err **errp);
enum take serve_take_tls(int opt, const char *arg, struct serve_opts *o, struct err **errp);
enum take serve_take_running(int opt, const char *arg, struct serve_opts *o, struct err **errp);
/* Of an export. */
enum take serve_take_export(int opt, const char *arg, struct serve_export *x, struct err **errp);
enum take serve_take_image(int opt, const char *arg, struct serve_export *x, struct err **errp);
enum take serve_take_faults(int opt, const char *arg, struct serve_export *x, struct err **errp);
enum take serve_take_changes(int opt, const char *arg, struct serve_export *x, struct err **errp);

/* serve_take_for_server, serve_take_for_export: one option of that scope; arg is copied. */
bool serve_take_for_server(int opt, const char *arg, struct serve_opts *o, struct err **errp);
bool serve_take_for_export(int opt, const char *arg, struct serve_export *x, struct err **errp);
/* serve_config_load: server-wide options and exports of o->config; defaults go to every export
 * first. */
bool serve_config_load(struct serve_opts *o, const struct said *defaults, struct err **errp);
/* serve_help: print the help about a topic, NULL standing for the summary. */
bool serve_help(const char *topic, struct err **errp);
/* serve_settle: after all options and the image: do they fit together? */
bool serve_settle(struct serve_opts *o, struct err **errp);
bool serve_settle_exports(struct serve_opts *o, struct err **errp);

/* serve_export_add: one more, of which nothing is said but `said` (NULL: nothing). NULL on an
 * error; belongs to o. */
struct serve_export *serve_export_add(struct serve_opts *o, const struct said *said,
                                      struct err **errp);
/* serve_add_bitmap: the name is copied. */
bool serve_add_bitmap(struct serve_export *x, const char *name, uint32_t granularity,
                      struct err **errp);
/* serve_settle_image_opts: with image_opts, the options that the image is named by. */
bool serve_settle_image_opts(struct serve_export *x, struct err **errp);
/* serve_settle_image: the image's name may hold a rule file: blkdebug:CONFIG:IMAGE. */
bool serve_settle_image(struct serve_export *x, struct err **errp);
/* serve_check_faults: are the faults given one by one well-formed? */
bool serve_check_faults(const struct serve_export *x, struct err **errp);

/* take_if: the end of an option that was parsed well or not. */
static inline enum take take_if(bool ok)
{
    return ok ? TAKE_OK : TAKE_WRONG;
}
/* serve_parse_uint: min..max, for the option `what`. */
bool serve_parse_uint(const char *text, const char *what, uint64_t min, uint64_t max, unsigned *out,
                      struct err **errp);

#endif
