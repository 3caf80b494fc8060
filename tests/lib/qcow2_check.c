/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The judge: header, refcounts, references, flags. Guest content is in qcow2_content.c.
 *
 * Two passes. The first reads the refcount table and its blocks: what is claimed. The second walks
 * everything that refers to a cluster: what is so. Without snapshots a cluster has one referrer at
 * most (compressed clusters may share one), so a second one is corruption whatever the refcount.
 */
#include "tests/lib/qcow2_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/sim.h"
#include "tests/lib/qcow2_check_priv.h"

static void sim_read(void *arg, uint64_t off, void *buf, uint64_t len)
{
    sim_disk_peek(arg, off, buf, len);
}

struct qck_source qck_sim(struct sim_disk *d)
{
    return (struct qck_source){
        .read = sim_read, .arg = d, .size = sim_disk_size(d), .second = SIM_SECOND};
}

static void file_read(void *arg, uint64_t off, void *buf, uint64_t len)
{
    const int *fd = arg;
    uint64_t done = 0;
    while (done < len) {
        ssize_t n = pread(*fd, (char *)buf + done, len - done, (off_t)(off + done));
        if (n <= 0)
            break;
        done += (uint64_t)n;
    }
    memset((char *)buf + done, 0, len - done);
}

struct qck_source qck_file(const int *fd)
{
    struct stat st;
    uint64_t size = fstat(*fd, &st) == 0 ? (uint64_t)st.st_size : 0;
    return (struct qck_source){.read = file_read, .arg = (void *)fd, .size = size};
}

void *qck_alloc(uint64_t n, uint64_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "qcow2_check: out of memory (%" PRIu64 " * %" PRIu64 ")\n", n, size);
        abort();
    }
    return p;
}

static void report_add(struct qck_report *r, const char *fmt, va_list ap)
{
    size_t used = strlen(r->text);
    if (used + 2 >= sizeof(r->text))
        return;
    vsnprintf(r->text + used, sizeof(r->text) - used - 1, fmt, ap);
    strcat(r->text, "\n");
}

void qck_bad(struct qck_report *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report_add(r, fmt, ap);
    va_end(ap);
    r->corruptions++;
}

static void leak(struct qck_report *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report_add(r, fmt, ap);
    va_end(ap);
    r->leaks++;
}

/* "Header", up to header_length. */
static bool header_v3(struct qck_image *im, const uint8_t *h)
{
    uint64_t incompatible = get_be64(h + 72), known = UINT64_C(0x1b) | (im->src->second ? 4 : 0);
    im->refcount_order = get_be32(h + 96);
    uint32_t length = get_be32(h + 100);
    if (incompatible & 1)
        qck_bad(im->r, "header: the dirty bit is set");
    if (incompatible & 2)
        qck_bad(im->r, "header: the corrupt bit is set");
    if (incompatible & ~known)
        qck_bad(im->r, "header: incompatible features 0x%" PRIx64 " not understood", incompatible);
    if (length < 104 || length % 8 || length > im->cluster)
        qck_bad(im->r, "header: header_length %" PRIu32, length);
    if (im->refcount_order > 6)
        qck_bad(im->r, "header: refcount_order %" PRIu32, im->refcount_order);
    im->data_file = incompatible & 4;
    im->r->raw = get_be64(h + 88) & 2;
    if (im->r->raw && (!im->data_file || get_be64(h + 8)))
        qck_bad(im->r, "header: a raw data file, but none, or a backing file");
    if (im->data_file && im->nb_snapshots)
        qck_bad(im->r, "header: snapshots besides a data file");
    im->extended = incompatible & QCK_EXTENDED;
    if (im->extended && im->cluster < 16384)
        qck_bad(im->r, "header: subclusters in clusters of %" PRIu64 " bytes", im->cluster);
    im->compression = length > 104 ? h[104] : 0;
    if (im->compression > 1 || im->compression != (incompatible >> 3 & 1))
        qck_bad(im->r, "header: compression type %d, features 0x%" PRIx64, im->compression,
                incompatible);
    return !(incompatible & ~known) && im->refcount_order <= 6;
}

bool qck_load_header(struct qck_image *im)
{
    uint8_t h[112];
    im->src->read(im->src->arg, 0, h, sizeof(h));
    uint32_t bits = get_be32(h + 20);
    im->version = get_be32(h + 4);
    if (get_be32(h) != 0x514649fb || im->version < 2 || im->version > 3 || bits < 9 || bits > 21) {
        qck_bad(im->r,
                "header: not understood (magic 0x%08" PRIx32 ", version %" PRIu32
                ", cluster_bits %" PRIu32 ")",
                get_be32(h), im->version, bits);
        return false;
    }
    im->cluster_bits = bits;
    im->cluster = UINT64_C(1) << bits;
    im->guest_size = get_be64(h + 24);
    im->l1_size = get_be32(h + 36);
    im->l1_off = get_be64(h + 40);
    im->reftable_off = get_be64(h + 48);
    im->reftable_clusters = get_be32(h + 56);
    im->refcount_order = 4;
    im->n = div_round_up(im->src->size, im->cluster);
    im->nb_snapshots = im->r->snapshots = get_be32(h + 60);
    im->snapshots_off = get_be64(h + 64);
    if (get_be32(h + 32)) {
        qck_bad(im->r, "header: encryption: not understood");
        return false;
    }
    if (im->version == 3 && !header_v3(im, h))
        return false;
    uint64_t per_l2 = im->cluster / qck_entry_size(im) * im->cluster;
    if (im->l1_size < div_round_up(im->guest_size, per_l2))
        qck_bad(im->r,
                "header: an L1 table of %" PRIu32 " entries is too short for %" PRIu64 " bytes",
                im->l1_size, im->guest_size);
    if (im->l1_size > (32u << 20) / 8 || im->reftable_clusters > (8u << 20) / im->cluster ||
        im->reftable_clusters == 0) {
        qck_bad(im->r, "header: %" PRIu32 " L1 entries, %" PRIu32 " refcount table clusters",
                im->l1_size, im->reftable_clusters);
        return false;
    }
    im->r->guest_size = im->guest_size;
    return true;
}

bool qck_refer(struct qck_image *im, uint64_t off, uint64_t clusters, enum qck_use use,
               const char *what, uint64_t index)
{
    static const char *const name[] = {"nothing",        "the header",         "the L1 table",
                                       "an L2 table",    "the refcount table", "a refcount block",
                                       "data",           "compressed data",    "the snapshot table",
                                       "a stored bitmap"};
    if (off & (im->cluster - 1)) {
        qck_bad(im->r, "%s %" PRIu64 ": offset 0x%" PRIx64 " is not aligned", what, index, off);
        return false;
    }
    for (uint64_t c = off >> im->cluster_bits; clusters; c++, clusters--) {
        if (c >= im->n) {
            qck_bad(im->r, "%s %" PRIu64 ": cluster 0x%" PRIx64 " is beyond the end of the file",
                    what, index, c << im->cluster_bits);
            return false;
        }
        im->refs[c]++;
        bool may_share =
            use == USE_COMPRESSED || (im->snapshot && (use == USE_DATA || use == USE_L2));
        if (im->use[c] && !(may_share && im->use[c] == use))
            qck_bad(im->r, "%s %" PRIu64 ": cluster 0x%" PRIx64 " is also in use as %s", what,
                    index, c << im->cluster_bits, name[im->use[c]]);
        im->use[c] = use;
    }
    return true;
}

/* One entry of a refcount block ("Refcount block entry"). */
static uint64_t block_entry(const uint8_t *block, unsigned order, uint64_t i)
{
    switch (order) {
    case 0:
    case 1:
    case 2: {
        unsigned bits = 1u << order, per_byte = 8 / bits;
        return (block[i / per_byte] >> (i % per_byte * bits)) & ((1u << bits) - 1);
    }
    case 3:
        return block[i];
    case 4:
        return get_be16(block + 2 * i);
    case 5:
        return get_be32(block + 4 * i);
    default:
        return get_be64(block + 8 * i);
    }
}

static void load_block(struct qck_image *im, uint64_t index, uint64_t entry, uint8_t *block)
{
    uint64_t per_block = im->cluster * 8 >> im->refcount_order;
    if (entry & 0x1ff) {
        qck_bad(im->r, "refcount table entry %" PRIu64 ": reserved bits in 0x%" PRIx64, index,
                entry);
        return;
    }
    if (!qck_refer(im, entry, 1, USE_REFBLOCK, "refcount table entry", index))
        return;
    im->src->read(im->src->arg, entry, block, im->cluster);
    for (uint64_t i = 0; i < per_block; i++) {
        uint64_t c = index * per_block + i;
        uint64_t count = block_entry(block, im->refcount_order, i);
        if (c < im->n)
            im->count[c] = count;
        else if (count)
            leak(im->r, "cluster 0x%" PRIx64 " beyond the end: refcount %" PRIu64,
                 c << im->cluster_bits, count);
    }
}

/* First pass: what the refcounts claim. */
static void load_refcounts(struct qck_image *im)
{
    uint64_t bytes = (uint64_t)im->reftable_clusters << im->cluster_bits;
    if (!qck_refer(im, im->reftable_off, im->reftable_clusters, USE_REFTABLE,
                   "header: refcount table", 0))
        return;
    uint8_t *table = qck_alloc(bytes, 1), *block = qck_alloc(im->cluster, 1);
    im->src->read(im->src->arg, im->reftable_off, table, bytes);
    for (uint64_t i = 0; i < bytes / 8; i++) {
        uint64_t entry = get_be64(table + 8 * i);
        if (entry)
            load_block(im, i, entry, block);
    }
    free(table);
    free(block);
}

/* Bit 63 must say whether the refcount is exactly one. */
static void check_copied(struct qck_image *im, uint64_t entry, uint64_t off, const char *what,
                         uint64_t index)
{
    uint64_t count = im->count[off >> im->cluster_bits];
    if (im->snapshot) /* "only accurate in L2 tables reachable from the active L1 table" */
        return;
    if ((entry >> 63) != (count == 1))
        qck_bad(im->r, "%s %" PRIu64 ": COPIED is %d, but the refcount is %" PRIu64, what, index,
                (int)(entry >> 63), count);
}

/* "Compressed Clusters Descriptor": count the host clusters that it touches. */
static void check_compressed(struct qck_image *im, uint64_t entry, uint64_t index)
{
    unsigned x = 62 - (im->cluster_bits - 8);
    uint64_t off = entry & ((UINT64_C(1) << x) - 1);
    uint64_t sectors = (entry & ((UINT64_C(1) << 62) - 1)) >> x;
    uint64_t end = round_down(off, 512) + (sectors + 1) * 512;
    if (entry >> 63)
        qck_bad(im->r, "L2 entry %" PRIu64 ": COPIED on a compressed cluster", index);
    for (uint64_t c = round_down(off, im->cluster); c < end; c += im->cluster)
        qck_refer(im, c, 1, USE_COMPRESSED, "L2 entry", index);
}

/* "Extended L2 Entries". */
static void check_map(struct qck_image *im, uint64_t entry, uint64_t map, uint64_t index)
{
    if (entry & UINT64_C(1) << 62) {
        if (map)
            qck_bad(im->r, "L2 entry %" PRIu64 ": compressed, with subclusters 0x%" PRIx64, index,
                    map);
        return;
    }
    if (map & map >> 32 & UINT32_MAX)
        qck_bad(im->r, "L2 entry %" PRIu64 ": subclusters both allocated and zero: 0x%" PRIx64,
                index, map);
    if (map & UINT32_MAX && !(entry & QCK_OFFSET_MASK) && !(im->data_file && entry >> 63))
        qck_bad(im->r, "L2 entry %" PRIu64 ": allocated subclusters without a cluster", index);
    if (entry & 1)
        qck_bad(im->r, "L2 entry %" PRIu64 ": zero flag besides subclusters", index);
}

/* "Standard Cluster Descriptor", with a data file: nothing is counted, all is where the guest has
 * it.
 */
static void check_data_entry(struct qck_image *im, uint64_t entry, uint64_t index)
{
    uint64_t off = entry & QCK_OFFSET_MASK;
    if (entry & UINT64_C(1) << 62)
        qck_bad(im->r, "L2 entry %" PRIu64 ": compressed, besides a data file", index);
    else if ((off || entry >> 63) && (off != index << im->cluster_bits || !(entry >> 63)))
        qck_bad(im->r, "L2 entry %" PRIu64 " is 0x%" PRIx64 ", not its place in the data file",
                index, entry);
}

/* index: number of the guest cluster. */
static void check_l2_entry(struct qck_image *im, uint64_t entry, uint64_t map, uint64_t index)
{
    uint64_t off = entry & QCK_OFFSET_MASK;
    if (im->extended)
        check_map(im, entry, map, index);
    if (im->data_file) {
        check_data_entry(im, entry, index);
        return;
    }
    if (entry & UINT64_C(1) << 62) {
        check_compressed(im, entry, index);
        return;
    }
    if (entry & UINT64_C(0x3f000000000001fe))
        qck_bad(im->r, "L2 entry %" PRIu64 ": reserved bits in 0x%" PRIx64, index, entry);
    if ((entry & 1) && im->version < 3)
        qck_bad(im->r, "L2 entry %" PRIu64 ": zero flag in a version 2 image", index);
    if (off == 0) {
        if (entry >> 63)
            qck_bad(im->r, "L2 entry %" PRIu64 ": COPIED without a cluster", index);
        return;
    }
    if (qck_refer(im, off, 1, USE_DATA, "L2 entry", index))
        check_copied(im, entry, off, "L2 entry", index);
}

static void check_l1_entry(struct qck_image *im, uint64_t entry, uint64_t index, uint8_t *l2)
{
    uint64_t off = entry & QCK_OFFSET_MASK, per_l2 = im->cluster / qck_entry_size(im);
    if (entry & UINT64_C(0x7f000000000001ff))
        qck_bad(im->r, "L1 entry %" PRIu64 ": reserved bits in 0x%" PRIx64, index, entry);
    if (off == 0) {
        if (entry >> 63)
            qck_bad(im->r, "L1 entry %" PRIu64 ": COPIED without a table", index);
        return;
    }
    if (!qck_refer(im, off, 1, USE_L2, "L1 entry", index))
        return;
    check_copied(im, entry, off, "L1 entry", index);
    im->src->read(im->src->arg, off, l2, im->cluster);
    for (uint64_t i = 0; i < per_l2; i++) {
        const uint8_t *e = l2 + qck_entry_size(im) * i;
        uint64_t map = im->extended ? get_be64(e + 8) : 0;
        if (get_be64(e) || map)
            check_l2_entry(im, get_be64(e), map, index * per_l2 + i);
    }
}

static void walk_l1(struct qck_image *im, uint64_t l1_off, uint32_t l1_size)
{
    uint64_t bytes = (uint64_t)l1_size * 8;
    if (l1_size == 0 ||
        !qck_refer(im, l1_off, div_round_up(bytes, im->cluster), USE_L1, "header: L1 table", 0))
        return;
    uint8_t *l1 = qck_alloc(bytes, 1), *l2 = qck_alloc(im->cluster, 1);
    im->src->read(im->src->arg, l1_off, l1, bytes);
    for (uint64_t i = 0; i < l1_size; i++)
        check_l1_entry(im, get_be64(l1 + 8 * i), i, l2);
    free(l1);
    free(l2);
}

/* Second pass: who refers to what. */
static void walk_references(struct qck_image *im)
{
    struct qck_snapshot s = {0};
    qck_refer(im, 0, 1, USE_HEADER, "header", 0);
    walk_l1(im, im->l1_off, im->l1_size);
    im->snapshot = true;
    while (qck_snapshot_next(im, &s))
        walk_l1(im, s.l1_off, s.l1_size);
    if (s.end)
        qck_refer(im, im->snapshots_off, div_round_up(s.end, im->cluster), USE_SNAPSHOTS,
                  "header: snapshot table", 0);
}

bool qck_check(const struct qck_source *src, struct qck_report *r)
{
    struct qck_image im = {.src = src, .r = r};
    *r = (struct qck_report){0};
    if (!qck_load_header(&im))
        return false;
    im.refs = qck_alloc(im.n, sizeof(*im.refs));
    im.count = qck_alloc(im.n, sizeof(*im.count));
    im.use = qck_alloc(im.n, sizeof(*im.use));
    load_refcounts(&im);
    walk_references(&im);
    qck_walk_bitmaps(&im);
    for (uint64_t c = 0; c < im.n; c++) {
        if (im.refs[c] > im.count[c])
            qck_bad(r, "cluster 0x%" PRIx64 ": refcount %" PRIu64 ", but %" PRIu64 " references",
                    c << im.cluster_bits, im.count[c], im.refs[c]);
        else if (im.refs[c] < im.count[c])
            leak(r, "cluster 0x%" PRIx64 ": refcount %" PRIu64 ", but %" PRIu64 " references",
                 c << im.cluster_bits, im.count[c], im.refs[c]);
    }
    free(im.refs);
    free(im.count);
    free(im.use);
    return r->corruptions == 0;
}
