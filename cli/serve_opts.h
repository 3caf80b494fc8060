/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of `breakwater serve`, parsed and checked: those of the server, and for each image
 * those of the export that it becomes.
 */
#ifndef CLI_SERVE_OPTS_H
#define CLI_SERVE_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "block/node.h"
#include "cli/blkdebug.h"
#include "cli/format.h"
#include "cli/privileges.h"
#include "cli/serve_listen.h"
#include "cli/serve_said.h"
#include "cli/serve_tls.h"
#include "cli/snapshot_ref.h"
#include "server/server.h"

struct bitmap_arg {
    char *name;
    uint32_t granularity; /* 0: from the image's clusters */
};

enum cache_mode { CACHE_WRITEBACK, CACHE_NONE, CACHE_UNSAFE };

#define SERVE_EXPORTS_MAX 4096

struct serve_export { /* strings belong to what was said, except where they are owned */
    struct said said;
    char *id;    /* of the section of a file; NULL: it is of the command line; owned */
    char *where; /* for messages: where it begins; owned, NULL: nowhere else */

    const char *image;
    char *image_text; /* what the image's name may lie in; owned */
    bool temporary;   /* what is written is gone at the end */
    bool image_opts;  /* the image is named by options of QEMU's */
    enum image_format format;
    bool format_assumed; /* nobody said raw: refused for what looks like qcow2 */
    bool read_only, no_lock, ignore_discard, resizable, allocation_depth;
    enum cache_mode cache;
    enum detect_zeroes detect_zeroes;
    uint64_t offset; /* where the export begins in the disk, bytes */
    bool has_snapshot;
    struct qc_snapshot_ref snapshot; /* serve this one; read_only is set then */
    char *snapshot_text;             /* what its strings may lie in; owned */
    const char *backing_dir;
    uint64_t l2_cache_bytes; /* of each image of a chain; 0: from its size */

    const char *faults;
    char *blkdebug_config;          /* of an image named blkdebug:CONFIG:IMAGE; owned */
    struct blkdebug_args *blkdebug; /* --blkdebug; NULL: none; owned */
    const char **fault;             /* faults given one by one; the list is owned */
    unsigned n_fault;
    uint64_t fault_seed;
    const char *fault_trace; /* NULL: none */
    uint64_t fault_trace_size;
    const char *fault_replay; /* a trace that decides instead of rules; NULL: none */
    bool fault_seed_given;
    bool faults_may_come; /* clients of a control socket may add rules */

    const char *name, *description; /* name: NULL until settled, if none was given */
    struct bitmap_arg *bitmaps;     /* owned, and the names */
    unsigned n_bitmaps;
    bool bitmaps_stored;                        /* the image must store them already */
    bool with_checkpoints, without_checkpoints; /* as given */
    bool checkpoints;                           /* settled */
    unsigned max_connections;                   /* 0: no limit but the server's */
    bool tls_only;
    struct serve_authz authz;
};

enum serve_sandbox {
    SERVE_SANDBOX_AUTO, /* what the system has */
    SERVE_SANDBOX_ON,   /* all of it, or do not serve */
    SERVE_SANDBOX_OFF,
};
#define SERVE_ALLOW_PATHS_MAX 64

struct serve_opts { /* strings belong to what was said */
    struct said said;
    struct serve_export **exports; /* owned, and all that it points to */
    unsigned n_exports;
    const char *config; /* a file of more exports; NULL: none; belongs to argv */
    bool only_check;    /* the file is right: say so, and serve nothing */

    struct listen_opts listen;
    const char *control; /* path of a control socket; NULL: none */
    const char *pid_file;
    const char *run; /* a command that uses the server; NULL: none */
    bool exit_with_parent;
    const char *user, *group; /* as given; NULL: not */
    struct privileges privileges;
    enum serve_sandbox sandbox;
    const char *allow_paths[SERVE_ALLOW_PATHS_MAX];
    unsigned n_allow_paths;
    bool fork;
    unsigned verbose;
    bool log_level_given;
    enum log_level log_level;

    struct serve_tls tls;
    struct server_opts server; /* without tls and creds */
};

enum serve_parse { SERVE_RUN, SERVE_DONE, SERVE_WRONG };

/* serve_parse: SERVE_RUN: o is filled in; free with serve_opts_free. SERVE_DONE: --help or
 * --version was answered. SERVE_WRONG: *errp says what is wrong with the command line. Sets the log
 * level. */
enum serve_parse serve_parse(int argc, char **argv, struct serve_opts *o, struct err **errp);
/* serve_parse_again: the same command line when its --config FILE may have changed. Changes nothing
 * outside of o, which knows no inherited sockets. */
bool serve_parse_again(int argc, char **argv, struct serve_opts *o, struct err **errp);
/* qemu_nbd_parse: the same for a command line of qemu-nbd, argv[0] being the program. */
enum serve_parse qemu_nbd_parse(int argc, char **argv, struct serve_opts *o, struct err **errp);
/* serve_has_faults: shall there be a fault filter? */
bool serve_has_faults(const struct serve_export *x);
void serve_export_free(struct serve_export *x);
void serve_opts_free(struct serve_opts *o);

#endif
