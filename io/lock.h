/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Locks between coroutines of one reactor. Never between threads. All are FIFO-fair.
 * A zeroed struct is a valid, free lock.
 */
#ifndef IO_LOCK_H
#define IO_LOCK_H

#include <stdbool.h>

struct co;

/* A queue of waiting coroutines: a condition without a mutex. */
struct co_waiter;
struct co_queue {
    struct co_waiter *head, *tail;
};
/* co_queue_wait: suspend until woken. Yields. Callers re-test their condition in a loop. */
void co_queue_wait(struct co_queue *q);
/* co_queue_wake_one, co_queue_wake_all: waiters become ready in the order they came. */
bool co_queue_wake_one(struct co_queue *q);
void co_queue_wake_all(struct co_queue *q);
bool co_queue_empty(const struct co_queue *q);

struct co_mutex {
    bool held;
    struct co_queue waiters;
};
/* co_lock: yields only if the mutex is held. Not recursive. The lock passes to the first waiter. */
void co_lock(struct co_mutex *m);
void co_unlock(struct co_mutex *m);

struct co_rwlock {
    unsigned readers;
    bool writer;
    unsigned writers_waiting; /* a waiting writer holds back new readers */
    struct co_queue read_waiters, write_waiters;
};
void co_rdlock(struct co_rwlock *l);
void co_rdunlock(struct co_rwlock *l);
void co_wrlock(struct co_rwlock *l);
void co_wrunlock(struct co_rwlock *l);

/* Wait for a number of coroutines: add before co_start, done at the end of each, then wait. */
struct co_group {
    unsigned pending;
    struct co_queue waiters;
};
void co_group_add(struct co_group *g);
void co_group_done(struct co_group *g);
void co_group_wait(struct co_group *g);

#endif
