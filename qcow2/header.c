/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The image header: parse and validate. Pure functions over bytes, so that a fuzzer can drive them.
 *
 * Every refusal names the field, its value and the limit. The kinds: EINVAL malformed, ENOTSUP
 * well-formed but not supported here, EFBIG over a limit, EACCES not allowed. Source: qcow2.txt,
 * "Header".
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "qcow2/qcow2_priv.h"

bool qc_header_cluster_bits(const uint8_t *buf, size_t len, uint32_t *bits, struct err **errp)
{
    if (len < QC_V2_HEADER_LEN)
        return err_set(errp, EINVAL, "the file has %zu bytes, a qcow2 header needs at least %d",
                       len, QC_V2_HEADER_LEN);
    if (get_be32(buf + QCH_MAGIC) != QC_MAGIC)
        return err_set(errp, EINVAL,
                       "not a qcow2 image: magic is 0x%08" PRIx32 ", not 0x%08" PRIx32,
                       get_be32(buf + QCH_MAGIC), QC_MAGIC);
    uint32_t version = get_be32(buf + QCH_VERSION);
    if (version != 2 && version != 3)
        return err_set(errp, ENOTSUP, "version is %" PRIu32 ", only 2 and 3 are supported",
                       version);
    *bits = get_be32(buf + QCH_CLUSTER_BITS);
    if (*bits < QC_MIN_CLUSTER_BITS || *bits > QC_MAX_CLUSTER_BITS)
        return err_set(errp, EINVAL, "cluster_bits is %" PRIu32 ", must be %d to %d", *bits,
                       QC_MIN_CLUSTER_BITS, QC_MAX_CLUSTER_BITS);
    return true;
}

static bool parse_v3(const uint8_t *buf, size_t len, struct qc_header *h, struct err **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    if (h->version == 2) {
        h->refcount_order = 4;
        h->header_len = QC_V2_HEADER_LEN;
        return true;
    }
    if (len < QC_V3_HEADER_MIN)
        return err_set(errp, EINVAL, "the file has %zu bytes, a version 3 header needs at least %d",
                       len, QC_V3_HEADER_MIN);
    h->incompatible = get_be64(buf + QCH_INCOMPATIBLE);
    h->compatible = get_be64(buf + QCH_COMPATIBLE);
    h->autoclear = get_be64(buf + QCH_AUTOCLEAR);
    h->refcount_order = get_be32(buf + QCH_REFCOUNT_ORDER);
    h->header_len = get_be32(buf + QCH_HEADER_LEN);
    if (h->header_len < QC_V3_HEADER_MIN || h->header_len > cluster)
        return err_set(errp, EINVAL,
                       "header_length is %" PRIu32 ", must be %d to the cluster size %" PRIu64,
                       h->header_len, QC_V3_HEADER_MIN, cluster);
    if (h->header_len % 8)
        return err_set(errp, EINVAL, "header_length is %" PRIu32 ", must be a multiple of 8",
                       h->header_len);
    if (h->header_len > len)
        return err_set(errp, EINVAL, "header_length is %" PRIu32 " but the file has %zu bytes",
                       h->header_len, len);
    if (h->refcount_order > QC_MAX_REFCOUNT_ORDER)
        return err_set(errp, EINVAL, "refcount_order is %" PRIu32 ", must be at most %d",
                       h->refcount_order, QC_MAX_REFCOUNT_ORDER);
    if (h->header_len > QCH_COMPRESSION)
        h->compression_type = buf[QCH_COMPRESSION];
    return true;
}

static bool check_features(const struct qc_header *h, struct err **errp)
{
    if (h->compression_type > 1)
        return err_set(errp, ENOTSUP,
                       "compression_type is %u, only 0 (zlib) and 1 (zstd) are known",
                       h->compression_type);
    bool bit = h->incompatible & QC_INCOMPAT_COMPRESSION;
    if (bit != (h->compression_type != 0))
        return err_set(
            errp, EINVAL,
            "compression_type is %u but the compression type bit (incompatible feature 3) "
            "is %s",
            h->compression_type, bit ? "set" : "not set");
    if ((h->incompatible & QC_INCOMPAT_EXTENDED_L2) && h->cluster_bits < 14)
        return err_set(errp, EINVAL,
                       "cluster_bits is %" PRIu32 ", extended L2 entries need at least 14",
                       h->cluster_bits);
    if (h->autoclear & QC_AUTOCLEAR_RAW_DATA) {
        if (!(h->incompatible & QC_INCOMPAT_DATA_FILE))
            return err_set(errp, EINVAL,
                           "autoclear_features has the raw external data bit (1) without the "
                           "external data file bit (incompatible feature 2)");
        if (h->has_backing)
            return err_set(errp, EINVAL,
                           "autoclear_features has the raw external data bit (1), which excludes "
                           "the backing file");
    }
    return true;
}

/* Offset of a table: aligned, not the header, inside the file. */
static bool check_table(const struct qc_header *h, const char *field, uint64_t off, uint64_t bytes,
                        uint64_t file_size, struct err **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    if (!is_aligned(off, cluster))
        return err_set(errp, EINVAL,
                       "%s is 0x%" PRIx64 ", must be a multiple of the cluster size %" PRIu64,
                       field, off, cluster);
    if (off > (uint64_t)INT64_MAX - bytes)
        return err_set(errp, EINVAL, "%s is 0x%" PRIx64 ", its end is past the largest file offset",
                       field, off);
    if (off == 0)
        return err_set(errp, EINVAL, "%s is 0, where the header is", field);
    if (off >= file_size)
        return err_set(errp, EINVAL, "%s is 0x%" PRIx64 ", past the end of the file at 0x%" PRIx64,
                       field, off, file_size);
    return true;
}

static bool parse_l1(const uint8_t *buf, uint64_t file_size, struct qc_header *h, struct err **errp)
{
    uint64_t size = get_be64(buf + QCH_SIZE);
    h->size_rounded = size % 512;
    h->size = round_down(size, 512);
    unsigned shift = h->cluster_bits * 2 - 3; /* one L1 entry maps this many bytes (log2) */
    uint64_t need = (size >> shift) + ((size & ((UINT64_C(1) << shift) - 1)) != 0);
    if (need > INT_MAX)
        return err_set(errp, EFBIG,
                       "size is %" PRIu64 " bytes, too large for cluster size %" PRIu64, size,
                       UINT64_C(1) << h->cluster_bits);
    h->l1_size = get_be32(buf + QCH_L1_SIZE);
    h->l1_off = get_be64(buf + QCH_L1_OFF);
    if (h->l1_size > QC_MAX_L1_BYTES / 8)
        return err_set(errp, EFBIG, "l1_size is %" PRIu32 " entries, the limit is %" PRIu64,
                       h->l1_size, QC_MAX_L1_BYTES / 8);
    if (h->l1_size < need)
        return err_set(errp, EINVAL,
                       "l1_size is %" PRIu32 " entries, size %" PRIu64 " needs %" PRIu64,
                       h->l1_size, size, need);
    /* An empty table may be anywhere, but misaligned it is still malformed. */
    if (h->l1_size == 0)
        return is_aligned(h->l1_off, UINT64_C(1) << h->cluster_bits) ||
               err_set(errp, EINVAL, "l1_table_offset is 0x%" PRIx64 ", not aligned to a cluster",
                       h->l1_off);
    return check_table(h, "l1_table_offset", h->l1_off, (uint64_t)h->l1_size * 8, file_size, errp);
}

static bool parse_reftable(const uint8_t *buf, uint64_t file_size, struct qc_header *h,
                           struct err **errp)
{
    h->reftable_off = get_be64(buf + QCH_REFTABLE_OFF);
    h->reftable_clusters = get_be32(buf + QCH_REFTABLE_CLUSTERS);
    if (h->reftable_clusters == 0)
        return err_set(errp, EINVAL, "refcount_table_clusters is 0");
    if (h->reftable_clusters > QC_MAX_REFTABLE_BYTES >> h->cluster_bits)
        return err_set(errp, EFBIG,
                       "refcount_table_clusters is %" PRIu32 ", the limit is %" PRIu64
                       " (a table of 8 MiB)",
                       h->reftable_clusters, QC_MAX_REFTABLE_BYTES >> h->cluster_bits);
    return check_table(h, "refcount_table_offset", h->reftable_off,
                       (uint64_t)h->reftable_clusters << h->cluster_bits, file_size, errp);
}

static bool parse_tables(const uint8_t *buf, uint64_t file_size, struct qc_header *h,
                         struct qc_header_flaws *flaws, struct err **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    if (!parse_l1(buf, file_size, h, errp))
        return false;
    if (!parse_reftable(buf, file_size, h, flaws ? &flaws->reftable : errp)) {
        if (!flaws)
            return false;
        h->reftable_clusters = 0;
    }
    h->nb_snapshots = get_be32(buf + QCH_NB_SNAPSHOTS);
    h->snapshots_off = get_be64(buf + QCH_SNAPSHOTS_OFF);
    if (h->nb_snapshots > QC_MAX_SNAPSHOTS && !flaws)
        return err_set(errp, EFBIG, "nb_snapshots is %" PRIu32 ", the limit is %d", h->nb_snapshots,
                       QC_MAX_SNAPSHOTS);
    if (!is_aligned(h->snapshots_off, cluster))
        return err_set(errp, EINVAL,
                       "snapshots_offset is 0x%" PRIx64 ", must be a multiple of the cluster size",
                       h->snapshots_off);
    return h->nb_snapshots == 0 || check_table(h, "snapshots_offset", h->snapshots_off,
                                               QC_MAX_SNAPSHOT_TABLE, file_size, errp);
}

static bool parse_backing(const uint8_t *buf, size_t len, struct qc_header *h, struct err **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    uint64_t off = get_be64(buf + QCH_BACKING_OFF);
    uint32_t n = get_be32(buf + QCH_BACKING_LEN);
    if (off == 0)
        return true;
    if (off > cluster)
        return err_set(errp, EINVAL,
                       "backing_file_offset is 0x%" PRIx64 ", past the first cluster of %" PRIu64
                       " bytes",
                       off, cluster);
    if (off < h->header_len)
        return err_set(errp, EINVAL, "backing_file_offset is 0x%" PRIx64 ", inside the header",
                       off);
    if (n == 0)
        return err_set(errp, EINVAL, "backing_file_size is 0 but there is a backing_file_offset");
    if (n > QC_MAX_BACKING_NAME || n > cluster - off)
        return err_set(errp, EINVAL,
                       "backing_file_size is %" PRIu32 ", must be at most %d and end in the first "
                       "cluster",
                       n, QC_MAX_BACKING_NAME);
    if (off + n > len)
        return err_set(errp, EINVAL, "backing_file_size is %" PRIu32 " but the file has %zu bytes",
                       n, len);
    if (memchr(buf + off, 0, n))
        return err_set(errp, EINVAL, "the backing file name contains a NUL byte");
    memcpy(h->backing_name, buf + off, n);
    h->backing_name[n] = '\0';
    h->has_backing = true;
    return true;
}

static bool refuse_unknown_bits(const struct qc_header *h, const uint8_t *buf, size_t len,
                                struct err **errp)
{
    uint64_t unknown = h->incompatible & ~QC_INCOMPAT_KNOWN;
    if (!unknown)
        return true;
    unsigned bit = (unsigned)__builtin_ctzll(unknown);
    char name[QC_FEATURE_NAME_ENTRY + 1];
    if (!qc_ext_feature_name(buf, len, h, 0, bit, name))
        snprintf(name, sizeof(name), "no name given");
    return err_set(errp, ENOTSUP,
                   "incompatible_features is 0x%" PRIx64 ": bit %u (%s) is not supported",
                   h->incompatible, bit, name);
}

bool qc_header_parse(const uint8_t *buf, size_t len, uint64_t file_size, struct qc_header *h,
                     struct qc_header_flaws *flaws, struct err **errp)
{
    memset(h, 0, sizeof(*h));
    if (!qc_header_cluster_bits(buf, len, &h->cluster_bits, errp))
        return false;
    h->version = get_be32(buf + QCH_VERSION);
    uint32_t crypt = get_be32(buf + QCH_CRYPT);
    if (crypt)
        return err_set(errp, ENOTSUP,
                       "crypt_method is %" PRIu32 " (%s): encryption is not supported", crypt,
                       crypt == 1   ? "AES"
                       : crypt == 2 ? "LUKS"
                                    : "unknown");
    return parse_v3(buf, len, h, errp) && parse_backing(buf, len, h, errp) &&
           refuse_unknown_bits(h, buf, len, errp) && check_features(h, errp) &&
           qc_ext_parse(buf, len, h, errp) && parse_tables(buf, file_size, h, flaws, errp);
}

bool qc_header_admit(const struct qc_header *h, bool read_only, struct err **errp)
{
    if ((h->incompatible & QC_INCOMPAT_DATA_FILE) && h->nb_snapshots)
        return err_set(errp, ENOTSUP,
                       "nb_snapshots is %" PRIu32 " in an image with an external data file "
                       "(incompatible_features bit 2), which cannot have any",
                       h->nb_snapshots);
    if (read_only)
        return true;
    if (h->incompatible & QC_INCOMPAT_CORRUPT)
        return err_set(
            errp, EACCES,
            "incompatible_features bit 1: the image is marked corrupt; open it read-only, "
            "or repair it with breakwater image check -r all");
    return true;
}
