/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker threads for calls that block. Started one by one as jobs queue up, at most MAX_WORKERS;
 * they stay until the reactor goes. Results travel back as mail.
 */
#include <errno.h>
#include <signal.h>

#include "base/mem.h"
#include "io/io.h"
#include "io/reactor_priv.h"

#define MAX_WORKERS 16

struct offload_pool {
    struct reactor *home;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct offload_job *head, *tail;
    unsigned n_workers, n_idle, n_queued;
    bool stopping;
    pthread_t worker[MAX_WORKERS];
};

static void *worker_main(void *arg)
{
    struct offload_pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->head && !p->stopping) {
            p->n_idle++;
            pthread_cond_wait(&p->work, &p->lock);
            p->n_idle--;
        }
        struct offload_job *job = p->head;
        if (!job)
            break; /* stopping, and the queue is empty */
        p->head = job->next;
        if (!p->head)
            p->tail = NULL;
        p->n_queued--;
        pthread_mutex_unlock(&p->lock);
        job->result = job->fn(job->arg);
        reactor_post(p->home, &job->done);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static struct offload_pool *pool_start(struct reactor *r)
{
    struct offload_pool *p = mem_new(struct offload_pool);
    if (!p)
        return NULL;
    p->home = r;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    return p;
}

/* add_worker: with all signals blocked, so that they reach the main thread's signalfd. */
static bool add_worker(struct offload_pool *p)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool ok = pthread_create(&p->worker[p->n_workers], NULL, worker_main, p) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (ok)
        p->n_workers++;
    return ok;
}

bool offload_submit(struct reactor *r, struct offload_job *job)
{
    if (!r->offload && !(r->offload = pool_start(r)))
        return false;
    struct offload_pool *p = r->offload;
    pthread_mutex_lock(&p->lock);
    if (p->n_idle <= p->n_queued && p->n_workers < MAX_WORKERS && !add_worker(p) &&
        p->n_workers == 0) {
        pthread_mutex_unlock(&p->lock);
        return false;
    }
    job->next = NULL;
    if (p->tail)
        p->tail->next = job;
    else
        p->head = job;
    p->tail = job;
    p->n_queued++;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
    return true;
}

void offload_destroy(struct reactor *r)
{
    struct offload_pool *p = r->offload;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n_workers; i++)
        pthread_join(p->worker[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
    r->offload = NULL;
}

void reactor_rest(struct reactor *r)
{
    offload_destroy(r);
}

static void offload_done(void *arg)
{
    co_wake(arg);
}

int io_offload(int (*fn)(void *arg), void *arg)
{
    struct offload_job job = {
        .fn = fn,
        .arg = arg,
        .done = {.fn = offload_done, .arg = co_self()},
    };
    if (!offload_submit(reactor_current(), &job))
        return -ENOMEM;
    co_yield ();
    return job.result;
}
