/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Metadata contexts: which ones a target has, and the extents of NBD_CMD_BLOCK_STATUS.
 *
 * base:allocation comes from the node; its flags are the protocol's (hole 1, zero 2). The contexts
 * qemu:dirty-bitmap:NAME (dirty 1) come from bitmaps: the export's own, live; in a frozen view
 * their copies of that instant, and for each earlier checkpoint what changed between it and the
 * view.
 *
 * One reply holds at most STATUS_EXTENTS descriptors, shared evenly by the contexts: a shorter
 * answer than asked for is legal and clients go on from its end. Few requests collect at a time, so
 * that the memory for it is bounded too.
 */
#include <errno.h>

#include "base/mem.h"
#include "server/server_priv.h"

#define DIRTY_PREFIX "qemu:dirty-bitmap:"
#define FIRST_BITMAP_ID 2 /* as QEMU numbers them: 1 would be qemu:allocation-depth */

static void offer_map(struct offer *v, unsigned *n, const struct bitmap *b)
{
    v[*n] = (struct offer){
        .prefix = DIRTY_PREFIX, .leaf = b->name, .id = FIRST_BITMAP_ID + *n - 1, .map = b};
    ++*n;
}

struct offer *metactx_offers(const struct target *t, unsigned *n_out)
{
    const struct export *e = t->exp;
    unsigned max = 1 + e->n_checkpoints + (t->ckpt ? t->ckpt->n_frozen : e->n_maps);
    unsigned n = 1;

    struct offer *v = mem_array(max, sizeof(*v));
    if (!v)
        return NULL;
    v[0] = (struct offer){.prefix = "base:", .leaf = "allocation", .id = 0};
    if (t->ckpt) {
        for (unsigned i = 0; i < t->ckpt->n_frozen; i++)
            offer_map(v, &n, t->ckpt->frozen[i]);
    } else {
        for (unsigned i = 0; i < e->n_maps; i++)
            offer_map(v, &n, e->maps[i]);
    }
    if (t->frozen) {
        for (struct checkpoint *k = e->first; k && k != t->ckpt; k = k->next) {
            v[n] = (struct offer){
                .prefix = DIRTY_PREFIX, .leaf = k->name, .id = FIRST_BITMAP_ID + n - 1, .base = k};
            n++;
        }
    }
    *n_out = n;
    return v;
}

/* 0 or -ENOMEM. A range past the bitmap's end is reported dirty: it was never watched. */
static int dirty_extents(const struct bitmap *b, uint64_t off, uint64_t len, struct extents *x)
{
    uint64_t end = off + len;

    while (off < end) {
        bool dirty = true;
        uint64_t to = off < b->size ? min_u64(bitmap_next(b, off, &dirty), end) : end;
        int r = extents_add(x, to - off, dirty);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        off = to;
    }
    return 0;
}

/* Fill one list for each selected context. Yields. */
static int collect(struct slot *s, struct extents *v)
{
    const struct conn *c = s->conn;
    const struct wire_request *w = &s->wire;
    size_t max = w->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : STATUS_EXTENTS / c->n_meta;
    int r = 0;

    for (unsigned i = 0; i < c->n_meta && r == 0; i++) {
        extents_init(&v[i], max > 0 ? max : 1);
        if (c->meta[i].map)
            r = dirty_extents(c->meta[i].map, w->off, w->len, &v[i]);
        else
            r = node_status(c->node, w->off, w->len, &v[i]);
        if (r == 0) {
            extents_trim(&v[i], w->len);
            if (v[i].n == 0)
                r = -EIO; /* the node broke its promise of at least one */
        }
    }
    return r;
}

/* Extents fit 32 bits because they were trimmed to the request's length. */
static void encode(struct slot *s, const struct extents *v)
{
    const struct conn *c = s->conn;
    uint8_t *p = s->buf;

    for (unsigned i = 0; i < c->n_meta; i++) {
        uint32_t payload = (uint32_t)(4 + 8 * v[i].n);

        wire_put_chunk(p, i + 1 == c->n_meta ? NBD_REPLY_FLAG_DONE : 0, NBD_REPLY_TYPE_BLOCK_STATUS,
                       s->wire.cookie, payload);
        put_be32(p + WIRE_CHUNK_SIZE, c->meta[i].id);
        p += WIRE_CHUNK_SIZE + 4;
        for (size_t k = 0; k < v[i].n; k++, p += 8) {
            put_be32(p, (uint32_t)v[i].v[k].len);
            put_be32(p + 4, v[i].v[k].flags);
        }
    }
}

int metactx_reply(struct slot *s)
{
    struct conn *c = s->conn;
    struct server *srv = c->srv;
    size_t most = c->n_meta * (WIRE_CHUNK_SIZE + 4 + 8) + 8 * STATUS_EXTENTS, total = 0;
    int r = -ENOMEM;

    /* Before a place is taken: others must not wait for it until this client reads its replies. */
    conn_reserve(c, most);
    while (srv->status_active >= STATUS_ACTIVE_MAX)
        co_queue_wait(&srv->status_wait);
    srv->status_active++;

    struct extents *v = mem_array(c->n_meta, sizeof(*v));
    if (v)
        r = collect(s, v);
    for (unsigned i = 0; i < c->n_meta && r == 0; i++)
        total += WIRE_CHUNK_SIZE + 4 + 8 * v[i].n;
    conn_unreserve(c, most); /* nobody else runs until the buffer is counted */
    if (r == 0 && !slot_get_buf(s, total))
        r = -ENOMEM;
    if (r == 0) {
        encode(s, v);
        s->iov[0] = (struct iovec){.iov_base = s->buf, .iov_len = total};
        s->n_iov = 1;
    }
    for (unsigned i = 0; v && i < c->n_meta; i++)
        extents_free(&v[i]);
    mem_free(v);
    srv->status_active--;
    if (!co_queue_empty(&srv->status_wait))
        co_queue_wake_one(&srv->status_wait);
    return r;
}
