/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading the metadata of an image that is not open: shared by inspect, check and their tables.
 */
#ifndef QCOW2_INSPECT_PRIV_H
#define QCOW2_INSPECT_PRIV_H

#include "qcow2/inspect.h"
#include "qcow2/qcow2_priv.h"

/* The header, and the bytes it was made of (the first cluster, or the whole file if shorter). */
struct qc_first {
    struct qc_header h;
    uint8_t *buf;
    uint64_t len;
};
/* qc_first_read: flaws as for qc_header_parse. f->buf is new memory. Yields. */
bool qc_first_read(struct node *file, struct qc_first *f, struct qc_header_flaws *flaws,
                   struct err **errp);
/* qc_ext_find: the data of an extension of this type; NULL if there is none. Points into f. */
const uint8_t *qc_ext_find(const struct qc_first *f, uint32_t type, uint32_t *len);

/* qc_bytes_read: bytes of the host file; zeros past its end. 0 or -errno. Yields. */
int qc_bytes_read(struct node *file, uint64_t off, void *buf, uint64_t len);

/* Steps through the snapshot table. Zero it, set file and h. */
struct qc_snapshot_iter {
    struct node *file;
    const struct qc_header *h;
    uint32_t i;
    uint64_t pos; /* bytes of the table before the next entry */
};
/* qc_snapshot_next: 1: s is filled in (free with qc_snapshot_free); 0: no more; -1: *errp, the
 * table cannot be followed any further. Yields. */
int qc_snapshot_next(struct qc_snapshot_iter *it, struct qc_snapshot *s, struct err **errp);
void qc_snapshot_free(struct qc_snapshot *s);

/* Steps through the bitmap directory. Zero it, set file and call qc_bitmap_begin. */
struct qc_bitmap_iter {
    struct node *file;
    uint32_t i, n;
    uint64_t off, len, pos; /* the directory: bytes */
};
/* qc_bitmap_begin: from the bitmaps extension; n = 0 if there is none or the image does not vouch
 * for it. */
void qc_bitmap_begin(struct qc_bitmap_iter *it, struct node *file, const struct qc_first *f);
/* qc_bitmap_next: as qc_snapshot_next. Checks the fields of the entry. Yields. */
int qc_bitmap_next(struct qc_bitmap_iter *it, struct qc_stored_bitmap *b, struct err **errp);
void qc_stored_bitmap_free(struct qc_stored_bitmap *b);

#endif
