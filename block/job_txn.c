/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Groups of jobs, in two phases: nobody commits before all have prepared, and from the moment when
 * the last one has, nobody can fail or be cancelled any more.
 */
#include "base/mem.h"
#include "block/job_priv.h"

struct job_txn *job_txn_new(void)
{
    struct job_txn *t = mem_new(struct job_txn);

    if (t)
        t->held = true;
    return t;
}

static void free_if_idle(struct job_txn *t)
{
    if (!t->held && t->members == 0)
        mem_free(t);
}

void job_txn_release(struct job_txn *t)
{
    if (!t)
        return;
    t->held = false;
    free_if_idle(t);
}

void job_txn_join(struct job *j, struct job_txn *t)
{
    j->txn = t;
    t->members++;
}

static void wake_members(const struct job *j)
{
    for (struct job *k = j->jobs->first; k; k = k->next) {
        if (k->txn == j->txn)
            co_queue_wake_all(&k->wake);
    }
}

bool txn_arrive(struct job *j)
{
    struct job_txn *t = j->txn;

    if (!t)
        return !j->cancelled;
    if (++t->arrived == t->members)
        wake_members(j);
    while (!j->cancelled && t->arrived < t->members)
        co_queue_wait(&j->wake);
    return !j->cancelled;
}

bool txn_decide(struct job *j)
{
    struct job_txn *t = j->txn;

    if (!t || t->decided)
        return true;
    if (j->cancelled || t->failed)
        return false;
    if (++t->prepared == t->members) {
        t->decided = true;
        wake_members(j);
    }
    while (!t->decided && !j->cancelled)
        co_queue_wait(&j->wake);
    return t->decided;
}

void txn_fail(struct job *j)
{
    if (!j->txn || j->txn->failed)
        return;
    j->txn->failed = true;
    for (struct job *k = j->jobs->first; k; k = k->next) {
        if (k->txn == j->txn && k != j)
            k->cancelled = true;
    }
    wake_members(j);
}

void txn_finalize(struct job *j)
{
    if (!j->txn)
        return;
    j->txn->finalize_asked = true;
    wake_members(j);
}

void txn_leave(struct job *j)
{
    struct job_txn *t = j->txn;

    if (!t)
        return;
    j->txn = NULL;
    t->members--;
    free_if_idle(t);
}
