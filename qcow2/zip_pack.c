/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Packing clusters on worker threads.
 *
 * A request's clusters are packed side by side, several at a time by each thread, since the way to
 * a thread costs as much as packing some kilobytes. How many threads work for an image at once is
 * bounded: some for each CPU, so that none is idle while results are on their way or others
 * compete. Each has a packer, whose tables (some 100 KiB and more) are kept for the next one:
 * setting them up anew would cost more than packing a small cluster does.
 */
#include <errno.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "qcow2/codec.h"
#include "qcow2/zip_priv.h"

#define JOB_BYTES (UINT64_C(256) << 10) /* for a thread at a time */
#define MIN_THREADS 4
#define MAX_THREADS 16

struct qc_pack_pool {
    unsigned running, max; /* threads at work */
    struct co_queue change;
    struct qc_packer *idle[MAX_THREADS];
    unsigned n_idle;
};

struct job { /* some neighbouring clusters */
    struct qc_zip_batch *b;
    unsigned first, n;
    struct qc_packer *packer;
    struct co_group *group;
};

static int job_run(void *arg)
{
    struct job *j = arg;
    const struct qc_zip_batch *b = j->b;
    for (unsigned i = j->first; i < j->first + j->n; i++)
        b->len[i] = qc_packer_pack(j->packer, b->src + i * b->cluster, b->cluster,
                                   b->packed + i * b->cluster, b->cluster - 1);
    return 0;
}

static void job_do(struct qc *q, struct job *j)
{
    struct qc_pack_pool *p = q->zip.pool;
    while (p->running == p->max)
        co_queue_wait(&p->change);
    p->running++;
    j->packer = p->n_idle ? p->idle[--p->n_idle] : qc_packer_new(q->codec);
    if (j->packer) /* without memory nothing gets smaller */
        qc_zip_work(q, job_run, j);
    if (j->packer)
        p->idle[p->n_idle++] = j->packer;
    p->running--;
    co_queue_wake_one(&p->change);
}

static void job_main(void *arg)
{
    struct job *j = arg;
    job_do(j->b->q, j);
    co_group_done(j->group);
}

static bool pool_make(struct qc *q)
{
    if (q->zip.pool)
        return true;
    q->zip.pool = mem_new(struct qc_pack_pool);
    if (!q->zip.pool)
        return false;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    q->zip.pool->max = cpus < 2 ? MIN_THREADS : (unsigned)min_u64(4 * (uint64_t)cpus, MAX_THREADS);
    return true;
}

int qc_zip_pack(struct qc_zip_batch *b)
{
    struct job job[QC_ZIP_BATCH];
    struct co_group group = {0};
    uint64_t per_job = max_u64(JOB_BYTES / b->cluster, 1);
    unsigned n = 0;
    if (!pool_make(b->q))
        return -ENOMEM;
    memset(b->len, 0, b->n * sizeof(*b->len));
    for (unsigned i = 0; i < b->n; i += job[n++].n) {
        job[n] = (struct job){
            .b = b, .first = i, .n = (unsigned)min_u64(per_job, b->n - i), .group = &group};
        co_group_add(&group);
        if (!co_start(job_main, &job[n])) /* no memory for a coroutine: do it here */
            job_main(&job[n]);
    }
    co_group_wait(&group);
    return 0;
}

void qc_zip_pack_destroy(struct qc *q)
{
    struct qc_pack_pool *p = q->zip.pool;
    for (unsigned i = 0; p && i < p->n_idle; i++)
        qc_packer_free(p->idle[i]);
    mem_free(p);
}
