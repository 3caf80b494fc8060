/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A disk under private changes: nothing of it is copied, and nothing is written to it.
 */
#ifndef FILTERS_OVERLAY_H
#define FILTERS_OVERLAY_H

#include "block/node.h"
#include "faults/pages.h"
#include "faults/recording.h"

extern const struct driver overlay_driver, record_driver;

/* overlay_open: what is written stays in memory, at most limit bytes of it; then -ENOSPC. Takes
 * over the reference to child on success. Writes are done in one instant, without a yield. size and
 * growable may be set by the caller. Does not yield. */
struct node *overlay_open(struct node *child, uint64_t limit, struct err **errp);
/* overlay_pages: what lies over the child. */
struct pages *overlay_pages(struct node *n);

/* record_open: write down in r (borrowed; it must outlive the node) what is done to child, which is
 * an overlay, so that the order of the recording is the order in which it was done. What cannot be
 * recorded is not done and fails. Discarded ranges read as zeros, but for RECORDED_TRIM_MAX. Takes
 * over the reference to child on success. Does not yield. */
struct node *record_open(struct node *child, struct recording *r, struct err **errp);

#endif
