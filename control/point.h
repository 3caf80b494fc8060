/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A point in time of one node: a frozen view of it, and the bitmap that says what has changed since
 * an earlier one. What push jobs and pull sessions have in common.
 *
 * Taken while the node is drained; so several nodes that are drained together have it at the same
 * moment. It is a guard of the node (block/guard.h) and not a filter above it: who uses the node
 * goes on using it, and a change by any of them is seen.
 */
#ifndef CONTROL_POINT_H
#define CONTROL_POINT_H

#include "bitmap/bitmap.h"
#include "control/control_priv.h"
#include "filters/filters.h"

struct point {
    struct control *ctl;
    struct graph_edge *use; /* of the node */
    struct node *cbw, *view;
    struct bitmap *bitmap; /* frozen; NULL: none, or settled */
};

/* point_take: of a node that is drained. user: for messages. bitmap: NULL, or one that is idle; it
 * is frozen. Does not yield. */
bool point_take(struct control *c, struct point *p, struct graph_node *n, const char *user,
                const struct cbw_view_opts *view, struct bitmap *bitmap, struct err **errp);
/* point_settle: what becomes of the bitmap: from this point on (advance), or as if it had never
 * been frozen. Nothing without one. Does not yield. */
void point_settle(struct point *p, bool advance);
/* point_free: a settled one, or one that was not taken. Yields. */
void point_free(struct point *p);

#endif
