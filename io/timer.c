/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Timers in a binary heap by deadline; a timer knows its place in it, so that moving and cancelling
 * need no search. Also the simulated back end, which consists of nothing but time.
 */
#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "base/mem.h"
#include "io/reactor_priv.h"

static void heap_place(struct reactor *r, int i, struct timer *t)
{
    r->heap[i] = t;
    t->heap_index = i;
}

static void sift_up(struct reactor *r, int i)
{
    struct timer *t = r->heap[i];
    while (i > 1 && r->heap[i / 2]->deadline_ns > t->deadline_ns) {
        heap_place(r, i, r->heap[i / 2]);
        i /= 2;
    }
    heap_place(r, i, t);
}

static void sift_down(struct reactor *r, int i)
{
    struct timer *t = r->heap[i];
    for (;;) {
        int kid = i * 2;
        if (kid > r->heap_len)
            break;
        if (kid < r->heap_len && r->heap[kid + 1]->deadline_ns < r->heap[kid]->deadline_ns)
            kid++;
        if (r->heap[kid]->deadline_ns >= t->deadline_ns)
            break;
        heap_place(r, i, r->heap[kid]);
        i = kid;
    }
    heap_place(r, i, t);
}

static bool heap_reserve(struct reactor *r)
{
    if (r->heap_len + 1 < r->heap_cap)
        return true;
    int cap = r->heap_cap ? r->heap_cap * 2 : 64;
    struct timer **heap = mem_realloc(r->heap, (size_t)cap * sizeof(*heap));
    if (!heap)
        return false;
    r->heap = heap;
    r->heap_cap = cap;
    return true;
}

bool timer_set(struct timer *t, int64_t deadline_ns, void (*fn)(void *), void *arg)
{
    struct reactor *r = reactor_current();
    if (!t->heap_index) {
        if (!heap_reserve(r))
            return false;
        t->deadline_ns = deadline_ns;
        heap_place(r, ++r->heap_len, t);
    }
    t->fn = fn;
    t->arg = arg;
    t->deadline_ns = deadline_ns;
    sift_up(r, t->heap_index);
    sift_down(r, t->heap_index);
    return true;
}

void timer_cancel(struct timer *t)
{
    struct reactor *r = reactor_current();
    int i = t->heap_index;
    if (!i)
        return;
    t->heap_index = 0;
    struct timer *last = r->heap[r->heap_len--];
    if (last == t)
        return;
    heap_place(r, i, last);
    sift_up(r, i);
    sift_down(r, last->heap_index);
}

int64_t timers_next(const struct reactor *r)
{
    if (r->heap_len == 0)
        return -1;
    int64_t in = r->heap[1]->deadline_ns - r->now_ns;
    return in > 0 ? in : 0;
}

void timers_run(struct reactor *r)
{
    while (r->heap_len > 0 && r->heap[1]->deadline_ns <= r->now_ns) {
        struct timer *t = r->heap[1];
        timer_cancel(t);
        t->fn(t->arg);
    }
}

static void wake_sleeper(void *arg)
{
    co_wake(arg);
}

void co_sleep_until(int64_t deadline_ns)
{
    struct timer t = {0};
    /* Without memory for the timer a sleep that ends at once is the lesser evil: callers loop. */
    if (!timer_set(&t, deadline_ns, wake_sleeper, co_self())) {
        co_reschedule();
        return;
    }
    co_yield ();
}

/* --- The simulated back end. --- */

static bool sim_init(struct reactor *r, struct err **errp)
{
    return true;
}

static void sim_destroy(struct reactor *r)
{
}

static void sim_submit(struct reactor *r, struct io_op *op)
{
    io_complete(r, op, -ENOSYS);
}

static void sim_cancel(struct reactor *r, struct io_op *op)
{
}

static void sim_wait(struct reactor *r, int64_t timeout_ns)
{
    /* Mail of a worker thread comes before time passes. With nothing ready and no timer, only mail
     * can move us: the loop spins for it. */
    if (!reactor_take_mail(r) && timeout_ns > 0)
        r->now_ns += timeout_ns;
}

const struct io_backend sim_backend = {
    .name = "sim",
    .init = sim_init,
    .destroy = sim_destroy,
    .submit = sim_submit,
    .cancel = sim_cancel,
    .wait = sim_wait,
};
