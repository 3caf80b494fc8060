/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One reactor per thread: it runs ready coroutines, timers and mail, and waits for I/O.
 *
 * A pass of the loop is: run everything that is ready; run the deferred hooks (which batch what
 * the pass produced, such as replies); submit all new I/O and wait, in one system call. The
 * back end is io_uring, or epoll with worker threads where io_uring is refused, or (for tests)
 * a simulated clock that jumps to the next timer when nothing is ready.
 */
#ifndef IO_REACTOR_H
#define IO_REACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/co.h"

struct reactor;

enum reactor_kind {
    REACTOR_AUTO, /* BREAKWATER_IO=uring|threads decides; else io_uring if the kernel lets us */
    REACTOR_URING,
    REACTOR_THREADS, /* epoll, and a pool of worker threads for file I/O */
    REACTOR_SIM,     /* no descriptors; simulated clock, starts at 0 */
};

/* reactor_new: make a reactor and bind it to this thread (one per thread). */
bool reactor_new(enum reactor_kind kind, struct reactor **out, struct err **errp);
/* reactor_free: unbinds. All coroutines must have ended. */
void reactor_free(struct reactor *r);
/* reactor_current: the reactor bound to this thread, or NULL. */
struct reactor *reactor_current(void);
/* reactor_name: "io_uring", "threads" or "sim". */
const char *reactor_name(const struct reactor *r);

/* reactor_rest: end the worker threads, which start again when there is work for them; waits for
 * what they are at. For what only holds for threads that are started later. Same thread. */
void reactor_rest(struct reactor *r);
/* reactor_run: loop until reactor_stop. Outside coroutines only. */
void reactor_run(struct reactor *r);
/* reactor_stop: make reactor_run return after the present pass. Same thread. */
void reactor_stop(struct reactor *r);
/* reactor_run_co: start fn(arg) as a coroutine and loop until it has ended; the way that tools and
 * tests call code that yields. False without memory. */
bool reactor_run_co(struct reactor *r, co_fn *fn, void *arg);
/* reactor_run_until_idle: loop while anything is ready or (SIM) any timer is set. SIM only; a
 * deadlock then shows as coroutines still alive (co_alive). */
void reactor_run_until_idle(struct reactor *r);

/* A deferred hook: fn(arg) is called once at the end of the present pass, before waiting. */
struct deferred {
    void (*fn)(void *arg);
    void *arg;
    struct deferred *next;
    bool queued;
};
/* reactor_defer: queue d on this thread's reactor (no-op if queued already). d belongs to the
 * caller and must stay valid until it ran. */
void reactor_defer(struct deferred *d);

/* A message to another thread's reactor: fn(arg) is called from its loop. The only function here
 * that may be called from any thread. m belongs to the caller until fn is called. */
struct mail {
    void (*fn)(void *arg);
    void *arg;
    struct mail *next;
};
void reactor_post(struct reactor *r, struct mail *m);

/* clock_ns: the monotonic time of this thread's reactor, in nanoseconds; simulated under SIM.
 * Cached per pass (good for deadlines, not for measuring). */
int64_t clock_ns(void);
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

/* A timer: fn(arg) is called from the loop once the clock reaches the deadline. The struct belongs
 * to the caller. Setting a set timer moves it; cancelling an unset one does nothing. */
struct timer {
    int64_t deadline_ns;
    void (*fn)(void *arg);
    void *arg;
    int heap_index; /* 0 = not set; a zeroed timer is valid */
};
/* timer_set: false without memory. */
bool timer_set(struct timer *t, int64_t deadline_ns, void (*fn)(void *), void *arg);
void timer_cancel(struct timer *t);

/* co_sleep_until: suspend the coroutine until the clock reaches deadline_ns. Yields. */
void co_sleep_until(int64_t deadline_ns);

#endif
