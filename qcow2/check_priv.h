/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of the checker share.
 */
#ifndef QCOW2_CHECK_PRIV_H
#define QCOW2_CHECK_PRIV_H

#include "qcow2/check.h"
#include "qcow2/inspect_priv.h"

/* --- check_counts.c: references found, for each host cluster --- */

/* Counters of QCC_PAGE clusters, which exist once one of them is in use: a byte each, until one of
 * them needs more. The top bit says that the refcount on disk is one. */
#define QCC_PAGE 32768
struct qcc_page {
    uint8_t *narrow;
    uint16_t *wide; /* if not NULL, instead of narrow */
};
#define QCC_NARROW_ONE 0x80
#define QCC_NARROW_MAX 0x7f
#define QCC_ONE 0x8000
#define QCC_MANY 0x7fff /* the counter is full: the rest is in `over` */

struct qcc_over {
    uint64_t cluster_1, more; /* cluster + 1; references beyond QCC_MANY */
};

struct qcc_counts {
    struct qcc_page *page;
    size_t n_pages;
    struct qcc_over *over; /* open addressing */
    size_t over_cap, over_n;
};

bool qcc_counts_init(struct qcc_counts *c, uint64_t clusters); /* false without memory */
void qcc_counts_free(struct qcc_counts *c);
/* qcc_counts_add: n more references to a cluster. 0 or -ENOMEM. */
int qcc_counts_add(struct qcc_counts *c, uint64_t cluster, uint64_t n);
int qcc_counts_set_one(struct qcc_counts *c, uint64_t cluster);
uint64_t qcc_counts_over(const struct qcc_counts *c, uint64_t cluster);

/* qcc_counts_raw: the counter, as a wide one. */
static inline uint16_t qcc_counts_raw(const struct qcc_counts *c, uint64_t cluster)
{
    const struct qcc_page *p = &c->page[cluster / QCC_PAGE];
    if (p->narrow) {
        uint8_t v = p->narrow[cluster % QCC_PAGE];
        return (uint16_t)((v & QCC_NARROW_ONE) << 8 | (v & QCC_NARROW_MAX));
    }
    return p->wide ? p->wide[cluster % QCC_PAGE] : 0;
}

static inline uint64_t qcc_counts_get(const struct qcc_counts *c, uint64_t cluster)
{
    uint16_t v = qcc_counts_raw(c, cluster) & QCC_MANY;
    return v < QCC_MANY ? v : QCC_MANY + qcc_counts_over(c, cluster);
}

/* qcc_counts_any: is there a counter in this page that is not 0? False: certainly not. */
static inline bool qcc_counts_any(const struct qcc_counts *c, uint64_t page)
{
    return c->page[page].narrow || c->page[page].wide;
}

/* --- check.c --- */

struct qcc_range { /* host clusters that hold metadata and belong to one owner */
    uint64_t first, n;
    const char *what;
};

struct qcc_l2 { /* an L2 table, with how many L1 entries point at it */
    uint64_t cluster, times;
    uint32_t l1_index; /* of one of them, in the active table if active */
    bool active;
};

struct qcc {
    struct node *file;
    const struct qc_check_opts *opts;
    struct qc_check_report *r;
    struct qc_first first;
    unsigned cluster_bits, refcount_order, refblock_bits, l2_entry_shift;
    uint64_t cluster; /* bytes */
    uint64_t n;       /* clusters in the file, the last perhaps cut short */
    bool data_file, extended_l2;
    struct qcc_counts counts;

    uint8_t *reftable; /* as on disk */
    uint64_t reftable_size;
    uint8_t *bad_block; /* for each refcount table entry: its refcounts are not known */

    struct qcc_l2 *l2;
    size_t n_l2, cap_l2;
    struct qcc_range *range;
    size_t n_range, cap_range;
    uint64_t table_bytes; /* of L1 and bitmap tables looked at: cannot be more than the file */

    uint8_t *buf;            /* one cluster */
    uint64_t ext_lo, ext_hi; /* the file from lo to hi is all hole, or all data */
    bool ext_hole;
    uint64_t done, all; /* progress, in tables */
};

void qcc_corrupt(struct qcc *c, uint64_t times, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void qcc_leak(struct qcc *c, uint64_t times, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void qcc_step(struct qcc *c); /* one table is done */
/* qcc_read: len bytes (at most a cluster) of metadata into c->buf. 1, or 0 if they are zeros and
 * nothing was read; -errno. Sparse files are cheap. Yields. */
int qcc_read(struct qcc *c, uint64_t off, uint64_t len);
/* qcc_refer: count a reference to each cluster of [off, off + len). what, entry_off: what refers to
 * them, for messages. 1, or 0 if the range is not inside the file, which was reported. -ENOMEM. */
int qcc_refer(struct qcc *c, uint64_t off, uint64_t len, const char *what, uint64_t entry_off);
/* qcc_refer_table: the same for metadata, which nothing else may refer to; remembers the range. */
int qcc_refer_table(struct qcc *c, uint64_t off, uint64_t len, const char *what,
                    uint64_t entry_off);
/* qcc_table_budget: false if the tables of one kind are together longer than the file, so that they
 * overlap: a hostile image could keep the checker busy for days. */
bool qcc_table_budget(struct qcc *c, uint64_t len);

/* --- check_l2.c, check_l1.c, check_ref.c, check_dirs.c: the passes. 0 or -errno. --- */

int qcc_check_l1(struct qcc *c, uint64_t off, uint64_t size, bool active, const char *owner);
/* qcc_l2_compact: one record for each L2 table, in the order of the file. */
void qcc_l2_compact(struct qcc *c);
int qcc_check_l2_tables(struct qcc *c);
int qcc_load_refblocks(struct qcc *c);
int qcc_compare(struct qcc *c);
int qcc_check_overlaps(struct qcc *c);
int qcc_check_snapshots(struct qcc *c);
int qcc_check_bitmaps(struct qcc *c);
/* qcc_copied_is_wrong: does bit 63 of an active entry disagree with the refcount on disk? */
static inline bool qcc_copied_is_wrong(const struct qcc *c, uint64_t entry, uint64_t cluster)
{
    bool one = (qcc_counts_raw(&c->counts, cluster) & QCC_ONE) != 0;
    uint64_t region = cluster >> c->refblock_bits;
    return one != ((entry & QC_COPIED) != 0) &&
           !(region < c->reftable_size && c->bad_block[region]);
}

#endif
