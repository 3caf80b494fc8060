/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Metadata contexts: which ones a target has, and the extents of NBD_CMD_BLOCK_STATUS.
 *
 * base:allocation comes from the node; its flags are the protocol's (hole 1, zero 2), and so does
 * qemu:allocation-depth, which says how deep in the backing chain the data lies. The contexts
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
#define FIRST_BITMAP_ID 2 /* as QEMU numbers them */

static void offer_map(struct offer *v, unsigned *n, unsigned from, const struct bitmap *b)
{
    v[*n] = (struct offer){
        .prefix = DIRTY_PREFIX, .leaf = b->name, .id = FIRST_BITMAP_ID + *n - from, .map = b};
    ++*n;
}

struct offer *metactx_offers(const struct target *t, unsigned *n_out)
{
    const struct export *e = t->exp;
    unsigned max = 2 + e->n_checkpoints + (t->ckpt ? t->ckpt->n_frozen : t->crash ? 0 : e->n_maps);
    unsigned n = 1, maps_from;

    struct offer *v = mem_array(max, sizeof(*v));
    if (!v)
        return NULL;
    v[0] = (struct offer){.prefix = "base:", .leaf = "allocation", .id = 0};
    if (e->allocation_depth && !t->frozen && !t->crash)
        v[n++] = (struct offer){.prefix = "qemu:", .leaf = "allocation-depth", .id = DEPTH_ID};
    maps_from = n;
    if (t->ckpt) {
        for (unsigned i = 0; i < t->ckpt->n_frozen; i++)
            offer_map(v, &n, maps_from, t->ckpt->frozen[i]);
    } else if (!t->crash) {
        for (unsigned i = 0; i < e->n_maps; i++)
            offer_map(v, &n, maps_from, e->maps[i]);
    }
    if (t->frozen) {
        for (struct checkpoint *k = e->first; k && k != t->ckpt; k = k->next) {
            v[n] = (struct offer){.prefix = DIRTY_PREFIX,
                                  .leaf = k->name,
                                  .id = FIRST_BITMAP_ID + n - maps_from,
                                  .base = k};
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

enum nbd_error metactx_choose(struct slot *s, const uint8_t *p, size_t len, const char **why)
{
    const struct conn *c = s->conn;

    *why = "the payload is not a length and the ids of selected contexts, each once";
    if (len < 8 + 4 || len % 4 || (len - 8) / 4 > c->n_meta)
        return NBD_EINVAL;
    s->wanted = mem_array(c->n_meta, sizeof(*s->wanted));
    if (!s->wanted) {
        *why = NULL;
        return NBD_ENOMEM;
    }
    for (size_t at = 8; at < len; at += 4) {
        unsigned i = 0;

        while (i < c->n_meta && c->meta[i].id != get_be32(p + at))
            i++;
        if (i == c->n_meta || s->wanted[i])
            return NBD_EINVAL;
        s->wanted[i] = true;
    }
    s->wire.len = get_be64(p);
    return NBD_SUCCESS;
}

static bool wanted(const struct slot *s, unsigned i)
{
    return !s->wanted || s->wanted[i];
}

/* Fill one list for each wanted context; the others stay without extents. Yields. */
static int collect(struct slot *s, struct extents *v, unsigned n_wanted)
{
    const struct conn *c = s->conn;
    const struct wire_request *w = &s->wire;
    size_t max = w->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : STATUS_EXTENTS / n_wanted;
    int r = 0;

    for (unsigned i = 0; i < c->n_meta && r == 0; i++) {
        extents_init(&v[i], max > 0 ? max : 1);
        if (!wanted(s, i))
            continue;
        if (c->meta[i].map)
            r = dirty_extents(c->meta[i].map, w->off, w->len, &v[i]);
        else if (c->meta[i].id == DEPTH_ID)
            r = node_depth(c->node, w->off, min_u64(w->len, STATUS_SPAN), &v[i]);
        else
            r = node_status(c->node, w->off, min_u64(w->len, STATUS_SPAN), &v[i]);
        if (r == 0) {
            extents_trim(&v[i], w->len);
            if (v[i].n == 0)
                r = -EIO; /* the node broke its promise of at least one */
        }
    }
    return r;
}

/* "BLOCK_STATUS": the size of one chunk. */
static size_t chunk_size(const struct conn *c, size_t n_extents)
{
    return c->extended ? WIRE_EXT_CHUNK_SIZE + 8 + 16 * n_extents
                       : WIRE_CHUNK_SIZE + 4 + 8 * n_extents;
}

static uint8_t *encode_ext(uint8_t *p, uint32_t id, const struct extents *x)
{
    put_be32(p, id);
    put_be32(p + 4, (uint32_t)x->n);
    p += 8;
    for (size_t k = 0; k < x->n; k++, p += 16) {
        put_be64(p, x->v[k].len);
        put_be64(p + 8, x->v[k].flags);
    }
    return p;
}

/* Extents fit 32 bits because they were trimmed to the request's length. */
static uint8_t *encode_compact(uint8_t *p, uint32_t id, const struct extents *x)
{
    put_be32(p, id);
    p += 4;
    for (size_t k = 0; k < x->n; k++, p += 8) {
        put_be32(p, (uint32_t)x->v[k].len);
        put_be32(p + 4, x->v[k].flags);
    }
    return p;
}

static void encode(struct slot *s, const struct extents *v, unsigned n_wanted)
{
    const struct conn *c = s->conn;
    uint8_t *p = s->buf;

    for (unsigned i = 0; i < c->n_meta; i++) {
        if (!wanted(s, i))
            continue;
        uint16_t flags = --n_wanted == 0 ? NBD_REPLY_FLAG_DONE : 0;
        uint16_t type = c->extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
        size_t whole = chunk_size(c, v[i].n), head = chunk_size(c, 0) - (c->extended ? 8 : 4);

        p += reply_put_chunk(s, p, flags, type, whole - head);
        p = c->extended ? encode_ext(p, c->meta[i].id, &v[i])
                        : encode_compact(p, c->meta[i].id, &v[i]);
    }
}

static unsigned count_wanted(const struct slot *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < s->conn->n_meta; i++)
        n += wanted(s, i);
    return n;
}

int metactx_reply(struct slot *s)
{
    struct conn *c = s->conn;
    struct server *srv = c->srv;
    unsigned n_wanted = count_wanted(s);
    size_t most = n_wanted * chunk_size(c, 1) + chunk_size(c, STATUS_EXTENTS), total = 0;
    int r = -ENOMEM;

    /* Before a place is taken: others must not wait for it until this client reads its replies. */
    conn_reserve(c, most);
    while (srv->status_active >= STATUS_ACTIVE_MAX)
        co_queue_wait(&srv->status_wait);
    srv->status_active++;

    struct extents *v = mem_array(c->n_meta, sizeof(*v));
    if (v)
        r = collect(s, v, n_wanted);
    for (unsigned i = 0; i < c->n_meta && r == 0; i++)
        total += wanted(s, i) ? chunk_size(c, v[i].n) : 0;
    conn_unreserve(c, most); /* nobody else runs until the buffer is counted */
    if (r == 0 && !slot_get_buf(s, total))
        r = -ENOMEM;
    if (r == 0) {
        encode(s, v, n_wanted);
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
