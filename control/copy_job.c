/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Speed and errors of block jobs.
 */
#include "control/copy_job.h"

#include <errno.h>
#include <string.h>

#define RETRY_NS (100 * NS_PER_MS) /* on-error=ignore: before it tries again */

const struct qtype q_on_error = {.kind = Q_ENUM,
                                 .name = "BlockdevOnError",
                                 .values = Q_NAMES("report", "ignore", "enospc", "stop", "auto")};

enum on_error on_error_of(const json_t *args, const char *key)
{
    const char *name = arg_str(args, key);

    if (!name || strcmp(name, "report") == 0 || strcmp(name, "auto") == 0)
        return ON_ERROR_REPORT;
    if (strcmp(name, "ignore") == 0)
        return ON_ERROR_IGNORE;
    return strcmp(name, "stop") == 0 ? ON_ERROR_STOP : ON_ERROR_ENOSPC;
}

bool speed_of(const json_t *args, uint64_t *speed, struct err **errp)
{
    int64_t n = arg_int(args, "speed", 0);

    *speed = (uint64_t)n;
    return n >= 0 || err_set(errp, EINVAL, "Parameter 'speed' expects a non-negative value");
}

int copy_job_gate(void *arg)
{
    struct copy_job *c = arg;

    return job_pause_point(c->job);
}

int copy_job_pace(void *arg, uint64_t len)
{
    struct copy_job *c = arg;
    struct job *j = c->job;

    while (j->speed && !j->cancelled) {
        unsigned changes = c->speed_changes;
        int64_t at = clock_ns();

        if (c->next_ns > at)
            at = c->next_ns;
        c->next_ns = at + (int64_t)((double)len * NS_PER_S / (double)j->speed);
        while (clock_ns() < at && !j->cancelled && changes == c->speed_changes)
            job_sleep(j, at);
        if (changes == c->speed_changes)
            break;
    }
    return j->cancelled ? -ECANCELED : 0;
}

void copy_job_set_speed(struct job *j)
{
    struct copy_job *c = j->opaque;

    c->speed_changes++;
    c->next_ns = clock_ns();
    co_queue_wake_all(&j->wake);
}

static enum on_error action_for(const struct copy_job *c, bool reading, int error)
{
    enum on_error on = reading ? c->on_read : c->on_write;

    if (on == ON_ERROR_ENOSPC)
        on = error == ENOSPC ? ON_ERROR_STOP : ON_ERROR_REPORT;
    return on;
}

static void tell_error(struct copy_job *c, bool reading, enum on_error action)
{
    static const char *const names[] = {"report", "ignore", "stop"};

    event_emit(c->ctl, "BLOCK_JOB_ERROR",
               json_pack("{s:s,s:s,s:s}", "device", c->job->id, "operation",
                         reading ? "read" : "write", "action", names[action]));
}

void copy_job_report(struct copy_job *c, bool reading, int error)
{
    if (!c->failed)
        tell_error(c, reading, ON_ERROR_REPORT);
    c->failed = true;
    if (!c->error)
        c->error = error;
}

enum copy_answer copy_job_failed(void *arg, bool reading, uint64_t off, uint64_t len, int error)
{
    struct copy_job *c = arg;
    struct job *j = c->job;
    enum on_error action = action_for(c, reading, error);

    if (j->cancelled)
        return COPY_FAIL;
    if (c->failed || action == ON_ERROR_REPORT) {
        copy_job_report(c, reading, error);
        return COPY_FAIL;
    }
    if (action == ON_ERROR_IGNORE) { /* as in QEMU: try again later */
        int64_t until = clock_ns() + RETRY_NS;

        tell_error(c, reading, action);
        while (clock_ns() < until && !j->cancelled)
            job_sleep(j, until);
    } else if (!j->user_paused) { /* others may have failed and stopped it at the same time */
        c->io_status = error == ENOSPC ? "nospace" : "failed";
        tell_error(c, reading, action);
        job_stop(j);
    }
    return job_pause_point(j) == 0 ? COPY_RETRY : COPY_FAIL;
}

bool copy_job_end(const struct copy_job *c, int ret, struct err **errp)
{
    int error = c->error ? c->error : -ret;

    return err_set(errp, error, "%s", strerror(error));
}

int copy_job_flush(struct copy_job *c, struct node *n)
{
    int ret;

    while ((ret = node_flush(n)) < 0) {
        if (copy_job_failed(c, false, 0, 0, -ret) == COPY_FAIL)
            return ret;
    }
    return 0;
}

const char *copy_job_io_status(const struct job *j)
{
    const struct copy_job *c = j->opaque;

    return c && j->user_paused && c->io_status ? c->io_status : "ok";
}
