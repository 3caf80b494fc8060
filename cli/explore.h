/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater explore`: what its files share.
 */
#ifndef CLI_EXPLORE_H
#define CLI_EXPLORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "block/node.h"
#include "cli/format.h"
#include "cli/run_command.h"
#include "faults/recording.h"
#include "io/lock.h"
#include "server/server.h"

#define EXPLORE_JOBS_MAX 64
#define EXPLORE_MARK_MAX 255 /* bytes of a mark's name */

struct explore_opts { /* strings belong to argv */
    const char *disk; /* NULL: an empty one of `size` bytes */
    const char *workload, *check;
    const char *record, *replay, *keep, *backing_dir;
    const char *since; /* cut only when this mark was set; NULL: at any time */
    enum image_format format;
    uint64_t size, limit, seed, check_timeout_ms, workload_timeout_ms;
    uint64_t state; /* only this one; UINT64_MAX: all */
    unsigned states, jobs;
    uint32_t atomic;
    bool host, stop_at_first, json, quiet;
};

struct explore_failure {
    uint64_t state;
    char *mark, *what, *result, *output, *kept; /* what: the cut, in words; kept: a file or NULL */
};

struct explore {
    const struct explore_opts *o;
    struct node *base; /* never written to */
    struct recording recording;
    struct server *server;
    struct commands commands;
    char *dir, *socket, *mark_socket; /* a folder of our own and what lies in it */
    int mark_fd;                      /* listening, or -1 */
    struct co_group marks;            /* those who listen to marks */

    uint64_t moments, tested, failing; /* counts of the exploration */
    bool interrupted;                  /* it was ended by the user, before its end */
    int64_t begun_ns, ended_ns;
    int64_t shown_ns;             /* when progress was shown last */
    struct explore_failure first; /* of the lowest number, if failing > 0 */
};

/* explore_parse: 1: run it; 0: --help was answered; -1: *errp. */
int explore_parse(int argc, char **argv, struct explore_opts *o, struct err **errp);
/* explore_mark: `breakwater explore mark NAME`. Returns the exit code. */
int explore_mark(int argc, char **argv);

/* --- In coroutines --- */

/* explore_listen: a server without exports, and the socket for marks, in a new folder. */
bool explore_listen(struct explore *x, struct err **errp);
void explore_unlisten(struct explore *x);
/* explore_record: run the workload against a private view of the disk. */
bool explore_record(struct explore *x, struct err **errp);
/* explore_states: tell states apart and run the check for each. True with x->failing > 0, too. */
bool explore_states(struct explore *x, struct err **errp);

/* One crash state, while it is judged. */
struct explore_state {
    uint64_t number;
    const char *mark;
    struct node *node; /* one reference */
};
/* explore_check: judge s->node. *ok: is it good? If not, *result says why, and *output what the
 * check said; both new. False: it could not be judged. */
bool explore_check(struct explore *x, const struct explore_state *s, bool *ok, char **result,
                   char **output, struct err **errp);
/* explore_keep: a sparse copy of n's bytes as a new file. */
bool explore_keep(struct node *n, const char *path, struct err **errp);

/* explore_uri: of an export; new. explore_environment: NULL-terminated, for a command; free with
 * explore_environment_free. mark NULL: for the workload. */
char *explore_uri(const struct explore *x, const char *export_name);
/* explore_fill_in: text with the URI in the place of each {uri}; new. It has nothing that a shell
 * reads otherwise, whatever quotes it stands in. */
char *explore_fill_in(const struct explore *x, const char *text, const char *export_name);
char **explore_environment(const struct explore *x, const char *export_name, const char *mark);
void explore_environment_free(char **env);

/* explore_now: the time, for measuring: the reactor's clock may stand while nothing waits. */
int64_t explore_now(void);
void explore_failure_free(struct explore_failure *f);
/* explore_progress: now and then a line on a terminal. explore_report: the sum. */
void explore_progress(struct explore *x);
bool explore_report(const struct explore *x);

#endif
