/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Ranges in use, newest first. A range waits only for older ones, so the oldest can always go on:
 * no deadlock, and no range is overtaken for ever. The list is as long as there are requests in
 * flight, a few dozen: walking it is cheaper than keeping a tree.
 */
#include "block/overlap.h"

#include <assert.h>
#include <stddef.h>

static struct overlap *overlap_find_conflict(const struct overlap *o)
{
    for (struct overlap *e = o->next; e; e = e->next) {
        bool apart = e->off + e->len <= o->off || o->off + o->len <= e->off;
        if (!apart && (e->exclusive || o->exclusive))
            return e;
    }
    return NULL;
}

void overlap_begin(struct overlap_list *l, struct overlap *o, uint64_t off, uint64_t len,
                   bool exclusive)
{
    assert(off + len >= off);
    *o = (struct overlap){.off = off, .len = len, .exclusive = exclusive, .next = l->head};
    if (l->head)
        l->head->prev = o;
    l->head = o;

    /* An older range that conflicts is gone for good once it has left: restarting the search
     * after each wait ends. */
    struct overlap *e;
    while ((e = overlap_find_conflict(o)))
        co_queue_wait(&e->waiters);
}

void overlap_end(struct overlap_list *l, struct overlap *o)
{
    if (o->prev)
        o->prev->next = o->next;
    else
        l->head = o->next;
    if (o->next)
        o->next->prev = o->prev;
    co_queue_wake_all(&o->waiters);
}
