/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking L2 tables. Source: qcow2.txt, "Cluster mapping", "Extended L2 Entries".
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/check_priv.h"

#define STANDARD_RESERVED UINT64_C(0x3f000000000001fe)

struct walk { /* of one table */
    const struct qcc_l2 *t;
    uint64_t i;    /* entry */
    uint64_t next; /* host offset that would continue the last data cluster; 0: none yet */
};

static uint64_t entry_off(const struct qcc *c, const struct walk *w)
{
    return (w->t->cluster << c->cluster_bits) + (w->i << c->l2_entry_shift);
}

static void bad(struct qcc *c, const struct walk *w, uint64_t entry, const char *why)
{
    uint64_t per_table = c->cluster >> c->l2_entry_shift;
    uint64_t guest = ((uint64_t)w->t->l1_index * per_table + w->i) << c->cluster_bits;
    qcc_corrupt(c, 1,
                "L2 entry at 0x%" PRIx64 " (guest offset 0x%" PRIx64 "%s) is 0x%" PRIx64 ": %s",
                entry_off(c, w), guest, w->t->active ? "" : ", of a snapshot", entry, why);
}

static int refer(struct qcc *c, const struct walk *w, uint64_t entry, uint64_t off, uint64_t len)
{
    if (off >= c->file->size || off + len >= c->file->size + c->cluster) {
        bad(c, w, entry, "the cluster is past the end of the file");
        qcc_past_end(c, off, len);
        return 0;
    }
    uint64_t last = (off + len - 1) >> c->cluster_bits;
    for (uint64_t k = off >> c->cluster_bits; k <= last; k++) {
        int r = qcc_counts_add(&c->counts, k, w->t->times);
        if (r < 0)
            return r;
    }
    return 1;
}

/* "Compressed Clusters Descriptor". */
static int check_compressed(struct qcc *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
    unsigned x = 62 - (c->cluster_bits - 8);
    uint64_t off = entry & ((UINT64_C(1) << x) - 1);
    uint64_t sectors = (entry & (QC_COMPRESSED - 1)) >> x;

    if (entry & QC_COPIED)
        bad(c, w, entry, "COPIED on a compressed cluster");
    if (c->data_file) {
        bad(c, w, entry, "a compressed cluster in an image with a data file");
        c->incomplete = true;
        return 0;
    }
    if (bitmap) {
        bad(c, w, entry, "a compressed cluster with a subcluster bitmap");
        c->incomplete = true;
        return 0;
    }
    if (w->t->active) {
        c->r->allocated_clusters++;
        c->r->compressed_clusters++;
        c->r->fragmented_clusters++;
    }
    int r = refer(c, w, entry, off, round_down(off, 512) + (sectors + 1) * 512 - off);
    return r < 0 ? r : 0;
}

static int check_allocated(struct qcc *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
    uint64_t off = entry & QC_OFFSET_MASK;

    if (bitmap & bitmap >> 32)
        bad(c, w, entry, "a subcluster is both allocated and zero");
    if (!is_aligned(off, c->cluster))
        bad(c, w, entry, "the cluster is not aligned");
    if (w->t->active) {
        c->r->allocated_clusters++;
        c->r->fragmented_clusters += w->next && off != w->next;
        w->next = off + c->cluster;
    }
    if (c->data_file) { /* its clusters are not counted: their refcount is always one */
        if (w->t->active && !(entry & QC_COPIED))
            bad(c, w, entry, "COPIED is 0 in an image with a data file");
        return 0;
    }
    if (!is_aligned(off, c->cluster)) {
        c->incomplete |= !qcc_entry_is_zero(c, entry);
        return 0;
    }
    int r = refer(c, w, entry, off, c->cluster);
    if (r > 0 && w->t->active && qcc_copied_is_wrong(c, entry, off >> c->cluster_bits))
        bad(c, w, entry,
            entry & QC_COPIED ? "COPIED is 1, but the refcount is not one"
                              : "COPIED is 0, but the refcount is one");
    return r < 0 ? r : 0;
}

static int check_entry(struct qcc *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
    if (entry & QC_COMPRESSED)
        return check_compressed(c, w, entry, bitmap);
    if (entry & STANDARD_RESERVED)
        bad(c, w, entry, "reserved bits");
    if ((entry & QC_ZERO) && c->first.h.version < 3)
        bad(c, w, entry, "zero flag in a version 2 image");
    if ((entry & QC_ZERO) && c->extended_l2)
        bad(c, w, entry, "zero flag in an image with subclusters");
    if ((entry & QC_OFFSET_MASK) || (c->data_file && (entry & QC_COPIED)))
        return check_allocated(c, w, entry, bitmap);
    if (entry & QC_COPIED)
        bad(c, w, entry, "COPIED without a cluster");
    if (bitmap & UINT32_MAX)
        bad(c, w, entry, "allocated subclusters without a cluster");
    return 0;
}

/* How many entries from w->i on are nothing but the next host cluster each, with COPIED as it has
 * to be: they are counted at once. 0: this entry needs to be looked at. */
static int check_run(struct qcc *c, struct walk *w, const uint8_t *table, uint64_t n,
                     uint64_t entry)
{
    uint64_t off = entry & ~QC_COPIED, len = 1;
    if (off == 0 || (off & ~QC_OFFSET_MASK) || !is_aligned(off, c->cluster) || c->extended_l2 ||
        c->data_file || off + c->cluster > c->file->size)
        return 0;
    uint64_t most = min_u64(n - w->i, (c->file->size - off) >> c->cluster_bits);
    while (len < most && get_be64(table + (w->i + len) * 8) == entry + (len << c->cluster_bits))
        len++;
    if (w->t->active &&
        (!(entry & QC_COPIED) || !qcc_counts_all_ones(&c->counts, off >> c->cluster_bits, len)))
        return 0;
    if (w->t->active) {
        c->r->allocated_clusters += len;
        c->r->fragmented_clusters += w->next && off != w->next;
        w->next = off + (len << c->cluster_bits);
    }
    int r = qcc_counts_add_run(&c->counts, off >> c->cluster_bits, len, w->t->times);
    return r < 0 ? r : (int)len;
}

static int check_table(struct qcc *c, const struct qcc_l2 *t, const uint8_t *table)
{
    struct walk w = {.t = t};
    uint64_t n = c->cluster >> c->l2_entry_shift;
    while (w.i < n) {
        const uint8_t *p = table + (w.i << c->l2_entry_shift);
        uint64_t entry = get_be64(p), bitmap = c->extended_l2 ? get_be64(p + 8) : 0;
        int r = 1;
        if (entry || bitmap) {
            r = check_run(c, &w, table, n, entry);
            if (r == 0) {
                r = check_entry(c, &w, entry, bitmap);
                r = r < 0 ? r : 1;
            }
        }
        if (r < 0)
            return r;
        w.i += (uint64_t)r;
    }
    return 0;
}

/* Several tables at a time are on their way from the disk. */
#define BATCH_MAX 16
#define BATCH_BYTES (UINT64_C(1) << 20)

struct fetch {
    struct qcc *c;
    struct co_group *group;
    uint64_t off;
    uint8_t *buf;
    int result; /* 1: buf holds the table; 0: it is a hole; -errno */
};

static void fetch_co(void *arg)
{
    struct fetch *f = arg;
    int r = qc_bytes_read(f->c->file, f->off, f->buf, f->c->cluster);
    f->result = r < 0 ? r : 1;
    co_group_done(f->group);
}

static void fetch_batch(struct qcc *c, struct fetch *f, size_t n, const struct qcc_l2 *t)
{
    struct co_group group = {0};
    for (size_t i = 0; i < n; i++) {
        f[i].group = &group;
        f[i].off = t[i].cluster << c->cluster_bits;
        f[i].result = qcc_hole(c, f[i].off, c->cluster);
        if (f[i].result != 0) { /* an error, or a hole */
            f[i].result = f[i].result < 0 ? f[i].result : 0;
            continue;
        }
        co_group_add(&group);
        if (!co_start(fetch_co, &f[i]))
            fetch_co(&f[i]); /* no memory for another coroutine */
    }
    co_group_wait(&group);
}

int qcc_check_l2_tables(struct qcc *c)
{
    size_t batch = (size_t)(BATCH_BYTES >> c->cluster_bits);
    struct fetch f[BATCH_MAX] = {{0}};
    int r = 0;
    qcc_l2_compact(c);
    c->all = c->done + c->n_l2;
    batch = batch < 1 ? 1 : batch > BATCH_MAX ? BATCH_MAX : batch;
    uint8_t *buf = c->n_l2 ? mem_alloc_aligned(batch << c->cluster_bits, 4096) : NULL;
    if (c->n_l2 && !buf)
        return -ENOMEM;
    for (size_t i = 0; i < batch && buf; i++) {
        f[i].c = c;
        f[i].buf = buf + (i << c->cluster_bits);
    }
    for (size_t i = 0; i < c->n_l2 && r == 0; i += batch) {
        size_t n = c->n_l2 - i < batch ? c->n_l2 - i : batch;
        fetch_batch(c, f, n, &c->l2[i]);
        for (size_t k = 0; k < n && r == 0; k++) {
            r = f[k].result > 0 ? check_table(c, &c->l2[i + k], f[k].buf) : f[k].result;
            qcc_step(c);
        }
    }
    mem_free(buf);
    return r;
}
