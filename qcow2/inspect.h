/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What an image's metadata says, read without opening the image: no backing or data file is
 * touched, and images that the driver refuses to open can be looked at, too.
 */
#ifndef QCOW2_INSPECT_H
#define QCOW2_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct node;

/* qcow2.txt, "Snapshots". Strings are NUL-terminated; what they hold came from the file. */
struct qc_snapshot {
    uint64_t entry_off; /* in the file, bytes */
    uint64_t l1_off;    /* as stored: may be nonsense */
    uint32_t l1_size;   /* entries, as stored */
    uint32_t extra_len; /* bytes of extra data */
    uint32_t date_sec, date_nsec;
    uint64_t vm_clock_ns, vm_state_bytes;
    uint64_t disk_size; /* of the guest disk then; UINT64_MAX: not recorded */
    uint64_t icount;    /* UINT64_MAX: not recorded */
    char *id, *name;
};

/* qcow2.txt, "Bitmap directory". */
struct qc_stored_bitmap {
    uint64_t entry_off, table_off; /* bytes; table_off as stored */
    uint32_t table_size;           /* entries, as stored */
    uint32_t flags;
    uint8_t type, granularity_bits;
    uint32_t extra_len;
    uint8_t *extra; /* extra data, whose meaning nobody knows; NULL if there is none */
    char *name;
};
#define QC_BITMAP_IN_USE 1u
#define QC_BITMAP_AUTO 2u
#define QC_BITMAP_EXTRA_COMPATIBLE 4u

struct qc_image_info {
    uint32_t version, cluster_size, refcount_bits;
    uint64_t size; /* guest bytes */
    bool dirty, corrupt, lazy_refcounts, extended_l2, raw_data_file;
    const char *compression; /* "zlib" or "zstd" */
    char *backing_name;      /* NULL: none */
    char *backing_format;    /* NULL: not said */
    char *data_file;         /* NULL: none, or its name is not said */
    bool has_data_file;
    struct qc_snapshot *snapshots;
    size_t n_snapshots;
    struct qc_stored_bitmap *bitmaps; /* only those that the image vouches for (autoclear bit 0) */
    size_t n_bitmaps;
};

/* qc_inspect: fill info (free with qc_image_info_free, also after a failure) from file, the image's
 * bytes. Refuses what qc_open refuses as malformed, and encryption. Yields. */
bool qc_inspect(struct node *file, struct qc_image_info *info, struct err **errp);
void qc_image_info_free(struct qc_image_info *info);

#endif
