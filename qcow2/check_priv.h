/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of the checker share.
 */
#ifndef QCOW2_CHECK_PRIV_H
#define QCOW2_CHECK_PRIV_H

#include "qcow2/check.h"
#include "qcow2/inspect_priv.h"

/* --- check_counts.c: references found, for each host cluster --- */

#define QCC_PAGE 32768 /* clusters of one page, a multiple of 64 */
struct qcc_word {      /* 64 clusters: bit i of each is about cluster i */
    uint64_t one;      /* the refcount on disk is one */
    uint64_t lo, hi;   /* references found: 0 to 3 */
};
#define QCC_NARROW_MAX 3
struct qcc_page {
    struct qcc_word *word;
    uint16_t *wide; /* if not NULL, instead of word: 15 bits of references, and the bit "one" */
};
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
/* qcc_counts_add: n more references to a cluster; add_run: to each of len clusters. 0 or -ENOMEM.
 * qcc_counts_drop: one fewer, if there is one. */
int qcc_counts_add(struct qcc_counts *c, uint64_t cluster, uint64_t n);
int qcc_counts_add_run(struct qcc_counts *c, uint64_t first, uint64_t len, uint64_t n);
void qcc_counts_drop(struct qcc_counts *c, uint64_t cluster);
/* qcc_counts_set_ones: bit i of ones: cluster first + i has refcount one on disk. first is a
 * multiple of 64. qcc_counts_all_ones: have all of them? */
int qcc_counts_set_ones(struct qcc_counts *c, uint64_t first, uint64_t ones);
bool qcc_counts_all_ones(const struct qcc_counts *c, uint64_t first, uint64_t len);
uint64_t qcc_counts_over(const struct qcc_counts *c, uint64_t cluster);

static inline uint16_t qcc_word_get(const struct qcc_word *w, unsigned bit)
{
    return (uint16_t)((w->one >> bit & 1) << 15 | (w->hi >> bit & 1) << 1 | (w->lo >> bit & 1));
}

/* qcc_counts_raw: the counter, as a wide one. */
static inline uint16_t qcc_counts_raw(const struct qcc_counts *c, uint64_t cluster)
{
    const struct qcc_page *p = &c->page[cluster / QCC_PAGE];
    if (p->word)
        return qcc_word_get(&p->word[cluster % QCC_PAGE / 64], cluster % 64);
    return p->wide ? p->wide[cluster % QCC_PAGE] : 0;
}

static inline uint64_t qcc_counts_get(const struct qcc_counts *c, uint64_t cluster)
{
    uint16_t v = qcc_counts_raw(c, cluster) & QCC_MANY;
    return v < QCC_MANY ? v : QCC_MANY + qcc_counts_over(c, cluster);
}

/* --- check.c --- */

struct qcc_range { /* host clusters that hold metadata and belong to one owner */
    uint64_t first, n;
    const char *what;
};

enum qcc_block { /* what is known of a refcount block */
                 QCC_BLOCK_BAD =
                     1, /* it cannot be where the entry says: its refcounts are not known */
                 QCC_BLOCK_OTHER =
                     2, /* it holds a refcount other than 0 and 1: the bit "one" is not enough */
};

struct qcc_l2 { /* an L2 table, with how many L1 entries point at it */
    uint64_t cluster, times;
    uint32_t l1_index; /* of one of them, in the active table if active */
    bool active;
};

struct qcc_l1 { /* an L1 table that was followed */
    uint64_t off, bytes;
    bool active;
};

/* What the check learnt of the snapshot table. */
struct qcc_snapshots {
    uint32_t n;     /* entries that can be kept */
    uint64_t bytes; /* of these */
    bool rewrite;   /* the table has to be written anew: overhang, or extra data of a wrong size */
};

struct qcc_snapshot { /* an entry of the snapshot table, as stored */
    uint64_t off, len;
    uint64_t l1_off;
    uint32_t l1_size, extra_len;
    uint32_t id_len, name_len;
    bool zeros; /* all of it: a snapshot of nothing, or no snapshot */
};

struct qcc {
    struct node *file;
    const struct qc_check_opts *opts;
    struct qc_check_report *r;
    struct qc_first first;
    struct qc_header_flaws flaws;
    unsigned cluster_bits, refcount_order, refblock_bits, l2_entry_shift;
    uint64_t cluster; /* bytes */
    uint64_t n;       /* clusters in the file, the last perhaps cut short */
    bool data_file, extended_l2;
    struct qcc_counts counts;

    uint8_t *reftable; /* as on disk */
    uint64_t reftable_size;
    bool reftable_counted; /* it is inside the file, and its clusters are counted */
    uint8_t *block;        /* for each refcount table entry: enum qcc_block */

    struct qcc_l2 *l2;
    size_t n_l2, cap_l2;
    struct qcc_l1 *l1;
    size_t n_l1, cap_l1;
    struct qcc_snapshots snapshots;
    /* References past the end of the file. What may have been lost with the file's last extension
     * is believed: need_end is where the file would have to end, 0 if it need not grow. The rest is
     * nonsense; the lowest one is at `far`. */
    uint64_t need_end, far;
    /* Something that may refer to clusters could not be followed: a cluster without references may
     * be in use. */
    bool incomplete;
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
/* qcc_new: read the header and prepare. NULL and *errp. qcc_run: all passes. Both yield. */
struct qcc *qcc_new(struct node *file, const struct qc_check_opts *opts, struct qc_check_report *r,
                    struct err **errp);
bool qcc_run(struct qcc *c, struct err **errp);
void qcc_free(struct qcc *c);
/* qcc_not_followed: a table at [off, off + len) is left alone, whatever it refers to. */
void qcc_not_followed(struct qcc *c, uint64_t off, uint64_t len);
/* qcc_past_end: a reference to [off, off + len), which is not inside the file, was found. */
void qcc_past_end(struct qcc *c, uint64_t off, uint64_t len);
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
/* qcc_hole: 1: these metadata are zeros, and nothing was read; 0: they are data; -errno. Yields. */
int qcc_hole(struct qcc *c, uint64_t off, uint64_t len);

static inline uint64_t qcc_reftable_get(const struct qcc *c, uint64_t i)
{
    return i < c->reftable_size ? get_be64(c->reftable + i * 8) : 0;
}

/* --- check_ones.c --- */

/* qcc_ones: which of the refcounts [first, first + n) of a block are one; n is at most 64. *other:
 * set if one of them is larger. */
uint64_t qcc_ones(unsigned order, const uint8_t *block, uint64_t first, unsigned n, bool *other);

/* --- check_l2.c, check_l1.c, check_ref.c, check_dirs.c: the passes. 0 or -errno. --- */

int qcc_check_l1(struct qcc *c, uint64_t off, uint64_t size, bool active, const char *owner);
/* qcc_l2_compact: one record for each L2 table, in the order of the file. */
void qcc_l2_compact(struct qcc *c);
int qcc_check_l2_tables(struct qcc *c);
int qcc_load_refblocks(struct qcc *c);
int qcc_compare(struct qcc *c);
int qcc_check_overlaps(struct qcc *c);
int qcc_check_snapshots(struct qcc *c);
/* qcc_snapshot_read: entry i, at byte pos of the snapshot table. 1, or 0 if it is not inside the
 * file and the limits; s->len is then 0 if there is nothing there at all. -errno. Yields. */
int qcc_snapshot_read(struct qcc *c, uint32_t i, uint64_t pos, struct qcc_snapshot *s);
#define QCC_SNAPSHOT_ENTRY 40 /* bytes, without what has variable length */
#define QCC_EXTRA_V3 16       /* version 3 must have so many bytes of extra data */
#define QCC_EXTRA_MAX 1024
int qcc_check_bitmaps(struct qcc *c);
/* qcc_entry_is_zero: a standard L2 entry that reads as zeros whatever its offset says. */
static inline bool qcc_entry_is_zero(const struct qcc *c, uint64_t entry)
{
    return (entry & QC_ZERO) && c->first.h.version >= 3 && !c->extended_l2;
}

/* qcc_copied_is_wrong: does bit 63 of an active entry disagree with the refcount on disk? */
static inline bool qcc_copied_is_wrong(const struct qcc *c, uint64_t entry, uint64_t cluster)
{
    bool one = (qcc_counts_raw(&c->counts, cluster) & QCC_ONE) != 0;
    uint64_t region = cluster >> c->refblock_bits;
    return one != ((entry & QC_COPIED) != 0) &&
           !(region < c->reftable_size && (c->block[region] & QCC_BLOCK_BAD));
}

#endif
