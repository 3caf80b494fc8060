/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copy before write: the node through which a disk is written while frozen views of it exist.
 *
 * Views are chained newest to oldest. A change to the disk first copies, in units, what it is about
 * to destroy, for one view only: the recorder, the newest that somebody may still read. An older
 * view finds it there, because what it lacks itself has not changed between the two instants. A
 * view that is broken (its scratch is full, or something could not be read) stays in the chain, as
 * older ones may need what it has, but the next older one records from then on. So a guest's write
 * never fails for a view's sake.
 *
 * Who waits for whom: a view reads the live disk under a shared range lock, a copy is made under an
 * exclusive one, and a unit counts as copied before that lock is released. Hence
 *  - a view's read never sees a later write: that one's copy waits for the read;
 *  - once a unit is copied for the recorder nobody reads it from the live disk any more, so that
 *    further writes to it need no lock. This is the fast path: one test of a bitmap.
 * Locks are for ranges widened to the largest unit, or two copies could fill the same unit.
 * An exclusive lock on everything waits for all that holds pointers into the chain.
 */
#include "filters/cbw_priv.h"

#include <stddef.h>

#include "base/bytes.h"

/* A long range is locked and copied in pieces, lest reads of all views wait for one big discard. */
#define PIECE (64 * MiB)

struct cbw_view *cbw_recorder(const struct cbw *c)
{
    struct cbw_view *v = c->newest;

    while (v && (v->broken || v->closing))
        v = v->older;
    return v;
}

/* Copy for the recorder what [off, off + len) destroys. False: it lacked nothing; else yields. */
static bool cbw_preserve(struct cbw *c, uint64_t off, uint64_t len)
{
    bool acted = false;

    while (len > 0) {
        uint64_t n = min_u64(len, PIECE - (off & (PIECE - 1)));
        struct cbw_view *v = cbw_recorder(c);

        if (!v)
            break;
        if (view_lacks(v, off, n)) {
            uint64_t start = round_down(off, c->lock_align);
            uint64_t end = round_up(off + n, c->lock_align);
            struct overlap o;

            acted = true;
            overlap_begin(&c->busy, &o, start, end - start, true);
            /* Each view that breaks, or goes while this waits, leaves the copying to the next. */
            while ((v = cbw_recorder(c)) && view_lacks(v, off, n))
                view_copy(v, off, n);
            overlap_end(&c->busy, &o);
        }
        off += n;
        len -= n;
    }
    return acted;
}

static int cbw_submit(struct node *n, struct req *r)
{
    struct cbw *c = n->state;

    if (!c->newest)
        return node_submit(n->child[0], r);
    switch (r->op) {
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        cbw_preserve(c, r->off, r->len);
        break;
    case REQ_TRUNCATE:
        if (r->off < n->child[0]->size)
            cbw_preserve(c, r->off, n->child[0]->size - r->off);
        break;
    default:
        break;
    }
    return node_submit(n->child[0], r);
}

/* A change of the live disk, whose range is still the client's word. */
static bool guard_before(struct node_guard *g, struct node *live, const struct req *r)
{
    struct cbw *c = (struct cbw *)((char *)g - offsetof(struct cbw, guard));
    uint64_t len = r->op == REQ_TRUNCATE ? UINT64_MAX : r->len;

    return r->off < live->size && cbw_preserve(c, r->off, min_u64(len, live->size - r->off));
}

void cbw_guard(struct node *cbw)
{
    struct cbw *c = cbw->state;

    c->guard.before = guard_before;
    node_guard_add(cbw->child[0], &c->guard);
}

void cbw_unguard(struct node *cbw)
{
    struct cbw *c = cbw->state;

    node_guard_remove(cbw->child[0], &c->guard);
}

const struct driver cbw_driver = {
    .name = "cbw",
    .state_size = sizeof(struct cbw),
    .is_filter = true,
    .submit = cbw_submit,
    .fua_ops = ALL_FUA,
};

struct node *cbw_open(struct node *child, struct err **errp)
{
    struct node *n = node_over(&cbw_driver, child, errp);

    if (n)
        ((struct cbw *)n->state)->lock_align = 1;
    return n;
}
