/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The bytes of a qcow2 file: field offsets, masks and limits. Source: QEMU's
 * docs/interop/qcow2.txt; the section is named beside each group. All integers are big-endian.
 */
#ifndef QCOW2_FORMAT_H
#define QCOW2_FORMAT_H

#include <stdint.h>

#define QC_MAGIC UINT32_C(0x514649fb) /* "QFI\xfb" */

/* "Header": byte offsets of the fields. */
enum qc_header_field {
    QCH_MAGIC = 0,
    QCH_VERSION = 4,
    QCH_BACKING_OFF = 8,
    QCH_BACKING_LEN = 16,
    QCH_CLUSTER_BITS = 20,
    QCH_SIZE = 24,
    QCH_CRYPT = 32,
    QCH_L1_SIZE = 36,
    QCH_L1_OFF = 40,
    QCH_REFTABLE_OFF = 48,
    QCH_REFTABLE_CLUSTERS = 56,
    QCH_NB_SNAPSHOTS = 60,
    QCH_SNAPSHOTS_OFF = 64,
    QCH_INCOMPATIBLE = 72, /* version 3 from here on */
    QCH_COMPATIBLE = 80,
    QCH_AUTOCLEAR = 88,
    QCH_REFCOUNT_ORDER = 96,
    QCH_HEADER_LEN = 100,
    QCH_COMPRESSION = 104, /* "Additional fields" */
};

#define QC_V2_HEADER_LEN 72
#define QC_V3_HEADER_MIN 104
#define QC_V3_HEADER_LEN 112

/* "Header": incompatible_features. */
#define QC_INCOMPAT_DIRTY (UINT64_C(1) << 0)
#define QC_INCOMPAT_CORRUPT (UINT64_C(1) << 1)
#define QC_INCOMPAT_DATA_FILE (UINT64_C(1) << 2)
#define QC_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define QC_INCOMPAT_EXTENDED_L2 (UINT64_C(1) << 4)
#define QC_INCOMPAT_KNOWN UINT64_C(0x1f)

/* "Header": compatible_features. */
#define QC_COMPAT_LAZY_REFCOUNTS (UINT64_C(1) << 0)

/* "Header": autoclear_features. */
#define QC_AUTOCLEAR_BITMAPS (UINT64_C(1) << 0)
#define QC_AUTOCLEAR_RAW_DATA (UINT64_C(1) << 1)

/* "Header extensions". */
#define QC_EXT_END UINT32_C(0)
#define QC_EXT_BACKING_FORMAT UINT32_C(0xe2792aca)
#define QC_EXT_FEATURE_NAMES UINT32_C(0x6803f857)
#define QC_EXT_BITMAPS UINT32_C(0x23852875)
#define QC_EXT_CRYPTO UINT32_C(0x0537be77)
#define QC_EXT_DATA_FILE UINT32_C(0x44415441)
#define QC_FEATURE_NAME_ENTRY 48
#define QC_BITMAPS_EXT_LEN 24
#define QC_CRYPTO_EXT_LEN 16

/* "Bitmap directory", "Bitmap table". */
#define QC_BITMAP_ENTRY_LEN 24
#define QC_BITMAP_TABLE_RESERVED UINT64_C(0xff000000000001fe)
#define QC_BITMAP_ALL_ONES UINT64_C(1)

/* "Host cluster management", "Cluster mapping": table entries. */
#define QC_OFFSET_MASK UINT64_C(0x00fffffffffffe00)   /* L1, L2: bits 9-55 */
#define QC_REFTABLE_MASK UINT64_C(0xfffffffffffffe00) /* bits 9-63 */
#define QC_REFTABLE_RESERVED UINT64_C(0x1ff)
#define QC_L1_RESERVED UINT64_C(0x7f000000000001ff)
#define QC_COPIED (UINT64_C(1) << 63)
#define QC_COMPRESSED (UINT64_C(1) << 62)
#define QC_ZERO UINT64_C(1)

/* Limits. Those that the format does not set are QEMU's, so that both read the same images. */
#define QC_MIN_CLUSTER_BITS 9
#define QC_MAX_CLUSTER_BITS 21
#define QC_MIN_EXTENDED_CLUSTER 16384 /* with extended L2 entries */
#define QC_MAX_REFCOUNT_ORDER 6
#define QC_MAX_L1_BYTES (UINT64_C(32) << 20)
#define QC_MAX_REFTABLE_BYTES (UINT64_C(8) << 20)
#define QC_MAX_SNAPSHOTS 65536
#define QC_MAX_SNAPSHOT_TABLE (UINT64_C(64) << 20)
#define QC_MAX_BACKING_NAME 1023
#define QC_MAX_BACKING_FORMAT 15
#define QC_MAX_BITMAPS 65535
#define QC_MAX_BITMAP_TABLE (UINT64_C(1) << 27)   /* entries */
#define QC_MAX_BITMAP_BYTES (UINT64_C(512) << 20) /* of one bitmap */
#define QC_MAX_BITMAP_DIR (UINT64_C(65535) << 10)
#define QC_MAX_HOST_OFF (UINT64_C(1) << 56)

#endif
