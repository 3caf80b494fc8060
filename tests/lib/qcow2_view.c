/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading an image's mapping without judging it. Source: qcow2.txt.
 */
#include "tests/lib/qcow2_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "tests/lib/qcow2_check_priv.h"

#define MAX_L1 (UINT64_C(4) << 20)    /* entries */
#define MAX_WORK (UINT64_C(32) << 20) /* bytes: garbage can refer to the same ones very often */
#define COPIED (UINT64_C(1) << 63)
#define COMPRESSED (UINT64_C(1) << 62)
#define RESERVED UINT64_C(0x3f000000000001fe)

struct walk {
    const struct qck_source *src;
    struct qcv *view;
    uint32_t version, bits;
    uint64_t cluster;
    bool data_file, extended;
    uint8_t *l2, *data;
    uint64_t work; /* bytes looked at: where it ends is the same in the same image */
};

static void add(struct walk *w, const struct qcv_item *item)
{
    struct qcv *v = w->view;
    if (v->n == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 64;
        v->v = realloc(v->v, v->cap * sizeof(*v->v));
        if (!v->v)
            abort();
    }
    v->v[v->n++] = *item;
}

static uint64_t get64(struct walk *w, uint64_t off)
{
    uint8_t be[8];
    w->src->read(w->src->arg, off, be, sizeof(be));
    return get_be64(be);
}

static uint64_t hash_of(const uint8_t *p, uint64_t len)
{
    uint64_t h = len;
    for (uint64_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return rng_hash(h);
}

static uint64_t hash_file(struct walk *w, uint64_t off, uint64_t len)
{
    /* The header changes in a repair, whoever else points at it. */
    if (off < w->cluster)
        return 0;
    w->work += len;
    w->src->read(w->src->arg, off, w->data, len);
    return hash_of(w->data, len);
}

static void take_compressed(struct walk *w, struct qcv_item *item, uint64_t entry)
{
    unsigned x = 62 - (w->bits - 8);
    uint64_t off = entry & ((UINT64_C(1) << x) - 1);
    uint64_t len = (((entry & (COMPRESSED - 1)) >> x) + 1) * 512 - off % 512;
    item->entry = entry & ~COPIED;
    if (!w->data_file && off < UINT64_C(1) << 56)
        item->hash = hash_file(w, off, len);
}

static void take_standard(struct walk *w, struct qcv_item *item, uint64_t entry)
{
    uint64_t off = entry & QCK_OFFSET_MASK;
    bool zero = (entry & 1) && w->version >= 3 && !w->extended;
    item->entry = zero ? 1 : entry & ~(COPIED | RESERVED);
    if (w->data_file)
        item->entry |= off ? 0 : entry & COPIED; /* there it tells offset 0 from nothing */
    else if (!zero && off && off % w->cluster == 0)
        item->hash = hash_file(w, off, w->cluster);
}

static void take_l2(struct walk *w, uint32_t table, uint64_t l1_index, uint64_t off)
{
    unsigned step = w->extended ? 16 : 8;
    uint64_t n = w->cluster / step;
    w->src->read(w->src->arg, off, w->l2, w->cluster);
    w->work += w->cluster;
    for (uint64_t i = 0; i < n && w->work < MAX_WORK; i++) {
        struct qcv_item item = {.table = table, .index = l1_index * n + i};
        uint64_t entry = get_be64(w->l2 + i * step);
        item.bitmap = w->extended ? get_be64(w->l2 + i * step + 8) : 0;
        if (entry & COMPRESSED)
            take_compressed(w, &item, entry);
        else if (entry)
            take_standard(w, &item, entry);
        if (item.entry || item.bitmap)
            add(w, &item);
    }
}

static void take_l1(struct walk *w, uint32_t table, uint64_t off, uint64_t n)
{
    n = off < w->cluster ? 0 : n < MAX_L1 ? n : MAX_L1; /* the header is no table */
    for (uint64_t i = 0; i < n && off + i * 8 < w->src->size && w->work < MAX_WORK; i++) {
        uint64_t l2 = get64(w, off + i * 8) & QCK_OFFSET_MASK;
        if (l2 && l2 % w->cluster == 0 && l2 < w->src->size)
            take_l2(w, table, i, l2);
    }
}

/* An entry of zeros, and zeros to the end of the cluster in which it ends, are no snapshots. */
static bool nothing_there(struct walk *w, uint64_t off)
{
    uint64_t end = round_up(off + 40, w->cluster), len = end - off;
    w->src->read(w->src->arg, off, w->data, len);
    for (uint64_t i = 0; i < len; i++)
        if (w->data[i])
            return false;
    return true;
}

static void take_snapshots(struct walk *w, uint64_t off, uint64_t n)
{
    for (uint32_t i = 0; i < n && i < 65536 && off + 40 <= w->src->size + 7; i++) {
        uint8_t e[40], *text = qck_alloc(2, 65536);
        if (nothing_there(w, off)) {
            free(text);
            break;
        }
        w->src->read(w->src->arg, off, e, sizeof(e));
        uint64_t len = (uint64_t)get_be16(e + 12) + get_be16(e + 14), extra = get_be32(e + 36);
        struct qcv_item item = {
            .table = i + 1, .index = UINT64_MAX, .entry = get_be64(e), .bitmap = get_be32(e + 8)};
        uint64_t next = round_up(off + 40 + extra + len, 8);
        /* If its length cannot be true, neither its name nor what follows says anything. */
        bool whole = next <= round_up(w->src->size, 8);
        if (whole)
            w->src->read(w->src->arg, off + 40 + extra, text, len);
        item.hash = hash_of(text, len) ^ hash_of(e, 36);
        free(text);
        off = next;
        add(w, &item);
        if (!whole)
            break;
        if (item.entry % w->cluster == 0)
            take_l1(w, i + 1, item.entry, item.bitmap);
    }
}

void qcv_take(const struct qck_source *src, struct qcv *view)
{
    struct walk w = {.src = src, .view = view};
    uint8_t h[112];
    *view = (struct qcv){0};
    src->read(src->arg, 0, h, sizeof(h));
    w.version = get_be32(h + 4);
    w.bits = get_be32(h + 20);
    if (w.bits < 9 || w.bits > 21)
        return;
    view->readable = true;
    w.cluster = UINT64_C(1) << w.bits;
    w.data_file = w.version >= 3 && (h[79] & 4);
    w.extended = w.version >= 3 && (h[79] & 16);
    w.l2 = qck_alloc(w.cluster, 1);
    w.data = qck_alloc(w.cluster, 3);
    take_l1(&w, 0, get_be64(h + 40), get_be32(h + 36));
    take_snapshots(&w, get_be64(h + 64), get_be32(h + 60));
    free(w.l2);
    free(w.data);
}

void qcv_free(struct qcv *view)
{
    free(view->v);
}

const char *qcv_same(const struct qcv *a, const struct qcv *b)
{
    static char text[256];
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        const struct qcv_item *x = &a->v[i], *y = &b->v[i];
        if (x->table == y->table && x->index == y->index && x->entry == y->entry &&
            x->bitmap == y->bitmap && x->hash == y->hash)
            continue;
        snprintf(text, sizeof(text),
                 "table %" PRIu32 ", cluster %" PRId64 ": 0x%" PRIx64 "/0x%" PRIx64 " (%016" PRIx64
                 ") became table %" PRIu32 ", cluster %" PRId64 ": 0x%" PRIx64 "/0x%" PRIx64
                 " (%016" PRIx64 ")",
                 x->table, (int64_t)x->index, x->entry, x->bitmap, x->hash, y->table,
                 (int64_t)y->index, y->entry, y->bitmap, y->hash);
        return text;
    }
    if (a->n == b->n)
        return NULL;
    snprintf(text, sizeof(text), "%zu entries became %zu", a->n, b->n);
    return text;
}
