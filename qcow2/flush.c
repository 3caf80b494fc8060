/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing the caches back, in the order that makes every crash state legal.
 *
 *   1. refcount blocks                     (they only ever rise before step 4)
 *   2. barrier: data and refcounts durable (skipped if no new link is among the dirty L2 entries)
 *   3. L2 slices
 *   4. barrier: links and unlinks durable
 *   5. what was unlinked may be freed
 *
 * Steps 1-3 are qc_write_back, 4-5 qc_flush; a guest's flush is both, two fdatasync at most, none
 * per write. While 1-3 run the gate is closed: L2 entries do not change, because an entry linked
 * after the barrier of step 2 began must not be written in step 3. Allocations and data I/O go on.
 *
 * A barrier that fails may have lost what it was for: the kernel marks such pages clean. So the
 * error stays, and nothing is written back any more until the image is opened again.
 */
#include <errno.h>

#include "base/log.h"
#include "qcow2/qcow2_priv.h"

int qc_barrier(struct qc *q)
{
    if (q->flush_error)
        return q->flush_error;
    int r = q->has_data_file ? node_flush(q->data) : 0;
    if (r == 0)
        r = node_flush(q->file);
    if (r < 0) {
        q->flush_error = r;
        log_error("%s: flush of the host file failed (error %d); no flush succeeds from now on",
                  q->node->name, -r);
    }
    /* One that began before and failed while this one waited may have lost what this one is for. */
    return q->flush_error;
}

static int sync_begin(struct qc *q)
{
    co_lock(&q->sync_lock);
    q->sync_owner = co_self();
    return q->corrupt ? -EIO : q->flush_error;
}

static void sync_end(struct qc *q)
{
    q->sync_owner = NULL;
    co_unlock(&q->sync_lock);
}

int qc_write_refblocks(struct qc *q)
{
    int r = sync_begin(q);
    if (r == 0)
        r = qc_cache_write_dirty(&q->ref);
    sync_end(q);
    return r;
}

/* Moves everything from one list to the end of another. */
static int list_move(struct qc_freed_list *to, struct qc_freed_list *from)
{
    if (!from->n)
        return 0;
    if (!qc_freed_reserve(to, from->n))
        return -ENOMEM;
    memcpy(to->v + to->n, from->v, from->n * sizeof(*from->v));
    to->n += from->n;
    from->n = 0;
    return 0;
}

static int write_back_locked(struct qc *q)
{
    int r = qc_cache_write_dirty(&q->ref);
    if (r == 0 && q->l2.n_dirty && q->links_dirty)
        r = qc_barrier(q);
    if (r == 0)
        r = qc_cache_write_dirty(&q->l2);
    if (r < 0)
        return r;
    q->links_dirty = false;
    return list_move(&q->written, &q->freed);
}

int qc_write_back(struct node *n)
{
    struct qc *q = n->state;
    if (q->read_only)
        return 0;
    int r = sync_begin(q);
    if (r == 0) {
        q->l2_frozen = true;
        r = write_back_locked(q);
        q->l2_frozen = false;
        co_queue_wake_all(&q->l2_gate);
    }
    sync_end(q);
    return r;
}

int qc_flush(struct qc *q)
{
    if (q->read_only)
        return 0;
    int r = sync_begin(q);
    if (r == 0)
        r = qc_barrier(q);
    if (r == 0 && list_move(&q->settled, &q->written) == 0) {
        q->freed_bytes = 0;
        int e = qc_free_settled(q);
        q->free_error = e;
        if (e < 0) /* the flush itself is done; what could not be freed now is tried again */
            log_warn("%s: could not free clusters after a flush: error %d", q->node->name, -e);
    }
    sync_end(q);
    return r;
}

void qc_gate(struct qc *q)
{
    while (q->l2_frozen)
        co_queue_wait(&q->l2_gate);
}
