/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Guest content of a qcow2 image by an independent translation ("Cluster mapping").
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "tests/lib/qcow2_check_priv.h"

struct walk {
    struct qck_image im;
    uint8_t *l2; /* the table at l2_off */
    uint64_t l2_off;
    uint8_t *packed, *unpacked; /* two clusters, one cluster */
};

/* The L2 entry of a guest cluster; false if its table cannot be there. *map: of its subclusters. */
static bool find_entry(struct walk *w, uint64_t guest_cluster, uint64_t *entry, uint64_t *map)
{
    struct qck_image *im = &w->im;
    uint64_t per_l2 = im->cluster / qck_entry_size(im), l1_index = guest_cluster / per_l2;
    uint8_t raw[8];
    *entry = *map = 0;
    if (l1_index >= im->l1_size) {
        qck_bad(im->r, "guest cluster %" PRIu64 " has no L1 entry", guest_cluster);
        return false;
    }
    im->src->read(im->src->arg, im->l1_off + 8 * l1_index, raw, 8);
    uint64_t off = get_be64(raw) & QCK_OFFSET_MASK;
    if (off == 0)
        return true;
    if (off & (im->cluster - 1) || off >= im->src->size) {
        qck_bad(im->r, "L1 entry %" PRIu64 ": no L2 table can be at 0x%" PRIx64, l1_index, off);
        return false;
    }
    if (off != w->l2_off)
        im->src->read(im->src->arg, off, w->l2, im->cluster);
    w->l2_off = off;
    const uint8_t *e = w->l2 + qck_entry_size(im) * (guest_cluster % per_l2);
    *entry = get_be64(e);
    if (im->extended)
        *map = get_be64(e + 8);
    return true;
}

/* "Compressed Clusters Descriptor". */
static bool read_compressed(struct walk *w, uint64_t entry, uint64_t guest_off, uint8_t *buf,
                            uint64_t len)
{
    struct qck_image *im = &w->im;
    unsigned x = 62 - (im->cluster_bits - 8);
    uint64_t off = entry & ((UINT64_C(1) << x) - 1);
    uint64_t sectors = 1 + ((entry & ((UINT64_C(1) << 62) - 1)) >> x),
             n = sectors * 512 - off % 512;
    im->src->read(im->src->arg, off, w->packed, n);
    if (!qck_unpack(im->compression, w->packed, n, w->unpacked, im->cluster)) {
        qck_bad(im->r, "guest 0x%" PRIx64 ": %" PRIu64 " bytes at 0x%" PRIx64 " do not unpack",
                guest_off, n, off);
        return false;
    }
    memcpy(buf, w->unpacked + (guest_off & (im->cluster - 1)), len);
    return true;
}

static bool read_piece(struct walk *w, uint64_t guest_off, uint8_t *buf, uint64_t len)
{
    struct qck_image *im = &w->im;
    uint64_t entry, map;
    if (!find_entry(w, guest_off >> im->cluster_bits, &entry, &map))
        return false;
    uint64_t off = entry & QCK_OFFSET_MASK;
    if (im->data_file) {
        bool place = off || entry >> 63;
        if (!place || (entry & 1) || off != round_down(guest_off, im->cluster) ||
            (im->extended && !(map >> ((guest_off & (im->cluster - 1)) / (im->cluster / 32)) & 1)))
            memset(buf, 0, len);
        else
            im->src->read(im->src->arg, im->src->second + guest_off, buf, len);
        return true;
    }
    if (entry & UINT64_C(1) << 62)
        return read_compressed(w, entry, guest_off, buf, len);
    bool none = im->extended ? !(map >> ((guest_off & (im->cluster - 1)) / (im->cluster / 32)) & 1)
                             : off == 0 || entry & 1;
    if (none) {
        memset(buf, 0, len);
        return true;
    }
    if (off & (im->cluster - 1) || off >= im->src->size) {
        qck_bad(im->r, "guest 0x%" PRIx64 ": no cluster can be at 0x%" PRIx64, guest_off, off);
        return false;
    }
    im->src->read(im->src->arg, off + (guest_off & (im->cluster - 1)), buf, len);
    return true;
}

bool qck_read(const struct qck_source *src, uint64_t guest_off, void *buf, uint64_t len,
              struct qck_report *r)
{
    struct walk w = {.im = {.src = src, .r = r}};
    bool ok =
        qck_load_header(&w.im) && (!src->snapshot || qck_snapshot_enter(&w.im, src->snapshot));
    if (ok) {
        w.l2 = qck_alloc(w.im.cluster, 1);
        w.packed = qck_alloc(w.im.cluster, 2);
        w.unpacked = qck_alloc(w.im.cluster, 1);
    }
    for (uint64_t pos = 0; ok && pos < len;) {
        uint64_t at = guest_off + pos;
        uint64_t unit = w.im.extended ? w.im.cluster / 32 : w.im.cluster;
        uint64_t step = min_u64(len - pos, unit - (at & (unit - 1)));
        ok = read_piece(&w, at, (uint8_t *)buf + pos, step);
        pos += step;
    }
    free(w.l2);
    free(w.packed);
    free(w.unpacked);
    return ok;
}
