/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Stored bitmaps, as the rest of the driver sees them. Part of qcow2_priv.h.
 */
#ifndef QCOW2_BITMAPS_H
#define QCOW2_BITMAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "block/node_bitmap.h"
#include "io/lock.h"

struct qc;
struct qc_header;
struct qc_stored_bitmap;

/* Stored bitmaps: the directory as it is on disk. */
struct qc_bitmaps {
    struct qc_stored_bitmap *v;
    uint32_t n;
    uint64_t dir_off, dir_len; /* bytes; 0 if n is 0 */
    bool stored;               /* the bitmaps were written for the last time */
    struct co_mutex lock;      /* one change of the directory at a time; taken before qc.lock */
};

/* --- bitmap_load.c, bitmap_dir.c, bitmap_store.c, bitmap_table.c --- */

extern const struct bitmap_ops qc_bitmap_ops;
/* qc_bitmaps_load: check the stored bitmaps and make them bitmaps of the node. Writes nothing.
 * Yields. */
bool qc_bitmaps_load(struct qc *q, const struct qc_header *h, bool read_only, struct err **errp);
/* qc_bitmaps_begin: say on disk that they are in use, before anything else is written. Yields. */
bool qc_bitmaps_begin(struct qc *q, struct err **errp);
/* qc_bitmaps_end: store them, unless that was done; for qc_close. Yields. */
void qc_bitmaps_end(struct qc *q);
void qc_bitmaps_free(struct qc *q);

/* --- header_write.c --- */

/* qc_header_set_bitmaps: let the header refer to a bitmap directory, and vouch for it. The
 * directory is durable before. Every crash state has the old reference or the new one; *unsure:
 * after a failure, either may be there. lock is held. Yields. */
bool qc_header_set_bitmaps(struct qc *q, uint32_t n, uint64_t dir_off, uint64_t dir_len,
                           bool *unsure, struct err **errp);
/* qc_header_drop_bitmaps: the header refers to no bitmaps. As above. */
bool qc_header_drop_bitmaps(struct qc *q, bool *unsure, struct err **errp);

#endif
