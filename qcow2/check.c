/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The checker: which passes there are, and what they share.
 *
 *  1. The refcount blocks: which clusters have refcount one (for the COPIED flags), and whether the
 *     blocks themselves can be.
 *  2. Everything that refers to a cluster is followed, and counted: header, L1 tables of the image
 *     and of its snapshots, L2 tables, refcount table, snapshot table, bitmaps. An L2 table that
 *     several L1 entries share is walked once, with their number: this makes an image with many
 *     snapshots cheap, and a hostile one harmless.
 *  3. The refcount blocks again: is each refcount what was counted?
 *
 * What is counted, and as what, follows qemu-img check. Beyond it: metadata that shares a cluster
 * with anything else is corruption even if the refcount allows for both.
 */
#include "qcow2/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "qcow2/check_priv.h"

#define MAX_CLUSTERS (UINT64_C(1) << 36)
#define PROGRESS_STEP 64

static void tell(struct qcc *c, bool leak, const char *fmt, va_list ap)
{
    char text[512];
    if (!c->opts->found)
        return;
    vsnprintf(text, sizeof(text), fmt, ap);
    c->opts->found(c->opts->arg, leak, text);
}

void qcc_corrupt(struct qcc *c, uint64_t times, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell(c, false, fmt, ap);
    va_end(ap);
    c->r->corruptions += times;
}

void qcc_leak(struct qcc *c, uint64_t times, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tell(c, true, fmt, ap);
    va_end(ap);
    c->r->leaks += times;
}

void qcc_step(struct qcc *c)
{
    c->done++;
    if (c->opts->progress && c->all && c->done % PROGRESS_STEP == 0)
        c->opts->progress(c->opts->arg, min_u64(c->done, c->all), c->all);
}

/* Finds out once what a stretch of the file is: tables come in ascending order. */
static int find_extent(struct qcc *c, uint64_t off)
{
    struct extents x;
    extents_init(&x, 1);
    int r = node_status(c->file, off, c->file->size - off, &x);
    c->ext_lo = off;
    c->ext_hi = r == 0 && x.n > 0 ? off + x.v[0].len : off;
    c->ext_hole = r == 0 && x.n > 0 && (x.v[0].flags & EXTENT_ZERO);
    extents_free(&x);
    return r;
}

int qcc_hole(struct qcc *c, uint64_t off, uint64_t len)
{
    if (off >= c->file->size)
        return 1;
    if (off < c->ext_lo || off >= c->ext_hi) {
        int r = find_extent(c, off);
        if (r < 0)
            return r;
    }
    return c->ext_hole && min_u64(off + len, c->file->size) <= c->ext_hi;
}

int qcc_read(struct qcc *c, uint64_t off, uint64_t len)
{
    int r = qcc_hole(c, off, len);
    if (r != 0)
        return r < 0 ? r : 0;
    r = qc_bytes_read(c->file, off, c->buf, len);
    return r < 0 ? r : 1;
}

/* How far past its end a file may plausibly have reached: room for all of the guest disk once more.
 */
static uint64_t believable_end(const struct qcc *c)
{
    uint64_t regions = QC_MAX_REFTABLE_BYTES / 8, size = c->first.h.size;
    uint64_t end = (c->n << c->cluster_bits) + size + size / 8 + 16 * c->cluster;
    end = min_u64(end, regions << c->refblock_bits << c->cluster_bits);
    return min_u64(end, min_u64(QC_MAX_HOST_OFF, MAX_CLUSTERS << c->cluster_bits));
}

void qcc_not_followed(struct qcc *c, uint64_t off, uint64_t len)
{
    c->incomplete = true;
    if (off >= c->file->size || len > c->file->size - off)
        c->far = min_u64(c->far, off); /* nothing new may be placed behind the file */
}

void qcc_past_end(struct qcc *c, uint64_t off, uint64_t len)
{
    uint64_t end = believable_end(c);
    if (off <= end && len <= end - off) {
        c->need_end = max_u64(c->need_end, round_up(off + len, c->cluster));
    } else {
        c->far = min_u64(c->far, off);
        c->incomplete = true;
    }
}

int qcc_refer(struct qcc *c, uint64_t off, uint64_t len, const char *what, uint64_t entry_off)
{
    if (len == 0)
        return 1;
    /* A file may end within its last cluster, but not before it. */
    if (off >= c->file->size || len > c->file->size - off + (c->cluster - 1)) {
        qcc_corrupt(c, 1,
                    "%s at 0x%" PRIx64 ": refers to 0x%" PRIx64 " (%" PRIu64
                    " bytes), past the end of the file at 0x%" PRIx64,
                    what, entry_off, off, len, c->file->size);
        qcc_past_end(c, off, len);
        return 0;
    }
    uint64_t last = (off + len - 1) >> c->cluster_bits;
    for (uint64_t i = off >> c->cluster_bits; i <= last; i++) {
        int r = qcc_counts_add(&c->counts, i, 1);
        if (r < 0)
            return r;
    }
    return 1;
}

int qcc_refer_table(struct qcc *c, uint64_t off, uint64_t len, const char *what, uint64_t entry_off)
{
    int r = qcc_refer(c, off, len, what, entry_off);
    if (r <= 0 || len == 0)
        return r;
    if (c->n_range == c->cap_range) {
        size_t cap = c->cap_range ? c->cap_range * 2 : 16;
        struct qcc_range *v = mem_realloc(c->range, cap * sizeof(*v));
        if (!v)
            return -ENOMEM;
        c->range = v;
        c->cap_range = cap;
    }
    uint64_t first = off >> c->cluster_bits;
    c->range[c->n_range++] = (struct qcc_range){
        .first = first, .n = ((off + len - 1) >> c->cluster_bits) - first + 1, .what = what};
    return 1;
}

bool qcc_table_budget(struct qcc *c, uint64_t len)
{
    c->table_bytes += round_up(len, c->cluster);
    return c->table_bytes <= round_up(c->file->size, c->cluster);
}

static bool setup(struct qcc *c, struct err **errp)
{
    const struct qc_header *h = &c->first.h;
    c->cluster_bits = h->cluster_bits;
    c->cluster = UINT64_C(1) << h->cluster_bits;
    c->refcount_order = h->refcount_order;
    c->refblock_bits = h->cluster_bits + 3 - h->refcount_order;
    c->extended_l2 = h->incompatible & QC_INCOMPAT_EXTENDED_L2;
    c->data_file = h->incompatible & QC_INCOMPAT_DATA_FILE;
    c->l2_entry_shift = c->extended_l2 ? 4 : 3;
    c->n = div_round_up(c->file->size, c->cluster);
    c->reftable_size = ((uint64_t)h->reftable_clusters << h->cluster_bits) / 8;
    c->r->total_clusters = div_round_up(h->size, c->cluster);
    if (c->n > MAX_CLUSTERS)
        return err_set(errp, EFBIG, "the file has %" PRIu64 " clusters, the limit is %" PRIu64,
                       c->n, MAX_CLUSTERS);
    c->far = UINT64_MAX;
    c->buf = mem_alloc_aligned(c->cluster, 4096);
    c->reftable = mem_alloc_aligned(c->reftable_size * 8, 4096);
    c->block = mem_zalloc(c->reftable_size);
    if (!qcc_counts_init(&c->counts, c->n) || !c->buf || !c->reftable || !c->block)
        return err_set(errp, ENOMEM, "out of memory");
    int r = qc_bytes_read(c->file, h->reftable_off, c->reftable, c->reftable_size * 8);
    return r == 0 || err_set_errno(errp, -r, "cannot read the refcount table");
}

static int check_header(struct qcc *c)
{
    const struct qc_header *h = &c->first.h;
    if (c->flaws.reftable)
        qcc_corrupt(c, 1, "the header: %s", err_msg(c->flaws.reftable));
    int r = qcc_refer_table(c, 0, c->cluster, "the header", 0);
    if (r < 0)
        return r;
    /* If it is not inside the file, it is not needed: a repair makes another one. */
    uint64_t need_end = c->need_end, far = c->far;
    bool incomplete = c->incomplete;
    r = qcc_refer_table(c, h->reftable_off, c->reftable_size * 8, "the refcount table",
                        QCH_REFTABLE_OFF);
    c->reftable_counted = r > 0;
    c->need_end = need_end;
    c->far = far;
    c->incomplete = incomplete;
    return r < 0 ? r : 0;
}

static int run_passes(struct qcc *c)
{
    const struct qc_header *h = &c->first.h;
    int r = qcc_load_refblocks(c);
    if (r == 0)
        r = check_header(c);
    if (r == 0)
        r = qcc_check_l1(c, h->l1_off, h->l1_size, true, "the L1 table");
    if (r == 0)
        r = qcc_check_snapshots(c);
    if (r == 0)
        r = qcc_check_l2_tables(c);
    if (r == 0)
        r = qcc_check_bitmaps(c);
    if (r == 0)
        r = qcc_check_overlaps(c);
    return r == 0 ? qcc_compare(c) : r;
}

void qcc_free(struct qcc *c)
{
    if (!c)
        return;
    qcc_counts_free(&c->counts);
    err_free(c->flaws.reftable);
    mem_free(c->first.buf);
    mem_free(c->reftable);
    mem_free(c->block);
    mem_free(c->l1);
    mem_free(c->l2);
    mem_free(c->range);
    mem_free(c->buf);
    mem_free(c);
}

struct qcc *qcc_new(struct node *file, const struct qc_check_opts *opts, struct qc_check_report *r,
                    struct err **errp)
{
    struct qcc *c = mem_new(struct qcc);
    *r = (struct qc_check_report){0};
    if (!c) {
        err_set(errp, ENOMEM, "out of memory");
        return NULL;
    }
    c->file = file;
    c->opts = opts;
    c->r = r;
    if (qc_first_read(file, &c->first, &c->flaws, errp) && setup(c, errp))
        return c;
    qcc_free(c);
    return NULL;
}

bool qcc_run(struct qcc *c, struct err **errp)
{
    int r = run_passes(c);
    return r == 0 || err_set_errno(errp, -r, "the check could not be finished");
}

bool qc_check(struct node *file, const struct qc_check_opts *opts, struct qc_check_report *r,
              struct err **errp)
{
    struct qcc *c = qcc_new(file, opts, r, errp);
    bool ok = c && qcc_run(c, errp);
    qcc_free(c);
    return ok || err_prefix(errp, "%s: ", file->name);
}
