/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading, and overwriting in place.
 *
 * A request that maps to one contiguous run, the usual case, becomes one request to the child, with
 * no copy, no allocation and no lock. One that maps to several runs has up to QC_TASKS of them in
 * flight at a time, each in a coroutine of its own.
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/qcow2_priv.h"

#define QC_TASKS 8

struct tasks;
struct task { /* one run; its epoch was entered when it was looked up */
    struct tasks *all;
    struct qc_run run;
    uint64_t guest_off;
    uint8_t *buf;
    unsigned epoch;
    bool busy;
};

struct tasks {
    struct qc *q;
    bool write;
    int error; /* the first one */
    unsigned running;
    struct co_queue change; /* one ended */
    struct task v[QC_TASKS];
};

uint64_t qc_backing_end(const struct qc *q)
{
    return q->backing ? q->backing->size : 0;
}

/* The last cluster of a file may be cut short: what is missing reads as zeros. */
static int read_clipped(struct node *file, uint64_t host_off, uint8_t *buf, uint64_t len)
{
    uint64_t size = file->size;
    if (host_off + len > size && !file->growable) {
        uint64_t have = host_off < size ? size - host_off : 0;
        memset(buf + have, 0, len - have);
        len = have;
        if (!len)
            return 0;
    }
    return node_read(file, host_off, buf, len);
}

int qc_read_host(struct qc *q, uint64_t host_off, uint8_t *buf, uint64_t len)
{
    return read_clipped(q->file, host_off, buf, len);
}

int qc_read_data(struct qc *q, uint64_t host_off, uint8_t *buf, uint64_t len)
{
    return q->data ? read_clipped(q->data, host_off, buf, len) : -EACCES;
}

static int read_backing(struct qc *q, uint64_t guest_off, uint8_t *buf, uint64_t len)
{
    if (q->backing) {
        uint64_t end = qc_backing_end(q);
        uint64_t have = guest_off < end ? min_u64(len, end - guest_off) : 0;
        node_event(q->file, EV_READ_BACKING_AIO);
        if (have) {
            int r = node_read(q->backing, guest_off, buf, have);
            if (r < 0)
                return r;
        }
        buf += have;
        len -= have;
    }
    memset(buf, 0, len);
    return 0;
}

static int read_run(struct qc *q, const struct qc_run *run, uint64_t guest_off, uint8_t *buf)
{
    switch (run->type) {
    case QC_NORMAL:
        node_event(q->file, EV_READ_AIO);
        return qc_read_data(q, run->host_off, buf, run->len);
    case QC_UNALLOCATED:
        return read_backing(q, guest_off, buf, run->len);
    case QC_ZERO_PLAIN:
    case QC_ZERO_ALLOCATED:
        memset(buf, 0, run->len);
        return 0;
    default:
        return qc_read_compressed(q, run->host_off, guest_off, buf, run->len);
    }
}

static int write_run(struct qc *q, const struct qc_run *run, uint64_t guest_off, const uint8_t *buf)
{
    if (!q->has_data_file && qc_meta_hits(q, run->host_off, run->len))
        return qc_corrupt(q,
                          "guest offset 0x%" PRIx64 " is mapped to host offset 0x%" PRIx64
                          ", where there is metadata (%" PRIu64 " bytes); write refused",
                          guest_off, run->host_off, run->len);
    node_event(q->file, EV_WRITE_AIO);
    return node_write_kind(q->data, run->host_off, buf, run->len, 0, KIND_DATA);
}

static int run_do(struct qc *q, bool write, const struct qc_run *run, uint64_t guest_off,
                  uint8_t *buf, unsigned epoch)
{
    int r = write ? write_run(q, run, guest_off, buf) : read_run(q, run, guest_off, buf);
    qc_io_end(q, epoch);
    return r;
}

static void task_main(void *arg)
{
    struct task *t = arg;
    struct tasks *all = t->all;
    int r = run_do(all->q, all->write, &t->run, t->guest_off, t->buf, t->epoch);
    if (r < 0 && !all->error)
        all->error = r;
    t->busy = false;
    all->running--;
    co_queue_wake_all(&all->change);
}

static void task_start(struct tasks *all, const struct qc_run *run, uint64_t guest_off,
                       uint8_t *buf)
{
    unsigned epoch = qc_io_begin(all->q);
    while (all->running == QC_TASKS)
        co_queue_wait(&all->change);
    struct task *t = all->v;
    while (t->busy)
        t++;
    *t = (struct task){
        .all = all, .run = *run, .guest_off = guest_off, .buf = buf, .epoch = epoch, .busy = true};
    all->running++;
    if (!co_start(task_main, t))
        task_main(t); /* no memory for a coroutine: do it here */
}

/* The rest of a request of several runs; run is the first of them, already looked up. */
static __attribute__((noinline)) int transfer_split(struct qc *q, bool write, uint64_t guest_off,
                                                    uint8_t *buf, uint64_t len, struct qc_run run)
{
    struct tasks all = {.q = q, .write = write};
    int r = 0;
    for (;;) {
        uint64_t done = run.len;
        if (write && !(run.type == QC_NORMAL && run.copied))
            r = qc_write_alloc(q, guest_off, buf, len, false, &done);
        else
            task_start(&all, &run, guest_off, buf);
        guest_off += done;
        buf += done;
        len -= done;
        if (r < 0 || all.error || !len)
            break;
        r = qc_l2_lookup(q, guest_off, len, &run);
        if (r < 0)
            break;
    }
    while (all.running)
        co_queue_wait(&all.change);
    return r < 0 ? r : all.error;
}

int qc_read(struct qc *q, uint64_t guest_off, uint8_t *buf, uint64_t len)
{
    struct qc_run run;
    if (len == 0)
        return 0;
    int r = qc_l2_lookup(q, guest_off, len, &run);
    if (r < 0)
        return r;
    if (run.len < len)
        return transfer_split(q, false, guest_off, buf, len, run);
    return run_do(q, false, &run, guest_off, buf, qc_io_begin(q));
}

int qc_write_zeros(struct qc *q, uint64_t guest_off, uint64_t len)
{
    int r = 0;
    while (r == 0 && len) {
        uint64_t n = min_u64(len, NODE_ZEROS);
        r = qc_write(q, guest_off, node_zeros(), n);
        guest_off += n;
        len -= n;
    }
    return r;
}

int qc_write(struct qc *q, uint64_t guest_off, const uint8_t *buf, uint64_t len)
{
    struct qc_run run;
    if (len == 0)
        return 0;
    int r = qc_l2_lookup(q, guest_off, len, &run);
    if (r < 0)
        return r;
    if (run.len < len || run.type != QC_NORMAL || !run.copied)
        return transfer_split(q, true, guest_off, (uint8_t *)buf, len, run);
    return run_do(q, true, &run, guest_off, (uint8_t *)buf, qc_io_begin(q));
}
