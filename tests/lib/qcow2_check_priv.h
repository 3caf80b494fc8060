/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Shared by the files of the independent judge.
 */
#ifndef TESTS_LIB_QCOW2_CHECK_PRIV_H
#define TESTS_LIB_QCOW2_CHECK_PRIV_H

#include "tests/lib/qcow2_check.h"

#define QCK_EXTENDED 0x10                            /* incompatible feature */
#define QCK_OFFSET_MASK UINT64_C(0x00fffffffffffe00) /* bits 9-55 */

enum qck_use {
    USE_NOTHING,
    USE_HEADER,
    USE_L1,
    USE_L2,
    USE_REFTABLE,
    USE_REFBLOCK,
    USE_DATA,
    USE_COMPRESSED,
    USE_SNAPSHOTS,
    USE_BITMAP,
};

struct qck_image {
    const struct qck_source *src;
    struct qck_report *r;
    uint8_t compression; /* type: 0 deflate, 1 zstd */
    bool data_file;      /* guest clusters are in it, at their guest offsets */
    bool extended;       /* L2 entries have a map of subclusters */
    uint32_t version, cluster_bits, refcount_order, l1_size, reftable_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_off;
    bool snapshot; /* what is looked at now belongs to one, and may share */
    uint64_t cluster, guest_size, l1_off, reftable_off;
    uint64_t n;             /* clusters in the file, the last perhaps partial */
    uint64_t *refs, *count; /* references found; refcount on disk */
    uint8_t *use;           /* enum qck_use */
};

void *qck_alloc(uint64_t n, uint64_t size);
void qck_bad(struct qck_report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* qck_unpack: exactly len bytes out of at most n; what is left of src does not matter. */
bool qck_unpack(uint8_t compression, const uint8_t *src, size_t n, uint8_t *dst, size_t len);
bool qck_load_header(struct qck_image *im);
static inline uint64_t qck_entry_size(const struct qck_image *im)
{
    return im->extended ? 16 : 8;
}
/* qck_refer: count a reference to the clusters at off; false if they cannot be there. */
bool qck_refer(struct qck_image *im, uint64_t off, uint64_t clusters, enum qck_use use,
               const char *what, uint64_t index);
/* qck_walk_bitmaps: count what stored bitmaps refer to. */
void qck_walk_bitmaps(struct qck_image *im);

/* Steps through the snapshot table. Zero it. */
struct qck_snapshot {
    uint32_t i, l1_size;
    uint64_t l1_off, size; /* size: of the guest disk then */
    uint64_t end;          /* bytes of the table up to here */
    char id[256], name[256];
};
/* qck_snapshot_next: the next one. False at the end, or if it is damaged, which is reported. */
bool qck_snapshot_next(struct qck_image *im, struct qck_snapshot *s);
/* qck_snapshot_enter: look at the mapping of a snapshot from here on. */
bool qck_snapshot_enter(struct qck_image *im, const char *name);

#endif
