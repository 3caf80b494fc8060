/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The loop. A pass runs everything that is ready, then the deferred hooks, and only then asks the
 * kernel, so that one system call submits all the I/O and sends all the replies that the pass
 * produced.
 */
#include "io/reactor.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/reactor_priv.h"

/* What became ready through coroutines waking each other is run in the same pass, up to this many
 * times; then the kernel is asked, so that a busy pair of coroutines cannot starve I/O. */
#define ROUNDS_PER_PASS 16

/* The kernel's default would make a wait of 20 us last 70. */
#define TIMER_SLACK_NS 1000UL

static _Thread_local struct reactor *current_reactor;

struct reactor *reactor_current(void)
{
    return current_reactor;
}

const char *reactor_name(const struct reactor *r)
{
    return r->backend->name;
}

int64_t reactor_monotonic_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_ns(void)
{
    return current_reactor->now_ns;
}

static void update_clock(struct reactor *r)
{
    if (r->backend != &sim_backend)
        r->now_ns = reactor_monotonic_ns();
}

static bool backend_start(struct reactor *r, const struct io_backend *b, struct err **errp)
{
    r->backend = b;
    return b->init(r, errp);
}

static bool backend_auto(struct reactor *r, struct err **errp)
{
    const char *want = getenv("BREAKWATER_IO");
    if (want && strcmp(want, "threads") == 0)
        return backend_start(r, &epoll_backend, errp);
    if (want && strcmp(want, "uring") == 0)
        return backend_start(r, &uring_backend, errp);
    if (want && *want)
        return err_set(errp, EINVAL, "BREAKWATER_IO=%s: must be uring or threads", want);
    struct err *why = NULL;
    if (backend_start(r, &uring_backend, &why))
        return true;
    log_info("%s; using epoll and threads", err_msg(why));
    err_free(why);
    return backend_start(r, &epoll_backend, errp);
}

static bool backend_pick(struct reactor *r, enum reactor_kind kind, struct err **errp)
{
    switch (kind) {
    case REACTOR_URING:
        return backend_start(r, &uring_backend, errp);
    case REACTOR_THREADS:
        return backend_start(r, &epoll_backend, errp);
    case REACTOR_SIM:
        return backend_start(r, &sim_backend, errp);
    case REACTOR_AUTO:
        break;
    }
    return backend_auto(r, errp);
}

bool reactor_new(enum reactor_kind kind, struct reactor **out, struct err **errp)
{
    assert(!current_reactor);
    struct reactor *r = mem_new(struct reactor);
    if (!r)
        return err_set(errp, ENOMEM, "reactor: out of memory");
    pthread_mutex_init(&r->mail_lock, NULL);
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    r->event_fd = -1;
    if (kind != REACTOR_SIM) {
        r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (r->event_fd < 0) {
            err_set_errno(errp, errno, "reactor: eventfd");
            goto fail;
        }
    }
    if (!backend_pick(r, kind, errp))
        goto fail;
    co_pool_init(&r->co_pool);
    update_clock(r);
    current_reactor = r;
    *out = r;
    return true;
fail:
    if (r->event_fd >= 0)
        close(r->event_fd);
    pthread_mutex_destroy(&r->mail_lock);
    mem_free(r);
    return false;
}

void reactor_free(struct reactor *r)
{
    if (!r)
        return;
    assert(r == current_reactor);
    offload_destroy(r);
    r->backend->destroy(r);
    co_pool_destroy(&r->co_pool);
    if (r->event_fd >= 0)
        close(r->event_fd);
    pthread_mutex_destroy(&r->mail_lock);
    mem_free(r->heap);
    mem_free(r);
    current_reactor = NULL;
}

void reactor_make_ready(struct reactor *r, struct co *co)
{
    co->next = NULL;
    if (r->ready_tail)
        r->ready_tail->next = co;
    else
        r->ready_head = co;
    r->ready_tail = co;
}

void io_complete(struct reactor *r, struct io_op *op, int64_t res)
{
    op->res = res;
    op->done = true;
    /* During submit the coroutine has not yielded yet: it sees done and goes on. */
    if (op->co)
        co_wake(op->co);
    (void)r;
}

void reactor_defer(struct deferred *d)
{
    struct reactor *r = current_reactor;
    if (d->queued)
        return;
    d->queued = true;
    d->next = NULL;
    if (r->deferred_tail)
        r->deferred_tail->next = d;
    else
        r->deferred_head = d;
    r->deferred_tail = d;
}

void reactor_post(struct reactor *r, struct mail *m)
{
    m->next = NULL;
    pthread_mutex_lock(&r->mail_lock);
    bool was_empty = !r->mail_head;
    if (r->mail_tail)
        r->mail_tail->next = m;
    else
        r->mail_head = m;
    r->mail_tail = m;
    /* The wake-up is written under the lock: once the loop has taken the mail, the reactor may be
     * freed, and its event_fd with it. */
    if (was_empty && r->event_fd >= 0) {
        uint64_t one = 1;
        ssize_t n;
        do {
            n = write(r->event_fd, &one, sizeof(one));
        } while (n < 0 && errno == EINTR);
    }
    pthread_mutex_unlock(&r->mail_lock);
}

bool reactor_take_mail(struct reactor *r)
{
    uint64_t count;
    if (r->event_fd >= 0 && read(r->event_fd, &count, sizeof(count)) < 0)
        assert(errno == EAGAIN || errno == EINTR);
    pthread_mutex_lock(&r->mail_lock);
    struct mail *m = r->mail_head;
    r->mail_head = r->mail_tail = NULL;
    pthread_mutex_unlock(&r->mail_lock);
    bool any = m;
    while (m) {
        struct mail *next = m->next; /* fn may reuse or free m */
        m->fn(m->arg);
        m = next;
    }
    return any;
}

static void run_ready(struct reactor *r)
{
    struct co *co = r->ready_head;
    r->ready_head = r->ready_tail = NULL;
    while (co) {
        struct co *next = co->next;
        co->ready = false;
        co_resume(co);
        co = next;
    }
}

static void run_deferred(struct reactor *r)
{
    struct deferred *d = r->deferred_head;
    r->deferred_head = r->deferred_tail = NULL;
    while (d) {
        struct deferred *next = d->next;
        d->queued = false;
        d->fn(d->arg);
        d = next;
    }
}

/* run_pass: everything but the waiting. Returns true if more is ready already. */
static bool run_pass(struct reactor *r)
{
    for (int i = 0; i < ROUNDS_PER_PASS; i++) {
        timers_run(r);
        run_ready(r);
        if (r->ready_head)
            continue;
        run_deferred(r);
        if (!r->ready_head)
            return false;
    }
    /* A coroutine that only lets others run must not hold up what they have deferred. */
    run_deferred(r);
    return true;
}

static void wait_for_work(struct reactor *r, bool busy)
{
    int64_t timeout_ns = busy ? 0 : timers_next(r);
    r->backend->wait(r, timeout_ns);
    update_clock(r);
}

void reactor_run(struct reactor *r)
{
    assert(!co_self());
    r->stopped = false;
    update_clock(r);
    while (!r->stopped) {
        bool busy = run_pass(r);
        if (!r->stopped)
            wait_for_work(r, busy);
    }
}

void reactor_stop(struct reactor *r)
{
    r->stopped = true;
}

struct run_one {
    co_fn *fn;
    void *arg;
    bool done;
};

static void run_one_entry(void *arg)
{
    struct run_one *one = arg;
    one->fn(one->arg);
    one->done = true;
}

bool reactor_run_co(struct reactor *r, co_fn *fn, void *arg)
{
    assert(!co_self());
    struct run_one one = {.fn = fn, .arg = arg};
    update_clock(r);
    if (!co_start(run_one_entry, &one))
        return false;
    while (!one.done) {
        bool busy = run_pass(r);
        if (!one.done)
            wait_for_work(r, busy);
    }
    /* What the coroutine left ready or deferred (wake-ups of others) is not lost. */
    run_pass(r);
    return true;
}

void reactor_run_until_idle(struct reactor *r)
{
    assert(r->backend == &sim_backend && !co_self());
    for (;;) {
        bool busy = run_pass(r);
        if (!busy && timers_next(r) < 0 && !reactor_take_mail(r))
            return;
        wait_for_work(r, busy);
    }
}
