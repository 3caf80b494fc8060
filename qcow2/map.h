/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where in which file of a chain guest bytes are: for `image map` and `image compare`.
 */
#ifndef QCOW2_MAP_H
#define QCOW2_MAP_H

#include <stdbool.h>
#include <stdint.h>

struct node;

struct qc_extent {
    uint64_t start, length;
    unsigned depth;     /* layers below the one that was asked */
    struct node *layer; /* the layer at that depth; borrowed */
    bool present;       /* the layer says what is read there, nothing below it is */
    bool zero;          /* reads as zeros */
    bool data;          /* a read looks into a file */
    bool compressed, has_offset;
    uint64_t offset; /* in that layer's file, if has_offset */
};

/* qc_map: what is at guest offset `off` of n, which is qcow2 or raw: one extent of at most len
 * bytes, all of it inside n. The next extent may go on with the same: see qc_extent_joins. 0 or
 * -errno. Yields. */
int qc_map(struct node *n, uint64_t off, uint64_t len, struct qc_extent *out);
/* qc_extent_joins: does b only continue a? */
bool qc_extent_joins(const struct qc_extent *a, const struct qc_extent *b);

#endif
