/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking L1 tables. The L2 tables they point at are only noted, with how often: check_l2.c walks
 * each of them once. Source: qcow2.txt, "Cluster mapping".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "qcow2/check_priv.h"

static int by_cluster(const void *a, const void *b)
{
    const struct qcc_l2 *x = a, *y = b;
    if (x->cluster != y->cluster)
        return x->cluster < y->cluster ? -1 : 1;
    return (int)y->active - (int)x->active; /* an active one first */
}

void qcc_l2_compact(struct qcc *c)
{
    size_t n = 0;
    if (c->n_l2)
        qsort(c->l2, c->n_l2, sizeof(*c->l2), by_cluster);
    for (size_t i = 0; i < c->n_l2; i++) {
        if (n && c->l2[n - 1].cluster == c->l2[i].cluster)
            c->l2[n - 1].times += c->l2[i].times;
        else
            c->l2[n++] = c->l2[i];
    }
    c->n_l2 = n;
}

static int note_l2(struct qcc *c, uint64_t cluster, uint64_t index, bool active)
{
    if (c->n_l2 == c->cap_l2) {
        qcc_l2_compact(c);
        if (c->n_l2 * 2 >= c->cap_l2) {
            size_t cap = c->cap_l2 ? c->cap_l2 * 2 : 1024;
            struct qcc_l2 *v = mem_realloc(c->l2, cap * sizeof(*v));
            if (!v)
                return -ENOMEM;
            c->l2 = v;
            c->cap_l2 = cap;
        }
    }
    c->l2[c->n_l2++] = (struct qcc_l2){
        .cluster = cluster, .times = 1, .l1_index = (uint32_t)index, .active = active};
    return 0;
}

static int check_entry(struct qcc *c, uint64_t entry, uint64_t at, uint64_t index, bool active,
                       const char *owner)
{
    uint64_t off = entry & QC_OFFSET_MASK;

    if (entry & QC_L1_RESERVED)
        qcc_corrupt(c, 1, "%s: entry %" PRIu64 " at 0x%" PRIx64 " is 0x%" PRIx64 ": reserved bits",
                    owner, index, at, entry);
    if (off == 0) {
        if (entry & QC_COPIED)
            qcc_corrupt(c, 1,
                        "%s: entry %" PRIu64 " at 0x%" PRIx64 " is 0x%" PRIx64
                        ": COPIED without an L2 table",
                        owner, index, at, entry);
        return 0;
    }
    if (!is_aligned(off, c->cluster)) {
        qcc_corrupt(c, 1,
                    "%s: entry %" PRIu64 " at 0x%" PRIx64 " is 0x%" PRIx64
                    ": the L2 table is not aligned to a cluster",
                    owner, index, at, entry);
        c->incomplete = true;
        return 0;
    }
    int r = qcc_refer(c, off, c->cluster, "L1 entry", at);
    if (r <= 0)
        return r;
    if (active && qcc_copied_is_wrong(c, entry, off >> c->cluster_bits))
        qcc_corrupt(c, 1,
                    "%s: entry %" PRIu64 " at 0x%" PRIx64 " is 0x%" PRIx64
                    ": COPIED is %d, but the refcount is%s one",
                    owner, index, at, entry, (int)(entry >> 63), entry >> 63 ? " not" : "");
    return note_l2(c, off >> c->cluster_bits, index, active);
}

static int note_l1(struct qcc *c, uint64_t off, uint64_t bytes, bool active)
{
    if (c->n_l1 == c->cap_l1) {
        size_t cap = c->cap_l1 ? c->cap_l1 * 2 : 4;
        struct qcc_l1 *v = mem_realloc(c->l1, cap * sizeof(*v));
        if (!v)
            return -ENOMEM;
        c->l1 = v;
        c->cap_l1 = cap;
    }
    c->l1[c->n_l1++] = (struct qcc_l1){.off = off, .bytes = bytes, .active = active};
    return 0;
}

int qcc_check_l1(struct qcc *c, uint64_t off, uint64_t size, bool active, const char *owner)
{
    uint64_t bytes = size * 8;
    if (size == 0)
        return 0;
    if (!qcc_table_budget(c, bytes)) {
        qcc_corrupt(c, 1, "%s at 0x%" PRIx64 ": L1 tables overlap; not followed", owner, off);
        qcc_not_followed(c, off, bytes);
        return 0;
    }
    int r =
        qcc_refer_table(c, off, bytes, active ? "the L1 table" : "an L1 table of a snapshot", off);
    if (r > 0)
        r = note_l1(c, off, bytes, active) < 0 ? -ENOMEM : 1;
    if (r <= 0)
        return r;
    for (uint64_t done = 0; done < bytes; done += c->cluster) {
        uint64_t part = min_u64(bytes - done, c->cluster);
        r = qcc_read(c, off + done, part);
        if (r < 0)
            return r;
        for (uint64_t i = 0; r > 0 && i < part; i += 8) {
            uint64_t entry = get_be64(c->buf + i);
            if (!entry)
                continue;
            int ret = check_entry(c, entry, off + done + i, (done + i) / 8, active, owner);
            if (ret < 0)
                return ret;
        }
    }
    return 0;
}
