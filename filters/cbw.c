/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copy before write: the node through which a disk is written while frozen views of it exist.
 *
 * Views are chained newest to oldest. A change to the disk first copies, in units, what it is about
 * to destroy, for one view only: the recorder, the newest that somebody may still read. An older
 * view finds it there, because what it lacks itself has not changed between the two instants. A
 * view that is broken (its scratch is full, or something could not be read) stays in the chain, as
 * older ones may need what it has, but the next older one records from then on. So a guest's write
 * never fails for a view's sake, unless the view was asked for so (must_keep).
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

#include <errno.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "io/co.h"
#include "io/reactor.h"

/* A long range is locked and copied in pieces, lest reads of all views wait for one big discard. */
#define PIECE (64 * MiB)

struct cbw_view *cbw_recorder(const struct cbw *c)
{
    struct cbw_view *v = c->newest;

    while (v && (v->broken || v->closing))
        v = v->older;
    return v;
}

static int preserve_piece(struct cbw *c, uint64_t off, uint64_t len)
{
    uint64_t start = round_down(off, c->lock_align), end = round_up(off + len, c->lock_align);
    struct cbw_view *v;
    struct overlap o;
    int ret = 0;

    overlap_begin(&c->busy, &o, start, end - start, true);
    /* Each view that breaks, or goes while this waits, leaves the copying to the next. */
    while (ret == 0 && (v = cbw_recorder(c)) && view_lacks(v, off, len))
        ret = view_copy(v, off, len);
    overlap_end(&c->busy, &o);
    return ret;
}

/* A copy in a coroutine of its own: whoever waits for it may leave before it ends. */
struct timed_copy {
    struct cbw *c;
    uint64_t off, len;
    struct co_queue ended;
    bool done, expired, left;
    int ret;
};

static void timed_run(void *arg)
{
    struct timed_copy *t = arg;
    struct cbw *c = t->c;

    t->ret = preserve_piece(c, t->off, t->len);
    t->done = true;
    if (t->left)
        mem_free(t);
    else
        co_queue_wake_all(&t->ended);
    co_group_done(&c->late);
}

static void timed_expire(void *arg)
{
    struct timed_copy *t = arg;

    t->expired = true;
    co_queue_wake_all(&t->ended);
}

/* The same, but no longer than c's timeout: then the change fails, or the view is lost. */
static int preserve_in_time(struct cbw *c, uint64_t off, uint64_t len)
{
    struct timed_copy *t = mem_new(struct timed_copy);
    struct timer timer = {0};
    struct cbw_view *v;
    int ret;

    if (!t)
        return preserve_piece(c, off, len);
    *t = (struct timed_copy){.c = c, .off = off, .len = len};
    co_group_add(&c->late);
    if (!timer_set(&timer, clock_ns() + (int64_t)c->timeout_ns, timed_expire, t) ||
        !co_start(timed_run, t)) {
        co_group_done(&c->late);
        timer_cancel(&timer);
        mem_free(t);
        return preserve_piece(c, off, len);
    }
    while (!t->done && !t->expired)
        co_queue_wait(&t->ended);
    timer_cancel(&timer);
    ret = t->ret;
    if (t->done) {
        mem_free(t);
        return ret;
    }
    t->left = true;
    v = cbw_recorder(c);
    if (v && v->must_keep)
        return -ETIMEDOUT;
    if (v)
        view_break(v, "old data was not kept in time", ETIMEDOUT);
    return 0;
}

/* Copy for the recorder what [off, off + len) destroys. *acted: it lacked something; else this does
 * not yield. -errno: it cannot be kept and must be. */
static int cbw_preserve(struct cbw *c, uint64_t off, uint64_t len, bool *acted)
{
    int ret = 0;

    *acted = false;
    while (len > 0 && ret == 0) {
        uint64_t n = min_u64(len, PIECE - (off & (PIECE - 1)));
        struct cbw_view *v = cbw_recorder(c);

        if (!v)
            break;
        if (view_lacks(v, off, n)) {
            *acted = true;
            ret = c->timeout_ns ? preserve_in_time(c, off, n) : preserve_piece(c, off, n);
        }
        off += n;
        len -= n;
    }
    return ret;
}

static int cbw_submit(struct node *n, struct req *r)
{
    struct cbw *c = n->state;
    bool acted;
    int ret = 0;

    if (!c->newest)
        return node_submit(n->child[0], r);
    switch (r->op) {
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        ret = cbw_preserve(c, r->off, r->len, &acted);
        break;
    case REQ_TRUNCATE:
        if (r->off < n->child[0]->size)
            ret = cbw_preserve(c, r->off, n->child[0]->size - r->off, &acted);
        break;
    default:
        break;
    }
    return ret < 0 ? ret : node_submit(n->child[0], r);
}

/* A change of the live disk, whose range is still the client's word. */
static bool guard_before(struct node_guard *g, struct node *live, const struct req *r)
{
    struct cbw *c = (struct cbw *)((char *)g - offsetof(struct cbw, guard));
    uint64_t len = r->op == REQ_TRUNCATE ? UINT64_MAX : r->len;
    struct cbw_view *v;
    bool acted;
    int ret;

    if (r->off >= live->size)
        return false;
    ret = cbw_preserve(c, r->off, min_u64(len, live->size - r->off), &acted);
    /* A change that goes past the node which may refuse it. */
    v = ret < 0 ? cbw_recorder(c) : NULL;
    if (v)
        view_break(v, "old data could not be kept", -ret);
    return acted;
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

void cbw_set_timeout(struct node *cbw, uint64_t timeout_ns)
{
    ((struct cbw *)cbw->state)->timeout_ns = timeout_ns;
}

void cbw_wait(struct node *cbw)
{
    co_group_wait(&((struct cbw *)cbw->state)->late);
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
