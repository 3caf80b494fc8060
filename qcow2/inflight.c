/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changes of mapping in progress, by guest cluster: two requests that would both allocate the same
 * cluster take turns, all others run side by side. A list, because it holds at most one entry for
 * each request in flight.
 */
#include "qcow2/qcow2_priv.h"

bool qc_inflight_wait(struct qc *q, uint64_t first, uint64_t end)
{
    for (struct qc_inflight *f = q->inflight; f; f = f->next)
        if (f->first < end && first < f->end) {
            co_queue_wait(&q->inflight_waiters);
            return true;
        }
    return false;
}

void qc_inflight_begin(struct qc *q, struct qc_inflight *f, uint64_t first, uint64_t end)
{
    f->first = first;
    f->end = end;
    f->prev = NULL;
    f->next = q->inflight;
    if (f->next)
        f->next->prev = f;
    q->inflight = f;
}

void qc_inflight_end(struct qc *q, struct qc_inflight *f)
{
    if (f->prev)
        f->prev->next = f->next;
    else
        q->inflight = f->next;
    if (f->next)
        f->next->prev = f->prev;
    co_queue_wake_all(&q->inflight_waiters);
}

bool qc_inflight_clip(struct qc *q, uint64_t first, uint64_t *n)
{
    for (struct qc_inflight *f = q->inflight; f; f = f->next) {
        if (f->first <= first && first < f->end) {
            co_queue_wait(&q->inflight_waiters);
            return true;
        }
        if (f->first > first && f->first - first < *n)
            *n = f->first - first;
    }
    return false;
}
