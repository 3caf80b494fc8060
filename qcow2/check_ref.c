/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking refcounts. Source: qcow2.txt, "Host cluster management".
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "qcow2/check_priv.h"

/* Whether a refcount block can be where its entry says. Reports why not. */
static bool block_is_good(struct qcc *c, uint64_t i, uint64_t entry)
{
    const char *why = NULL;
    if (entry & QC_REFTABLE_RESERVED)
        why = "reserved bits";
    else if (!is_aligned(entry, c->cluster))
        why = "the refcount block is not aligned to a cluster";
    else if (entry >= c->file->size)
        why = "the refcount block is past the end of the file";
    else if (qcc_counts_get(&c->counts, entry >> c->cluster_bits) > 0) /* no one else yet */
        why = "another entry has the same refcount block";
    if (why)
        qcc_corrupt(c, 1, "refcount table entry %" PRIu64 " at 0x%" PRIx64 " is 0x%" PRIx64 ": %s",
                    i, c->first.h.reftable_off + i * 8, entry, why);
    return !why;
}

static int load_block(struct qcc *c, uint64_t i, uint64_t entry)
{
    uint64_t base = i << c->refblock_bits, per_block = UINT64_C(1) << c->refblock_bits;
    bool other = false;
    int r = qcc_counts_add(&c->counts, entry >> c->cluster_bits, 1);
    if (r < 0)
        return r;
    if (base >= c->n)
        return 0;
    r = qcc_read(c, entry, c->cluster);
    if (r <= 0)
        return r;
    uint64_t n = min_u64(per_block, c->n - base);
    for (uint64_t k = 0; k < n; k += 64) {
        uint64_t ones =
            qcc_ones(c->refcount_order, c->buf, k, (unsigned)min_u64(64, n - k), &other);
        r = qcc_counts_set_ones(&c->counts, base + k, ones);
        if (r < 0)
            return r;
    }
    if (other)
        c->block[i] |= QCC_BLOCK_OTHER;
    return 0;
}

int qcc_load_refblocks(struct qcc *c)
{
    for (uint64_t i = 0; i < c->reftable_size; i++) {
        uint64_t entry = qcc_reftable_get(c, i);
        if (!entry)
            continue;
        if (!block_is_good(c, i, entry)) {
            c->block[i] = QCC_BLOCK_BAD;
            continue;
        }
        int r = load_block(c, i, entry);
        if (r < 0)
            return r;
        qcc_step(c);
    }
    return 0;
}

/* The refcount on disk of one cluster. 0 or -errno. */
static int refcount_of(struct qcc *c, uint64_t cluster, uint64_t *value)
{
    uint64_t region = cluster >> c->refblock_bits, entry = qcc_reftable_get(c, region);
    uint64_t bit = (cluster & ((UINT64_C(1) << c->refblock_bits) - 1)) << c->refcount_order;
    uint8_t buf[8] = {0};
    *value = 0;
    if (!entry || (c->block[region] & QCC_BLOCK_BAD))
        return 0;
    int r = qc_bytes_read(c->file, entry + bit / 64 * 8, buf, sizeof(buf));
    *value = qc_ref_read(c->refcount_order, buf, bit % 64 >> c->refcount_order);
    return r;
}

/* A second reference that the refcount knows of is not found by comparing. always: report it also
 * if it will be (a refcount block counts twice, as in qemu-img: neither its own refcount nor those
 * in it can be trusted). */
static int check_alone(struct qcc *c, uint64_t cluster, uint64_t expected, bool always,
                       const char *what)
{
    uint64_t refs = qcc_counts_get(&c->counts, cluster), count;
    if (refs <= expected)
        return 0;
    int r = refcount_of(c, cluster, &count);
    if (r == 0 && (always || count >= refs))
        qcc_corrupt(c, 1,
                    "cluster at 0x%" PRIx64 ": holds %s, but has %" PRIu64
                    " references where %" PRIu64 " are possible",
                    cluster << c->cluster_bits, what, refs, expected);
    return r;
}

int qcc_check_overlaps(struct qcc *c)
{
    int r = 0;
    for (size_t i = 0; i < c->n_range && r == 0; i++)
        for (uint64_t k = 0; k < c->range[i].n && r == 0; k++)
            r = check_alone(c, c->range[i].first + k, 1, false, c->range[i].what);
    for (size_t i = 0; i < c->n_l2 && r == 0; i++)
        r = check_alone(c, c->l2[i].cluster, c->l2[i].times, false, "an L2 table");
    for (uint64_t i = 0; i < c->reftable_size && r == 0; i++) {
        uint64_t entry = qcc_reftable_get(c, i);
        if (entry && !(c->block[i] & QCC_BLOCK_BAD))
            r = check_alone(c, entry >> c->cluster_bits, 1, true, "a refcount block");
    }
    return r;
}

struct run { /* clusters in a row whose refcount is wrong in the same way */
    uint64_t first, n, count, refs;
};

static void run_end(struct qcc *c, struct run *run)
{
    char size[48] = "";
    if (run->n > 1)
        snprintf(size, sizeof(size), "%" PRIu64 " clusters from", run->n);
    else
        snprintf(size, sizeof(size), "cluster at");
    if (run->n && run->refs > run->count)
        qcc_corrupt(
            c, run->n, "%s 0x%" PRIx64 ": refcount %" PRIu64 ", but %" PRIu64 " reference%s", size,
            run->first << c->cluster_bits, run->count, run->refs, run->refs == 1 ? "" : "s");
    else if (run->n)
        qcc_leak(c, run->n,
                 "%s 0x%" PRIx64 ": leaked: refcount %" PRIu64 ", but %" PRIu64 " reference%s",
                 size, run->first << c->cluster_bits, run->count, run->refs,
                 run->refs == 1 ? "" : "s");
    run->n = 0;
}

static void run_add(struct qcc *c, struct run *run, uint64_t cluster, uint64_t count, uint64_t refs)
{
    if (run->n && (run->first + run->n != cluster || run->count != count || run->refs != refs))
        run_end(c, run);
    if (run->n++ == 0) {
        run->first = cluster;
        run->count = count;
        run->refs = refs;
    }
}

/* Compare clusters [from, to), all of one refcount block and one page of counters. What is on disk
 * is in c->buf, or (block is not OTHER) all said by the bits "one". */
static void compare_part(struct qcc *c, uint64_t from, uint64_t to, unsigned block, struct run *run)
{
    uint64_t mask = (UINT64_C(1) << c->refblock_bits) - 1;
    for (uint64_t k = from; k < to; k++) {
        uint64_t refs = qcc_counts_get(&c->counts, k);
        uint64_t count = block & QCC_BLOCK_OTHER ? qc_ref_read(c->refcount_order, c->buf, k & mask)
                                                 : (qcc_counts_raw(&c->counts, k) & QCC_ONE) != 0;
        if (refs || count)
            c->r->image_end_offset = (k + 1) << c->cluster_bits;
        if (refs != count && !(block & QCC_BLOCK_BAD))
            run_add(c, run, k, count, refs);
    }
}

/* The same, 64 at a time as long as all refcounts are 0 or 1 and right. */
static void compare_plain(struct qcc *c, uint64_t from, uint64_t to, unsigned block,
                          struct run *run)
{
    const struct qcc_page *p = &c->counts.page[from / QCC_PAGE];
    for (uint64_t k = from; k < to; k += 64) {
        const struct qcc_word *w = &p->word[k % QCC_PAGE / 64];
        uint64_t n = min_u64(64, to - k);
        if ((block & QCC_BLOCK_BAD) || n < 64 || w->hi || w->lo != w->one)
            compare_part(c, k, k + n, block, run);
        else if (w->lo)
            c->r->image_end_offset = (k + 64 - (unsigned)__builtin_clzll(w->lo)) << c->cluster_bits;
    }
}

int qcc_compare(struct qcc *c)
{
    struct run run = {0};
    uint64_t per_block = UINT64_C(1) << c->refblock_bits, loaded = UINT64_MAX;
    /* A last compressed cluster may touch, by its rounded length, the one behind the file's end. */
    uint64_t n = c->n + (qcc_counts_get(&c->counts, c->n) > 0);

    for (uint64_t k = 0; k < n;) {
        uint64_t region = k >> c->refblock_bits, page = k / QCC_PAGE;
        uint64_t end = min_u64(n, (page + 1) * QCC_PAGE);
        unsigned block = 0;
        if (region < c->reftable_size) {
            end = min_u64(end, (region + 1) * per_block);
            block = c->block[region];
        }
        if ((block & QCC_BLOCK_OTHER) && region != loaded) {
            int r = qc_bytes_read(c->file, qcc_reftable_get(c, region), c->buf, c->cluster);
            if (r < 0)
                return r;
            loaded = region;
            qcc_step(c);
        }
        if (!(block & QCC_BLOCK_OTHER) && c->counts.page[page].word)
            compare_plain(c, k, end, block, &run);
        else if ((block & QCC_BLOCK_OTHER) || c->counts.page[page].wide)
            compare_part(c, k, end, block, &run);
        k = end;
    }
    run_end(c, &run);
    return 0;
}
