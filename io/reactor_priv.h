/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Inside of the reactor, for the back ends and the I/O calls.
 */
#ifndef IO_REACTOR_PRIV_H
#define IO_REACTOR_PRIV_H

#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/socket.h>

#include "io/co_priv.h"
#include "io/reactor.h"

enum io_kind {
    IO_READ,
    IO_WRITE,
    IO_FDATASYNC,
    IO_FALLOCATE,
    IO_RECV,
    IO_SENDMSG,
    IO_ACCEPT,
    IO_POLL,
};

/* One I/O in flight; lives on the stack of the coroutine that waits for it. */
struct io_op {
    enum io_kind kind;
    int fd;
    int mode; /* FALLOCATE: mode. POLL: events. RECV: MSG_WAITALL or 0, a hint */
    void *buf;
    size_t len;
    uint64_t off;
    struct msghdr *msg; /* SENDMSG */
    struct co *co;
    int64_t res; /* >= 0 or -errno, once done */
    bool done;
    bool canceled; /* cancel was asked for: report why (reason) */
    int reason;    /* -ETIMEDOUT or -ECANCELED */
    bool listed;   /* in reactor->waiting: can be canceled by descriptor */
    struct io_op *prev, *next;
    void *backend; /* the back end's own */
};

/* A back end carries out io_ops. All calls come from the reactor's thread. */
struct io_backend {
    const char *name;
    bool (*init)(struct reactor *r, struct err **errp);
    void (*destroy)(struct reactor *r);
    /* submit: start op; may complete it at once (io_complete) or later from wait. */
    void (*submit)(struct reactor *r, struct io_op *op);
    /* cancel: ask op to end; it completes with -ECANCELED or as it would have. */
    void (*cancel)(struct reactor *r, struct io_op *op);
    /* wait: hand all that was submitted to the kernel and wait for a completion, at most timeout_ns
     * (0: do not wait; negative: for ever). Calls io_complete. */
    void (*wait)(struct reactor *r, int64_t timeout_ns);
};
extern const struct io_backend uring_backend, epoll_backend, sim_backend;

struct offload_pool;

struct reactor {
    const struct io_backend *backend;
    void *backend_state;
    struct co_pool co_pool;
    struct co *ready_head, *ready_tail;
    struct deferred *deferred_head, *deferred_tail;
    struct timer **heap; /* 1-based binary heap by deadline */
    int heap_len, heap_cap;
    struct io_op *waiting; /* socket operations in flight */
    int64_t now_ns;
    bool stopped;
    int event_fd; /* woken by mail; -1 under SIM */
    pthread_mutex_t mail_lock;
    struct mail *mail_head, *mail_tail;
    struct offload_pool *offload;
};

/* reactor_monotonic_ns: the real clock, now: for measuring, where clock_ns is of the pass's start.
 */
int64_t reactor_monotonic_ns(void);

void reactor_make_ready(struct reactor *r, struct co *co);

/* io_complete: op has ended with res; its coroutine becomes ready. */
void io_complete(struct reactor *r, struct io_op *op, int64_t res);

/* reactor_take_mail: run what other threads have posted. Returns true if there was any. */
bool reactor_take_mail(struct reactor *r);

/* Timers (timer.c). timers_next: ns until the next deadline, or -1. timers_run: call all that are
 * due. */
int64_t timers_next(const struct reactor *r);
void timers_run(struct reactor *r);

/* Worker threads (offload.c), started on first use. offload_submit: run fn(arg) on one, then post
 * done to r. */
struct offload_job {
    int (*fn)(void *arg);
    void *arg;
    int result;
    struct mail done;
    struct offload_job *next;
};
bool offload_submit(struct reactor *r, struct offload_job *job);
void offload_destroy(struct reactor *r);

#endif
