/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The life of a job. Requests of clients only set flags and wake the coroutine, which alone changes
 * the state: so a state is never left while code of the job is in the middle of something.
 */
#include "block/job.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "block/graph.h"
#include "block/job_priv.h"
#include "io/co.h"
#include "io/reactor.h"

static const char *const status_names[JOB_STATUS_COUNT] = {
    "created", "running", "paused",   "ready",     "standby",
    "waiting", "pending", "aborting", "concluded", "null",
};

static const char *const verb_names[JOB_VERB_COUNT] = {
    "cancel", "pause", "resume", "set-speed", "complete", "finalize", "dismiss",
};

/* Which states take a verb. */
static const unsigned accepts[JOB_VERB_COUNT] = {
    [JOB_VERB_CANCEL] = 1 << JOB_CREATED | 1 << JOB_RUNNING | 1 << JOB_PAUSED | 1 << JOB_READY |
                        1 << JOB_STANDBY | 1 << JOB_WAITING | 1 << JOB_PENDING,
    [JOB_VERB_PAUSE] =
        1 << JOB_CREATED | 1 << JOB_RUNNING | 1 << JOB_PAUSED | 1 << JOB_READY | 1 << JOB_STANDBY,
    [JOB_VERB_RESUME] =
        1 << JOB_CREATED | 1 << JOB_RUNNING | 1 << JOB_PAUSED | 1 << JOB_READY | 1 << JOB_STANDBY,
    [JOB_VERB_SET_SPEED] =
        1 << JOB_CREATED | 1 << JOB_RUNNING | 1 << JOB_PAUSED | 1 << JOB_READY | 1 << JOB_STANDBY,
    [JOB_VERB_COMPLETE] = 1 << JOB_READY,
    [JOB_VERB_FINALIZE] = 1 << JOB_PENDING,
    [JOB_VERB_DISMISS] = 1 << JOB_CONCLUDED,
};

const char *job_status_name(enum job_status s)
{
    return (unsigned)s < JOB_STATUS_COUNT ? status_names[s] : "?";
}

struct job *job_find(const struct jobs *jobs, const char *id)
{
    for (struct job *j = jobs->first; j; j = j->next) {
        if (strcmp(j->id, id) == 0)
            return j;
    }
    return NULL;
}

static void enter(struct job *j, enum job_status s)
{
    if (j->status == s)
        return;
    j->status = s;
    if (j->jobs->status)
        j->jobs->status(j, j->jobs->arg);
}

struct job *job_new(struct jobs *jobs, const struct job_ops *ops, const char *id, void *opaque,
                    struct err **errp)
{
    struct job *j;

    if (!graph_name_ok(id)) {
        err_set(errp, EINVAL, "Invalid job ID '%s'", id);
        return NULL;
    }
    if (job_find(jobs, id)) {
        err_set(errp, EEXIST, "Job ID '%s' already in use", id);
        return NULL;
    }
    j = mem_new(struct job);
    if (j)
        j->id = mem_strdup(id);
    if (!j || !j->id) {
        mem_free(j);
        err_set(errp, ENOMEM, "out of memory for a job");
        return NULL;
    }
    j->ops = ops;
    j->jobs = jobs;
    j->opaque = opaque;
    j->auto_finalize = j->auto_dismiss = true;
    j->status = JOB_NULL;
    j->next = jobs->first;
    jobs->first = j;
    enter(j, JOB_CREATED);
    return j;
}

static void job_free(struct job *j)
{
    struct job **at = &j->jobs->first;

    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    co_queue_wake_all(&j->jobs->changed);
    err_free(j->error);
    mem_free(j->id);
    mem_free(j);
}

static bool needs_finalize(const struct job *j)
{
    return !j->auto_finalize && !j->finalize_asked && !(j->txn && j->txn->finalize_asked);
}

static bool get_ready(struct job *j, struct err **errp)
{
    enter(j, JOB_WAITING);
    if (!txn_arrive(j))
        return false;
    enter(j, JOB_PENDING);
    while (needs_finalize(j) && !j->cancelled)
        co_queue_wait(&j->wake);
    if (j->cancelled || (j->ops->prepare && !j->ops->prepare(j, errp)))
        return false;
    return txn_decide(j);
}

static void settle(struct job *j, bool ok, struct err *e)
{
    j->succeeded = ok && !j->cancelled && get_ready(j, &e);
    if (j->succeeded) {
        if (j->ops->commit)
            j->ops->commit(j);
    } else {
        txn_fail(j);
        enter(j, JOB_ABORTING);
        if (j->ops->abort)
            j->ops->abort(j);
    }
    if (j->cancelled || j->succeeded) { /* then why it ended is known */
        err_free(e);
        e = NULL;
    }
    j->error = e;
    if (j->ops->clean)
        j->ops->clean(j);
    if (j->jobs->ended)
        j->jobs->ended(j, j->jobs->arg);
    enter(j, JOB_CONCLUDED);
    txn_leave(j);
}

static void job_body(void *arg)
{
    struct job *j = arg;
    struct err *e = NULL;
    bool ok = false;

    if (job_pause_point(j) == 0) {
        enter(j, JOB_RUNNING);
        ok = j->ops->run(j, &e);
    }
    settle(j, ok, e);
    while (!j->auto_dismiss && !j->dismiss_asked)
        co_queue_wait(&j->wake);
    enter(j, JOB_NULL);
    job_free(j);
}

void job_drop(struct job *j)
{
    enter(j, JOB_NULL);
    txn_leave(j);
    job_free(j);
}

bool job_start(struct job *j, struct err **errp)
{
    if (co_start(job_body, j))
        return true;
    if (j->ops->abort)
        j->ops->abort(j);
    if (j->ops->clean)
        j->ops->clean(j);
    txn_fail(j);
    job_drop(j);
    return err_set(errp, ENOMEM, "out of memory for a job");
}

int job_pause_point(struct job *j)
{
    while (j->pause_count > 0 && !j->cancelled) {
        enter(j, j->ready ? JOB_STANDBY : JOB_PAUSED);
        co_queue_wait(&j->wake);
    }
    if (j->cancelled)
        return -ECANCELED;
    if (j->status == JOB_PAUSED || j->status == JOB_STANDBY)
        enter(j, j->ready ? JOB_READY : JOB_RUNNING);
    return 0;
}

static void wake(void *arg)
{
    struct job *j = arg;

    co_queue_wake_all(&j->wake);
}

void job_sleep(struct job *j, int64_t until_ns)
{
    struct timer t = {0};

    if (!timer_set(&t, until_ns, wake, j)) {
        co_sleep_until(until_ns);
        return;
    }
    co_queue_wait(&j->wake);
    timer_cancel(&t);
}

void job_stop(struct job *j)
{
    if (j->user_paused)
        return;
    j->user_paused = true;
    j->pause_count++;
}

void job_ready(struct job *j)
{
    enter(j, JOB_READY);
    j->ready = true;
}

int job_stay_ready(struct job *j)
{
    job_ready(j);
    while (!j->complete_asked) {
        if (job_pause_point(j) < 0)
            return -ECANCELED;
        if (!j->complete_asked)
            co_queue_wait(&j->wake);
    }
    return j->cancelled ? -ECANCELED : 0;
}

static bool check(const struct job *j, enum job_verb verb, struct err **errp)
{
    if (accepts[verb] & (1u << j->status))
        return true;
    return err_set(errp, EBUSY, "Job '%s' in state '%s' cannot accept command verb '%s'", j->id,
                   status_names[j->status], verb_names[verb]);
}

static bool ask(struct job *j, enum job_verb verb, bool *flag, struct err **errp)
{
    if (!check(j, verb, errp))
        return false;
    *flag = true;
    co_queue_wake_all(&j->wake);
    return true;
}

bool job_cancel(struct job *j, struct err **errp)
{
    return ask(j, JOB_VERB_CANCEL, &j->cancelled, errp);
}

bool job_cancel_softly(struct job *j, struct err **errp)
{
    if (!j->ready || !j->ops->ends_softly)
        return job_cancel(j, errp);
    if (!check(j, JOB_VERB_CANCEL, errp))
        return false;
    j->soft_cancelled = j->complete_asked = true;
    co_queue_wake_all(&j->wake);
    return true;
}

bool job_complete(struct job *j, struct err **errp)
{
    return ask(j, JOB_VERB_COMPLETE, &j->complete_asked, errp);
}

bool job_finalize(struct job *j, struct err **errp)
{
    if (!ask(j, JOB_VERB_FINALIZE, &j->finalize_asked, errp))
        return false;
    txn_finalize(j);
    return true;
}

bool job_dismiss(struct job *j, struct err **errp)
{
    return ask(j, JOB_VERB_DISMISS, &j->dismiss_asked, errp);
}

bool job_pause(struct job *j, struct err **errp)
{
    if (!check(j, JOB_VERB_PAUSE, errp))
        return false;
    if (j->user_paused)
        return err_set(errp, EBUSY, "Job is already paused");
    j->user_paused = true;
    j->pause_count++;
    co_queue_wake_all(&j->wake);
    return true;
}

bool job_resume(struct job *j, struct err **errp)
{
    if (!check(j, JOB_VERB_RESUME, errp))
        return false;
    if (!j->user_paused)
        return err_set(errp, EINVAL, "Can't resume a job that was not paused");
    j->user_paused = false;
    j->pause_count--;
    co_queue_wake_all(&j->wake);
    return true;
}

bool job_set_speed(struct job *j, uint64_t bytes_s, struct err **errp)
{
    if (!check(j, JOB_VERB_SET_SPEED, errp))
        return false;
    if (!j->ops->set_speed)
        return err_set(errp, ENOTSUP, "Job type '%s' has no speed", j->ops->type);
    j->speed = bytes_s;
    j->ops->set_speed(j);
    return true;
}

void jobs_stop(struct jobs *jobs)
{
    for (struct job *j = jobs->first; j; j = j->next) {
        j->dismiss_asked = true;
        if (j->status != JOB_CONCLUDED)
            j->cancelled = true;
        co_queue_wake_all(&j->wake);
    }
    while (jobs->first)
        co_queue_wait(&jobs->changed);
}
