/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Coroutine locks. A waiter is a record on the waiting coroutine's stack; ownership is handed over
 * directly on unlock, so that nobody overtakes the queue.
 */
#include "io/lock.h"

#include <assert.h>
#include <stddef.h>

#include "io/co.h"

struct co_waiter {
    struct co *co;
    struct co_waiter *next;
};

void co_queue_wait(struct co_queue *q)
{
    struct co_waiter w = {.co = co_self()};
    if (q->tail)
        q->tail->next = &w;
    else
        q->head = &w;
    q->tail = &w;
    co_yield ();
}

bool co_queue_wake_one(struct co_queue *q)
{
    struct co_waiter *w = q->head;
    if (!w)
        return false;
    q->head = w->next;
    if (!q->head)
        q->tail = NULL;
    co_wake(w->co);
    return true;
}

void co_queue_wake_all(struct co_queue *q)
{
    while (co_queue_wake_one(q))
        ;
}

bool co_queue_empty(const struct co_queue *q)
{
    return !q->head;
}

void co_lock(struct co_mutex *m)
{
    if (!m->held) {
        m->held = true;
        return;
    }
    co_queue_wait(&m->waiters); /* the unlocker leaves it held, for us */
    assert(m->held);
}

void co_unlock(struct co_mutex *m)
{
    assert(m->held);
    if (!co_queue_wake_one(&m->waiters))
        m->held = false;
}

void co_rdlock(struct co_rwlock *l)
{
    if (!l->writer && l->writers_waiting == 0) {
        l->readers++;
        return;
    }
    co_queue_wait(&l->read_waiters); /* the waker counted us in */
}

static void rw_admit_writer(struct co_rwlock *l)
{
    l->writer = true;
    l->writers_waiting--;
    co_queue_wake_one(&l->write_waiters);
}

static void rw_admit_readers(struct co_rwlock *l)
{
    while (co_queue_wake_one(&l->read_waiters))
        l->readers++;
}

void co_rdunlock(struct co_rwlock *l)
{
    assert(l->readers > 0);
    if (--l->readers == 0 && l->writers_waiting > 0)
        rw_admit_writer(l);
}

void co_wrlock(struct co_rwlock *l)
{
    if (!l->writer && l->readers == 0) {
        l->writer = true;
        return;
    }
    l->writers_waiting++;
    co_queue_wait(&l->write_waiters);
    assert(l->writer);
}

void co_wrunlock(struct co_rwlock *l)
{
    assert(l->writer);
    l->writer = false;
    /* Readers that waited behind this writer go first, so that writers cannot starve them. */
    if (!co_queue_empty(&l->read_waiters))
        rw_admit_readers(l);
    else if (l->writers_waiting > 0)
        rw_admit_writer(l);
}

void co_group_add(struct co_group *g)
{
    g->pending++;
}

void co_group_done(struct co_group *g)
{
    assert(g->pending > 0);
    if (--g->pending == 0)
        co_queue_wake_all(&g->waiters);
}

void co_group_wait(struct co_group *g)
{
    while (g->pending > 0)
        co_queue_wait(&g->waiters);
}
