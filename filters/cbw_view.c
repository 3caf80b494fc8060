/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A frozen view as a node: opening, reading, and what it leaves behind when it goes.
 *
 * A view that goes hands what it has to the next older one that may still be read, because that one
 * and all before it have been reading it from there. While that lasts it stays in the chain, and
 * new copies go to the other already.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "filters/cbw_priv.h"

#define UNIT_DEFAULT (64 * KiB)
#define UNIT_MIN 512u
#define UNIT_MAX (16 * MiB)

static struct cbw *view_cbw(const struct cbw_view *v)
{
    return v->cbw->state;
}

/* The first of len bytes at off that may be read, or not, alike. */
static uint64_t view_run(const struct cbw_view *v, uint64_t off, uint64_t len, bool *denied)
{
    uint64_t end;

    *denied = false;
    if (!v->denied || len == 0)
        return len;
    end = hbits_next(v->denied, off >> v->unit_shift, denied);
    return end == hbits_size(v->denied) ? len : min_u64(len, (end << v->unit_shift) - off);
}

/* STATUS must not fail for the view's sake: a client that asks what to read would take that as the
 * end of its backup, while the read itself tells the truth. */
static int view_status(struct cbw_view *v, struct req *r)
{
    uint64_t off = r->off, end = r->off + r->len;

    if (v->broken) {
        int ret = extents_add(r->ext, r->len, 0);

        return ret < 0 ? ret : 0;
    }
    while (off < end) {
        uint32_t flags;
        bool denied;
        uint64_t len = view_run(v, off, end - off, &denied);
        int ret;

        flags = EXTENT_HOLE; /* without content, which nobody may read */
        if (!denied)
            len = view_extent(v, off, len, &flags);
        ret = extents_add(r->ext, len, v->broken ? 0 : flags);

        if (ret < 0 && off == r->off)
            return ret;
        if (ret <= 0)
            break;
        off += len;
    }
    return 0;
}

static int read_op(struct cbw_view *v, const struct req *r)
{
    bool denied;
    int ret;

    if (v->broken)
        return -EIO;
    if (view_run(v, r->off, r->len, &denied) < r->len || denied)
        return -EACCES;
    ret = view_read(v, r->off, r->buf, r->len);
    /* If it broke in the meantime, writes no longer waited for this read. */
    return v->broken ? -EIO : ret;
}

static int view_submit(struct node *n, struct req *r)
{
    struct cbw_view *v = n->state;
    struct cbw *c = view_cbw(v);
    struct overlap o;
    int ret;

    if (r->op != REQ_READ && r->op != REQ_STATUS)
        return r->op == REQ_FLUSH ? 0 : -ENOTSUP;
    overlap_begin(&c->busy, &o, r->off, r->len, false);
    ret = r->op == REQ_STATUS ? view_status(v, r) : read_op(v, r);
    overlap_end(&c->busy, &o);
    return ret;
}

static void lock_all(struct cbw *c, struct overlap *o)
{
    overlap_begin(&c->busy, o, 0, UINT64_MAX, true);
}

/* The view that v's scratch goes to: all that are older and may be read look there next. */
static struct cbw_view *heir(const struct cbw_view *v)
{
    struct cbw_view *w = v->older;

    while (w && (w->broken || w->closing))
        w = w->older;
    return w;
}

/* The next run of units that v has, from *off on; false: no more. At most max bytes. */
static bool next_copied(const struct cbw_view *v, uint64_t *off, uint64_t max, uint64_t *len)
{
    uint64_t unit = *off >> v->unit_shift, end;
    bool copied;

    if (unit >= hbits_size(v->copied))
        return false;
    end = hbits_next(v->copied, unit, &copied);
    if (!copied) {
        if (end == hbits_size(v->copied))
            return false;
        unit = end;
        end = hbits_next(v->copied, unit, &copied);
    }
    *off = max_u64(*off, unit << v->unit_shift);
    end = end == hbits_size(v->copied) ? v->node->size : end << v->unit_shift;
    *len = min_u64(max, end - *off);
    return *len > 0;
}

/* Give what v has to its heir. The heir may change at any time: it can break, or go itself. */
static void hand_over(struct cbw_view *v)
{
    struct cbw *c = view_cbw(v);
    struct cbw_view *to = NULL;
    uint64_t off = 0, len;

    while (heir(v)) {
        uint64_t start, end;
        struct overlap o;

        if (heir(v) != to) {
            to = heir(v);
            off = 0;
        }
        if (!next_copied(v, &off, max_u64(c->lock_align, MiB), &len))
            return;
        if (!view_lacks(to, off, len)) {
            off += len;
            continue;
        }
        start = round_down(off, c->lock_align);
        end = round_up(off + len, c->lock_align);
        overlap_begin(&c->busy, &o, start, end - start, true);
        if (heir(v) == to) {
            view_copy(to, off, len);
            off += len;
        }
        overlap_end(&c->busy, &o);
    }
}

static void view_unlink(struct cbw_view *v)
{
    if (v->newer)
        v->newer->older = v->older;
    else
        view_cbw(v)->newest = v->older;
    if (v->older)
        v->older->newer = v->newer;
}

static void view_free_maps(struct cbw_view *v)
{
    hbits_free(v->copied);
    hbits_free(v->zero);
    hbits_free(v->denied);
}

static void view_close(struct node *n)
{
    struct cbw_view *v = n->state;
    struct overlap o;

    if (!v->cbw)
        return; /* it was never opened */
    /* A copy for v that is under way now will look for a recorder once more before it lets go of
     * its range, and find the heir. So nothing is missed that v is still to get. */
    v->closing = true;
    hand_over(v);
    /* Nobody reads from its scratch any more once everything is locked. */
    lock_all(view_cbw(v), &o);
    view_unlink(v);
    overlap_end(&view_cbw(v)->busy, &o);
    scratch_close(&v->scratch);
    view_free_maps(v);
}

const struct driver cbw_view_driver = {
    .name = "cbw-view",
    .state_size = sizeof(struct cbw_view),
    .submit = view_submit,
    .close = view_close,
};

static bool check_opts(const struct cbw_view_opts *opts, uint64_t *unit, struct err **errp)
{
    *unit = opts->cluster ? opts->cluster : UNIT_DEFAULT;
    if (is_power_of_2(*unit) && *unit >= UNIT_MIN && *unit <= UNIT_MAX)
        return true;
    return err_set(errp, EINVAL,
                   "the copy unit of a view must be a power of 2 from 512 to 16 MiB, not %" PRIu64,
                   *unit);
}

struct node *cbw_view_open(struct node *cbw, const struct cbw_view_opts *opts, struct err **errp)
{
    struct cbw *c = cbw->state;
    struct cbw_view *v;
    struct node *n;
    uint64_t unit;

    assert(cbw->drv == &cbw_driver);
    assert(cbw->in_flight == 0);
    if (!check_opts(opts, &unit, errp))
        return NULL;
    n = node_over(&cbw_view_driver, node_ref(cbw), errp);
    if (!n) {
        node_unref(cbw);
        return NULL;
    }
    v = n->state;
    v->node = n;
    v->unit_shift = __builtin_ctzll(unit);
    v->scratch_limit = opts->scratch_limit;
    n->size = cbw->child[0]->size;
    n->read_only = true;
    n->limits.cluster = cbw->limits.cluster;
    v->copied = hbits_new(div_round_up(n->size, unit));
    v->zero = hbits_new(div_round_up(n->size, unit));
    if (!v->copied || !v->zero) {
        err_set(errp, ENOMEM, "no memory for a view of \"%s\"", cbw->name);
        goto fail;
    }
    if (opts->scratch)
        scratch_use(&v->scratch, opts->scratch, opts->scratch_flags);
    else if (!scratch_open(&v->scratch, opts->scratch_fd, n->size, errp))
        goto fail;
    v->must_keep = opts->must_keep;
    v->on_broken = opts->broken;
    v->on_filling = opts->filling;
    v->arg = opts->arg;

    v->cbw = cbw;
    v->older = c->newest;
    if (c->newest)
        c->newest->newer = v;
    c->newest = v;
    c->lock_align = max_u64(c->lock_align, unit);
    return n;

fail:
    view_free_maps(v);
    node_abandon(n);
    node_unref(cbw);
    return NULL;
}

bool cbw_view_broken(const struct node *view)
{
    return ((const struct cbw_view *)view->state)->broken;
}

uint64_t cbw_view_scratch(const struct node *view)
{
    return ((const struct cbw_view *)view->state)->scratch_used;
}

int cbw_view_error(const struct node *view, bool *reading)
{
    const struct cbw_view *v = view->state;

    if (!v->broken)
        return 0;
    *reading = v->error_reading;
    return v->error;
}

void cbw_view_put(struct node *view, uint64_t off, uint64_t len)
{
    struct cbw_view *v = view->state;
    uint64_t first = off >> v->unit_shift;

    /* Without memory it is copied once more: no harm. */
    (void)hbits_set(v->copied, first,
                    div_round_up(off + len, UINT64_C(1) << v->unit_shift) - first);
}

/* Whole units of [off, off + len): units. */
static uint64_t whole_units(const struct cbw_view *v, uint64_t off, uint64_t len, uint64_t *first)
{
    uint64_t unit = UINT64_C(1) << v->unit_shift, end = off + len;

    *first = div_round_up(off, unit);
    end = end >= v->node->size ? hbits_size(v->copied) : end >> v->unit_shift;
    return end > *first ? end - *first : 0;
}

int cbw_view_deny(struct node *view, uint64_t off, uint64_t len)
{
    struct cbw_view *v = view->state;
    uint64_t first, n = whole_units(v, off, len, &first);
    int ret;

    if (n == 0)
        return 0;
    if (!v->denied)
        v->denied = hbits_new(hbits_size(v->copied));
    ret = v->denied ? hbits_set(v->denied, first, n) : -ENOMEM;
    return ret < 0 ? ret : hbits_set(v->copied, first, n);
}

int cbw_view_release(struct node *view, uint64_t off, uint64_t len)
{
    struct cbw_view *v = view->state;
    uint64_t first, n = whole_units(v, off, len, &first);
    struct overlap o;
    int ret;

    if (n == 0 || heir(v))
        return 0;
    off = first << v->unit_shift;
    len = min_u64(n << v->unit_shift, view->size - off);
    overlap_begin(&view_cbw(v)->busy, &o, off, round_up(len, view_cbw(v)->lock_align), true);
    /* What was written there is not counted back: the limit is on all that a view ever took. */
    ret = heir(v) ? 0 : cbw_view_deny(view, off, len);
    if (ret == 0 && !heir(v))
        scratch_drop(&v->scratch, off, len);
    overlap_end(&view_cbw(v)->busy, &o);
    return ret;
}

uint64_t cbw_view_next(const struct node *view, uint64_t off, bool *has)
{
    const struct cbw_view *v = view->state;
    uint64_t end = hbits_next(v->copied, off >> v->unit_shift, has);

    return end == hbits_size(v->copied) ? v->node->size : end << v->unit_shift;
}

uint64_t cbw_view_done(const struct node *view)
{
    const struct cbw_view *v = view->state;

    uint64_t done = hbits_count(v->copied) << v->unit_shift, n = hbits_size(v->copied);

    if (n > 0 && hbits_test(v->copied, n - 1)) /* the last unit may be cut off */
        done -= (n << v->unit_shift) - v->node->size;
    return done;
}
