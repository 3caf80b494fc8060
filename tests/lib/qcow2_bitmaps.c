/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Stored bitmaps, as the judge reads them ("Bitmaps extension", "Bitmap directory", "Bitmap
 * table").
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "tests/lib/qcow2_check_priv.h"

#define MAGIC_BITMAPS 0x23852875u

struct dir {
    uint32_t n;
    uint64_t len, off;
};

/* The extension, if the image vouches for it. */
static bool find_extension(struct qck_image *im, struct dir *d)
{
    uint8_t *h = qck_alloc(im->cluster, 1);
    im->src->read(im->src->arg, 0, h, im->cluster);
    uint64_t backing = get_be64(h + 8);
    uint64_t end = backing && backing < im->cluster ? backing : im->cluster;
    uint64_t at = get_be32(h + 100);
    bool vouched = get_be64(h + 88) & 1, found = false;
    while (im->version == 3 && at + 8 <= end && get_be32(h + at) && !found) {
        if (get_be32(h + at) == MAGIC_BITMAPS && at + 8 + 24 <= im->cluster) {
            found = true;
            *d = (struct dir){get_be32(h + at + 8), get_be64(h + at + 16), get_be64(h + at + 24)};
            if (get_be32(h + at + 4) != 24 || get_be32(h + at + 12) || d->n == 0)
                qck_bad(im->r, "bitmaps extension: malformed");
        }
        at += 8 + round_up(get_be32(h + at + 4), 8);
    }
    if (vouched && !found && im->version == 3)
        qck_bad(im->r, "autoclear bit 0 without a bitmaps extension");
    free(h);
    return vouched && found && im->version == 3;
}

/* What an entry says, checked. */
struct entry {
    uint64_t table_off;
    uint32_t table_size, flags, granularity_bits, name_len;
};

static bool read_entry(struct qck_image *im, const struct dir *d, uint64_t *pos, struct entry *e,
                       char *name)
{
    uint8_t raw[24];
    if (*pos + 24 > d->len) {
        qck_bad(im->r, "bitmap directory: an entry does not fit");
        return false;
    }
    im->src->read(im->src->arg, d->off + *pos, raw, 24);
    *e = (struct entry){get_be64(raw), get_be32(raw + 8), get_be32(raw + 12), raw[17],
                        get_be16(raw + 18)};
    if (raw[16] != 1 || e->flags & ~3u || get_be32(raw + 20) || e->granularity_bits < 9 ||
        e->granularity_bits > 31 || e->name_len == 0 || e->name_len > 1023 || e->table_size == 0) {
        qck_bad(im->r, "bitmap directory: bad entry at 0x%" PRIx64, d->off + *pos);
        return false;
    }
    im->src->read(im->src->arg, d->off + *pos + 24, name, e->name_len);
    name[e->name_len] = '\0';
    *pos += round_up(24 + (uint64_t)e->name_len, 8);
    return true;
}

static void walk_table(struct qck_image *im, const struct entry *e, const char *name)
{
    if (!qck_refer(im, e->table_off, div_round_up((uint64_t)e->table_size * 8, im->cluster),
                   USE_BITMAP, "bitmap table", 0))
        return;
    for (uint32_t i = 0; i < e->table_size; i++) {
        uint8_t raw[8];
        im->src->read(im->src->arg, e->table_off + 8 * (uint64_t)i, raw, 8);
        uint64_t entry = get_be64(raw), off = entry & QCK_OFFSET_MASK;
        if ((entry & UINT64_C(0xff000000000001fe)) || (off && (entry & 1)))
            qck_bad(im->r, "bitmap '%s': table entry 0x%" PRIx64, name, entry);
        if (off)
            qck_refer(im, off, 1, USE_BITMAP, "bitmap table entry", i);
    }
}

void qck_walk_bitmaps(struct qck_image *im)
{
    struct dir d;
    uint64_t pos = 0;
    if (!find_extension(im, &d) ||
        !qck_refer(im, d.off, div_round_up(d.len, im->cluster), USE_BITMAP, "bitmap directory", 0))
        return;
    for (uint32_t i = 0; i < d.n; i++) {
        struct entry e;
        char name[1024];
        if (!read_entry(im, &d, &pos, &e, name))
            return;
        walk_table(im, &e, name);
    }
    if (pos != d.len)
        qck_bad(im->r, "bitmap directory: %" PRIu64 " bytes, entries for %" PRIu64, d.len, pos);
}

static void read_bits(struct qck_image *im, const struct entry *e, struct qck_bitmap *b)
{
    uint8_t *piece = qck_alloc(im->cluster, 1);
    uint64_t per_cluster = im->cluster * 8;
    b->n_bits = div_round_up(im->guest_size, b->granularity);
    b->bits = qck_alloc(b->n_bits, 1);
    if (e->table_size != div_round_up(div_round_up(b->n_bits, 8), im->cluster))
        qck_bad(im->r, "bitmap '%s': a table of %" PRIu32 " entries", b->name, e->table_size);
    for (uint64_t i = 0; i < b->n_bits && i / per_cluster < e->table_size; i++) {
        uint64_t in = i % per_cluster;
        if (in == 0) {
            uint8_t raw[8];
            im->src->read(im->src->arg, e->table_off + 8 * (i / per_cluster), raw, 8);
            uint64_t off = get_be64(raw) & QCK_OFFSET_MASK;
            memset(piece, get_be64(raw) & 1 ? 0xff : 0, im->cluster);
            if (off)
                im->src->read(im->src->arg, off, piece, im->cluster);
        }
        b->bits[i] = piece[in / 8] >> in % 8 & 1;
    }
    free(piece);
}

unsigned qck_bitmaps(const struct qck_source *src, struct qck_bitmap **out, struct qck_report *r)
{
    struct qck_image im = {.src = src, .r = r};
    struct dir d;
    uint64_t pos = 0;
    unsigned n = 0;
    *r = (struct qck_report){0};
    *out = NULL;
    if (!qck_load_header(&im) || !find_extension(&im, &d))
        return 0;
    *out = qck_alloc(d.n, sizeof(**out));
    for (; n < d.n; n++) {
        struct qck_bitmap *b = *out + n;
        struct entry e;
        if (!read_entry(&im, &d, &pos, &e, b->name))
            break;
        b->in_use = e.flags & 1;
        b->enabled = e.flags & 2;
        b->granularity = UINT64_C(1) << e.granularity_bits;
        if (!b->in_use)
            read_bits(&im, &e, b);
    }
    return n;
}

void qck_bitmaps_free(struct qck_bitmap *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        free(v[i].bits);
    free(v);
}
