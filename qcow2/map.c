/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Mapping guest bytes to files, layer by layer from the top of a chain. The answers are those of
 * `qemu-img map`: a layer that has nothing to say passes the question on, and the last one that was
 * asked answers, so that what is nowhere allocated has the depth of the lowest image.
 */
#include "qcow2/map.h"

#include <errno.h>

#include "qcow2/qcow2_priv.h"

/* A layer of another format: all of it is present. */
static int map_raw(struct node *n, struct qc_extent *x)
{
    struct extents ext;
    extents_init(&ext, 1);
    int r = node_status(n, x->start, x->length, &ext);
    if (r == 0 && ext.n == 0)
        r = -EIO;
    if (r == 0) {
        x->length = min_u64(x->length, ext.v[0].len);
        x->zero = ext.v[0].flags & EXTENT_ZERO;
        x->data = !x->zero;
        x->present = x->has_offset = true;
        x->offset = x->start;
    }
    extents_free(&ext);
    return r;
}

/* *below: NULL if the layer answers, else who is to be asked. */
static int map_qcow2(struct node *n, struct qc_extent *x, struct node **below)
{
    struct qc *q = n->state;
    struct qc_run run;
    int r = qc_l2_lookup(q, x->start, x->length, &run);
    *below = NULL;
    if (r < 0)
        return r;
    x->length = run.len;
    x->present = run.type != QC_UNALLOCATED;
    x->compressed = run.type == QC_COMPRESSED_TYPE;
    x->data = run.type == QC_NORMAL || x->compressed;
    x->zero = !x->data;
    x->has_offset = run.placed;
    x->offset = x->has_offset ? run.host_off : 0;
    uint64_t end = qc_backing_end(q);
    if (run.type == QC_UNALLOCATED && x->start < end) {
        x->length = min_u64(x->length, end - x->start);
        *below = q->backing;
    }
    return 0;
}

int qc_map(struct node *n, uint64_t off, uint64_t len, struct qc_extent *out)
{
    *out = (struct qc_extent){.start = off, .length = len};
    for (;;) {
        struct node *below = NULL;
        out->layer = n;
        int r = n->drv == &qcow2_driver ? map_qcow2(n, out, &below) : map_raw(n, out);
        if (r < 0 || !below)
            return r;
        n = below;
        out->depth++;
    }
}

bool qc_extent_joins(const struct qc_extent *a, const struct qc_extent *b)
{
    return a->start + a->length == b->start && a->depth == b->depth && a->layer == b->layer &&
           a->present == b->present && a->zero == b->zero && a->data == b->data &&
           a->compressed == b->compressed && a->has_offset == b->has_offset &&
           (!a->has_offset || a->offset + a->length == b->offset);
}
