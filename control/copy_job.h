/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What block jobs that copy have in common: a speed, what to do about errors, and who hears of
 * them.
 */
#ifndef CONTROL_COPY_JOB_H
#define CONTROL_COPY_JOB_H

#include "block/copy.h"
#include "control/control_priv.h"

enum on_error { ON_ERROR_REPORT, ON_ERROR_IGNORE, ON_ERROR_STOP, ON_ERROR_ENOSPC };

/* The first member of what the opaque pointer of every block job points to, and the arg of hooks.
 */
struct copy_job {
    struct control *ctl;
    struct job *job;
    enum on_error on_read, on_write;
    bool failed; /* an error was reported */
    int error;   /* which: errno */
    const char *io_status;
    int64_t next_ns; /* when the next data may be read, by the speed */
    unsigned speed_changes;
};

/* Hooks of the copy engine: wait while paused; wait as the speed says; decide about an error
 * (IGNORE tries again after a while, as STOP does when the job is told to go on). */
int copy_job_gate(void *arg);
int copy_job_pace(void *arg, uint64_t len);
enum copy_answer copy_job_failed(void *arg, bool reading, uint64_t off, uint64_t len, int error);
/* copy_job_report: an error that ends the job; told once. copy_job_end: the error of run() after
 * ret, which is negative. */
void copy_job_report(struct copy_job *c, bool reading, int error);
bool copy_job_end(const struct copy_job *c, int ret, struct err **errp);
/* copy_job_flush: until it succeeds, or its failure ends the job: 0 or -errno. Yields. */
int copy_job_flush(struct copy_job *c, struct node *n);
/* copy_job_set_speed: of struct job_ops. */
void copy_job_set_speed(struct job *j);
/* copy_job_io_status: "ok", "failed" or "nospace", for query-block-jobs. */
const char *copy_job_io_status(const struct job *j);

/* What arguments say. */
extern const struct qtype q_on_error;
enum on_error on_error_of(const json_t *args, const char *key);
/* speed_of: argument speed, 0 without. False: it is negative. */
bool speed_of(const json_t *args, uint64_t *speed, struct err **errp);

#endif
