/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Header extensions. Source: qcow2.txt, "Header extensions". Unknown ones are skipped; an extension
 * that appears twice is refused, because writers would disagree on which counts.
 */
#include <errno.h>
#include <inttypes.h>

#include "qcow2/qcow2_priv.h"

/* The area ends where the backing file name starts, or with the cluster. */
static uint64_t area_end(const uint8_t *buf, size_t len, const struct qc_header *h)
{
    uint64_t end = UINT64_C(1) << h->cluster_bits;
    if (h->has_backing)
        end = get_be64(buf + QCH_BACKING_OFF);
    return min_u64(end, len);
}

struct ext {
    uint32_t type, len;
    const uint8_t *data;
};

/* Steps to the extension at *pos. Returns 1, 0 at the end of the area, -1 on error. */
static int ext_next(const uint8_t *buf, uint64_t end, uint64_t *pos, struct ext *x,
                    struct err **errp)
{
    if (*pos + 8 > end)
        return 0;
    x->type = get_be32(buf + *pos);
    x->len = get_be32(buf + *pos + 4);
    if (x->type == QC_EXT_END)
        return 0;
    if (x->len > end - *pos - 8) {
        err_set(errp, EINVAL,
                "header extension 0x%08" PRIx32 " at 0x%" PRIx64 " has length %" PRIu32
                ", past the end of the area at 0x%" PRIx64,
                x->type, *pos, x->len, end);
        return -1;
    }
    x->data = buf + *pos + 8;
    *pos += 8 + round_up(x->len, 8);
    return 1;
}

static bool seen_before(const uint8_t *buf, uint64_t end, const struct qc_header *h, uint64_t upto,
                        uint32_t type)
{
    uint64_t pos = h->header_len;
    struct ext x;
    while (pos < upto && ext_next(buf, end, &pos, &x, NULL) > 0) {
        if (pos <= upto && x.type == type)
            return true;
    }
    return false;
}

static bool known_type(uint32_t type)
{
    return type == QC_EXT_BACKING_FORMAT || type == QC_EXT_FEATURE_NAMES ||
           type == QC_EXT_BITMAPS || type == QC_EXT_CRYPTO || type == QC_EXT_DATA_FILE;
}

static bool parse_bitmaps(const struct ext *x, struct qc_header *h, struct err **errp)
{
    if (x->len != QC_BITMAPS_EXT_LEN)
        return err_set(errp, EINVAL, "bitmaps extension has length %" PRIu32 ", must be %d", x->len,
                       QC_BITMAPS_EXT_LEN);
    uint32_t n = get_be32(x->data);
    uint64_t dir_len = get_be64(x->data + 8), dir_off = get_be64(x->data + 16);
    if (get_be32(x->data + 4))
        return err_set(errp, EINVAL,
                       "bitmaps extension: reserved field is 0x%" PRIx32 ", must be 0",
                       get_be32(x->data + 4));
    if (n == 0 || n > QC_MAX_BITMAPS)
        return err_set(errp, EINVAL,
                       "bitmaps extension: nb_bitmaps is %" PRIu32 ", must be 1 to %d", n,
                       QC_MAX_BITMAPS);
    if (!is_aligned(dir_off, UINT64_C(1) << h->cluster_bits))
        return err_set(errp, EINVAL,
                       "bitmaps extension: bitmap_directory_offset is 0x%" PRIx64
                       ", not aligned to a cluster",
                       dir_off);
    if (dir_len > QC_MAX_BITMAP_DIR)
        return err_set(errp, EINVAL,
                       "bitmaps extension: bitmap_directory_size is %" PRIu64
                       ", the limit is %" PRIu64,
                       dir_len, QC_MAX_BITMAP_DIR);
    h->has_bitmaps = true;
    h->n_bitmaps = n;
    h->bitmap_dir_len = dir_len;
    h->bitmap_dir_off = dir_off;
    return true;
}

static bool parse_one(const struct ext *x, struct qc_header *h, struct err **errp)
{
    switch (x->type) {
    case QC_EXT_BACKING_FORMAT:
        if (x->len > QC_MAX_BACKING_FORMAT || memchr(x->data, 0, x->len))
            return err_set(errp, EINVAL,
                           "backing format extension has length %" PRIu32
                           ", the limit is %d, without NUL bytes",
                           x->len, QC_MAX_BACKING_FORMAT);
        memcpy(h->backing_format, x->data, x->len);
        h->backing_format[x->len] = '\0';
        return true;
    case QC_EXT_DATA_FILE:
        if (x->len > QC_MAX_BACKING_NAME || memchr(x->data, 0, x->len))
            return err_set(errp, EINVAL,
                           "data file extension has length %" PRIu32
                           ", the limit is %d, without NUL bytes",
                           x->len, QC_MAX_BACKING_NAME);
        memcpy(h->data_name, x->data, x->len);
        h->data_name[x->len] = '\0';
        return true;
    case QC_EXT_BITMAPS:
        return parse_bitmaps(x, h, errp);
    case QC_EXT_CRYPTO:
        return err_set(errp, EINVAL,
                       "full disk encryption extension (length %" PRIu32
                       ") in an image with crypt_method 0",
                       x->len);
    default:
        return true;
    }
}

bool qc_ext_parse(const uint8_t *buf, size_t len, struct qc_header *h, struct err **errp)
{
    uint64_t end = area_end(buf, len, h), pos = h->header_len;
    for (;;) {
        uint64_t at = pos;
        struct ext x;
        int r = ext_next(buf, end, &pos, &x, errp);
        if (r < 0)
            return false;
        if (r == 0)
            break;
        /* Only types whose meaning we know: a foreign one may repeat by its own rules, and looking
         * back for each would be quadratic in the file's favour. */
        if (known_type(x.type) && seen_before(buf, end, h, at, x.type))
            return err_set(errp, EINVAL, "header extension 0x%08" PRIx32 " appears twice", x.type);
        if (!parse_one(&x, h, errp))
            return false;
    }
    if ((h->autoclear & QC_AUTOCLEAR_BITMAPS) && !h->has_bitmaps)
        return err_set(
            errp, EINVAL,
            "autoclear_features has the bitmaps bit (0) but there is no bitmaps extension");
    return true;
}

bool qc_ext_feature_name(const uint8_t *buf, size_t len, const struct qc_header *h, unsigned type,
                         unsigned bit, char *out)
{
    uint64_t end = area_end(buf, len, h), pos = h->header_len;
    struct ext x;
    while (ext_next(buf, end, &pos, &x, NULL) > 0) {
        if (x.type != QC_EXT_FEATURE_NAMES)
            continue;
        for (uint32_t i = 0; i + QC_FEATURE_NAME_ENTRY <= x.len; i += QC_FEATURE_NAME_ENTRY) {
            const uint8_t *e = x.data + i;
            if (e[0] != type || e[1] != bit)
                continue;
            memcpy(out, e + 2, QC_FEATURE_NAME_ENTRY - 2);
            out[QC_FEATURE_NAME_ENTRY - 2] = '\0';
            for (char *p = out; *p; p++)
                if (*p < ' ' || *p > '~')
                    *p = '?';
            return true;
        }
    }
    return false;
}
