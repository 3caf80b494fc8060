/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The metadata caches: slices of L2 tables and of refcount blocks.
 *
 * A lookup is two array steps from the slice's number (root page, slot), since it stands on the
 * path of every request; pages exist only where something is cached. Replacement is by clock:
 * a hit costs one store. A dirty slice is never evicted: when only dirty ones are left, the whole
 * cache is written back in order (qc_write_back), which costs one barrier per cache-full. Write
 * order is therefore kept in one place, flush.c, also under memory pressure.
 *
 * Pinned slices are never evicted; the cache exceeds its bound only by what is pinned, at most one
 * slice for each request in flight.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

void qc_cache_init(struct qc_cache *c, struct qc *q, const struct qc_cache_ops *ops,
                   unsigned slice_bits, uint64_t max_bytes, uint64_t min_slices)
{
    c->q = q;
    c->ops = ops;
    c->slice_bits = slice_bits;
    c->max = (size_t)max_u64(max_bytes >> slice_bits, min_slices);
}

static void page_clear(struct qc_cache *c, uint64_t index)
{
    struct qc_page *p = c->root[index / QC_PAGE_SLOTS];
    p->v[index % QC_PAGE_SLOTS] = NULL;
    if (--p->used == 0) {
        mem_free(p);
        c->root[index / QC_PAGE_SLOTS] = NULL;
    }
}

static bool page_set(struct qc_cache *c, struct qc_slice *s)
{
    uint64_t p = s->index / QC_PAGE_SLOTS;
    if (p >= c->n_root) {
        size_t n = c->n_root ? c->n_root : 16;
        while (p >= n)
            n *= 2;
        struct qc_page **root = mem_realloc(c->root, n * sizeof(*root));
        if (!root)
            return false;
        memset(root + c->n_root, 0, (n - c->n_root) * sizeof(*root));
        c->root = root;
        c->n_root = n;
    }
    if (!c->root[p] && !(c->root[p] = mem_new(struct qc_page)))
        return false;
    c->root[p]->v[s->index % QC_PAGE_SLOTS] = s;
    c->root[p]->used++;
    return true;
}

static void ring_add(struct qc_cache *c, struct qc_slice *s)
{
    if (!c->hand) {
        s->prev = s->next = s;
        c->hand = s;
    } else { /* just behind the hand: it comes by last */
        s->next = c->hand;
        s->prev = c->hand->prev;
        s->prev->next = s;
        c->hand->prev = s;
    }
    c->n++;
}

static void slice_drop(struct qc_cache *c, struct qc_slice *s)
{
    if (s->next == s)
        c->hand = NULL;
    else if (c->hand == s)
        c->hand = s->next;
    s->prev->next = s->next;
    s->next->prev = s->prev;
    c->n--;
    page_clear(c, s->index);
    mem_free(s->data);
    mem_free(s);
}

static struct qc_slice *slice_new(struct qc_cache *c, uint64_t index)
{
    struct qc_slice *s = mem_new(struct qc_slice);
    if (!s)
        return NULL;
    s->index = index;
    s->data = mem_alloc_aligned((size_t)1 << c->slice_bits, 4096);
    if (!s->data || !page_set(c, s)) {
        mem_free(s->data);
        mem_free(s);
        return NULL;
    }
    ring_add(c, s);
    return s;
}

void qc_cache_destroy(struct qc_cache *c)
{
    while (c->hand)
        slice_drop(c, c->hand);
    mem_free(c->root);
    c->root = NULL;
    c->n_root = 0;
}

void qc_cache_clear(struct qc_cache *c)
{
    c->dirty_head = c->dirty_tail = NULL;
    c->n_dirty = 0;
    while (c->hand)
        slice_drop(c, c->hand);
}

/* Second chance: at most two turns, as the first clears every `hot`. */
static struct qc_slice *find_victim(struct qc_cache *c)
{
    for (size_t i = 0; i < 2 * c->n; i++) {
        struct qc_slice *s = c->hand;
        c->hand = s->next;
        if (s->pins || s->loading || s->dirty_lo < s->dirty_hi)
            continue;
        if (!s->hot)
            return s;
        s->hot = false;
    }
    return NULL;
}

static int make_room(struct qc_cache *c)
{
    while (c->n >= c->max) {
        struct qc_slice *s = find_victim(c);
        if (s) {
            slice_drop(c, s);
            continue;
        }
        /* All dirty or pinned. Whoever is writing back already must not wait for itself. */
        if (!c->n_dirty || c->q->sync_owner == co_self())
            return 0;
        int r = qc_write_back(c->q->node);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Counted as I/O of its epoch: the table must not become somebody else's cluster meanwhile. */
static int slice_load(struct qc_cache *c, struct qc_slice *s)
{
    uint64_t host_off;
    int r = c->ops->locate(c->q, s->index, &host_off);
    if (r < 0)
        return r;
    unsigned epoch = qc_io_begin(c->q);
    if (c->ops->has_load_event)
        node_event(c->q->file, c->ops->load_event);
    r = qc_read_host(c->q, host_off, s->data, UINT64_C(1) << c->slice_bits);
    qc_io_end(c->q, epoch);
    return r;
}

static int cache_get(struct qc_cache *c, uint64_t index, bool zeros, struct qc_slice **out)
{
    for (;;) {
        struct qc_slice *s = qc_cache_find(c, index);
        if (s) {
            *out = s;
            return 0;
        }
        uint64_t p = index / QC_PAGE_SLOTS;
        if (p < c->n_root && c->root[p] && c->root[p]->v[index % QC_PAGE_SLOTS]) {
            co_queue_wait(&c->load_waiters);
            continue;
        }
        size_t n = c->n;
        if (n >= c->max) {
            int r = make_room(c);
            if (r < 0)
                return r;
            if (qc_cache_find(c, index)) /* it may have come while we wrote back */
                continue;
            if (p < c->n_root && c->root[p] && c->root[p]->v[index % QC_PAGE_SLOTS])
                continue;
        }
        s = slice_new(c, index);
        if (!s)
            return -ENOMEM;
        s->hot = true;
        if (zeros) {
            memset(s->data, 0, (size_t)1 << c->slice_bits);
            *out = s;
            return 0;
        }
        s->loading = true;
        int r = slice_load(c, s);
        s->loading = false;
        co_queue_wake_all(&c->load_waiters);
        if (r < 0) {
            slice_drop(c, s);
            return r;
        }
        *out = s;
        return 0;
    }
}

int qc_cache_get(struct qc_cache *c, uint64_t index, struct qc_slice **out)
{
    return cache_get(c, index, false, out);
}

int qc_cache_new(struct qc_cache *c, uint64_t index, struct qc_slice **out)
{
    return cache_get(c, index, true, out);
}

void qc_cache_dirty(struct qc_cache *c, struct qc_slice *s, size_t lo, size_t hi)
{
    if (s->dirty_lo == s->dirty_hi) {
        s->dirty_lo = (uint32_t)lo;
        s->dirty_hi = (uint32_t)hi;
        s->dirty_next = NULL;
        s->dirty_prev = c->dirty_tail;
        if (c->dirty_tail)
            c->dirty_tail->dirty_next = s;
        else
            c->dirty_head = s;
        c->dirty_tail = s;
        c->n_dirty++;
        return;
    }
    if (lo < s->dirty_lo)
        s->dirty_lo = (uint32_t)lo;
    if (hi > s->dirty_hi)
        s->dirty_hi = (uint32_t)hi;
}

static void dirty_remove(struct qc_cache *c, struct qc_slice *s)
{
    if (s->dirty_prev)
        s->dirty_prev->dirty_next = s->dirty_next;
    else
        c->dirty_head = s->dirty_next;
    if (s->dirty_next)
        s->dirty_next->dirty_prev = s->dirty_prev;
    else
        c->dirty_tail = s->dirty_prev;
    s->dirty_lo = s->dirty_hi = 0;
    c->n_dirty--;
}

void qc_cache_forget(struct qc_cache *c, uint64_t index)
{
    struct qc_slice *s = qc_cache_find(c, index);
    if (!s)
        return;
    if (s->dirty_lo < s->dirty_hi)
        dirty_remove(c, s);
    slice_drop(c, s);
}

void qc_cache_set_clean(struct qc_cache *c)
{
    while (c->dirty_head)
        dirty_remove(c, c->dirty_head);
}

/* The copy makes the write a snapshot: refcounts may change again while it is under way. */
static int slice_write(struct qc_cache *c, struct qc_slice *s)
{
    struct qc *q = c->q;
    uint64_t host_off;
    int r = c->ops->locate(q, s->index, &host_off);
    if (r < 0)
        return r;
    node_event(q->file, c->ops->write_event);
    uint32_t size = UINT32_C(1) << c->slice_bits;
    uint32_t lo = s->dirty_lo & ~UINT32_C(511);
    uint32_t hi = (uint32_t)min_u64(round_up(s->dirty_hi, 512), size);
    memcpy(q->bounce, s->data + lo, hi - lo);
    dirty_remove(c, s);
    qc_slice_pin(s); /* clean now, but what is on disk is not yet what it says */
    r = node_write_kind(q->file, host_off + lo, q->bounce, hi - lo, 0, c->ops->kind);
    qc_slice_unpin(s);
    if (r < 0)
        qc_cache_dirty(c, s, lo, hi);
    return r;
}

int qc_cache_write_dirty(struct qc_cache *c)
{
    struct qc_slice *last = c->dirty_tail, *s;
    while ((s = c->dirty_head) != NULL) {
        bool end = s == last;
        int r = slice_write(c, s);
        if (r < 0)
            return r;
        if (end)
            break;
    }
    return 0;
}
