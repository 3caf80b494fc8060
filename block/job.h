/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Jobs: work that goes on for a while and can be watched, paused and cancelled; QEMU's states.
 *
 *     created -> running <-> paused      a job that copies until it is told to stop:
 *                   |                    running -> ready <-> standby
 *                waiting -> pending -> concluded -> null
 *                   \-----> aborting ----/
 *
 * A job is one coroutine. What it does is in its ops; it calls job_pause_point often. Everything
 * here belongs to one reactor.
 */
#ifndef BLOCK_JOB_H
#define BLOCK_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/lock.h"

enum job_status {
    JOB_CREATED,
    JOB_RUNNING,
    JOB_PAUSED,
    JOB_READY,
    JOB_STANDBY,
    JOB_WAITING,
    JOB_PENDING,
    JOB_ABORTING,
    JOB_CONCLUDED,
    JOB_NULL,
    JOB_STATUS_COUNT
};

enum job_verb {
    JOB_VERB_CANCEL,
    JOB_VERB_PAUSE,
    JOB_VERB_RESUME,
    JOB_VERB_SET_SPEED,
    JOB_VERB_COMPLETE,
    JOB_VERB_FINALIZE,
    JOB_VERB_DISMISS,
    JOB_VERB_COUNT
};

struct job;

struct job_ops {
    const char *type; /* "create", "backup"... */
    bool is_block;    /* block-job-* commands know it, too */
    bool ends_softly; /* when it is ready, it can be cancelled in such a way that it succeeds */
    /* run: the work. False and *errp: failed. Yields. */
    bool (*run)(struct job *j, struct err **errp);
    /* Then, if all went well and nobody cancelled: prepare, the last that may fail, and commit;
     * else abort. Both may be NULL and may yield. */
    bool (*prepare)(struct job *j, struct err **errp);
    void (*commit)(struct job *j);
    void (*abort)(struct job *j);
    /* clean: frees what opaque holds; last, in any case. May yield. */
    void (*clean)(struct job *j);
    void (*set_speed)(struct job *j); /* speed has changed; NULL: it has none */
    void (*update)(struct job *j);    /* bring done up to date; NULL: it is */
};

/* Jobs that succeed or fail together: each waits for the others before it commits, and when one
 * fails or is cancelled, so are the rest. */
struct job_txn {
    bool held;                  /* by whoever made it */
    unsigned members;           /* jobs */
    unsigned arrived, prepared; /* how many have come so far */
    bool failed;                /* none may commit any more */
    bool decided;               /* all will commit */
    bool finalize_asked;
};

struct jobs {          /* zeroed is valid */
    struct job *first; /* newest first */
    struct co_queue changed;
    /* status: a job has entered a state; ended: before it concludes. NULL: nobody wants to know. */
    void (*status)(struct job *j, void *arg);
    void (*ended)(struct job *j, void *arg);
    void *arg;
};

struct job { /* read-only for others, but opaque and progress, which are of the job's own code */
    const struct job_ops *ops;
    struct jobs *jobs;
    struct job *next;
    char *id;
    void *opaque;
    enum job_status status;
    struct job_txn *txn; /* NULL: it is alone */
    bool auto_finalize, auto_dismiss;
    bool ready;          /* it has reached that state */
    bool succeeded;      /* committed; else it has an error, or was cancelled */
    bool soft_cancelled; /* asked to end, ready as it is; complete_asked is set too */
    bool cancelled, user_paused, complete_asked, finalize_asked, dismiss_asked;
    unsigned pause_count;
    uint64_t done, total; /* progress: current and of all, in any unit */
    uint64_t speed;       /* bytes a second; 0: no limit */
    struct err *error;    /* why it failed; NULL also if it was cancelled */
    struct co_queue wake; /* asked for something */
};

/* job_new: in state created. id: a node-like name that is free. ops and opaque are borrowed until
 * clean. Errors: EINVAL "Invalid job ID 'ID'", EEXIST "Job ID 'ID' already in use". */
struct job *job_new(struct jobs *jobs, const struct job_ops *ops, const char *id, void *opaque,
                    struct err **errp);
/* job_drop: forget a job that was not started; clean is not called. */
void job_drop(struct job *j);
/* job_txn_new: with no member; NULL: out of memory. job_txn_join: before any member starts.
 * job_txn_release: who made it needs it no more (NULL is allowed); it goes with its last member. */
struct job_txn *job_txn_new(void);
void job_txn_release(struct job_txn *t);
void job_txn_join(struct job *j, struct job_txn *t);
/* job_start: begin to run, in a coroutine of its own. False: out of memory; then it is gone,
 * after abort and clean. The job may be gone when this returns. */
bool job_start(struct job *j, struct err **errp);

struct job *job_find(const struct jobs *jobs, const char *id);
const char *job_status_name(enum job_status s);

/* What clients ask of a job. Each is refused (EBUSY) in states that cannot take it, with QEMU's
 * text. Nothing here yields; what is asked for happens later. */
bool job_cancel(struct job *j, struct err **errp);
/* job_cancel_softly: the same, but if it is ready and knows how, it ends with success. */
bool job_cancel_softly(struct job *j, struct err **errp);
bool job_pause(struct job *j, struct err **errp);
bool job_resume(struct job *j, struct err **errp);
bool job_complete(struct job *j, struct err **errp);
bool job_finalize(struct job *j, struct err **errp);
bool job_dismiss(struct job *j, struct err **errp);
bool job_set_speed(struct job *j, uint64_t bytes_s, struct err **errp);

/* For the job's own code, in any of its coroutines. job_pause_point: 0, or -ECANCELED; pauses here
 * if that was asked. Yields.
 * job_stop: pause until a client lets it go on, as after an error. Does not yield.
 * job_stay_ready: be ready until told to complete: 0, or -ECANCELED. Yields. */
int job_pause_point(struct job *j);
/* job_ready: it has reached that state, told once. Does not yield. */
void job_ready(struct job *j);
int job_stay_ready(struct job *j);
void job_stop(struct job *j);
/* job_sleep: until then, or until the job is asked for something. Yields. */
void job_sleep(struct job *j, int64_t until_ns);

/* jobs_stop: cancel all, dismiss what is concluded, and wait until all are gone. Yields. */
void jobs_stop(struct jobs *jobs);

#endif
