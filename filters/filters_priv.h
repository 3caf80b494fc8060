/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of filters/ share.
 */
#ifndef FILTERS_FILTERS_PRIV_H
#define FILTERS_FILTERS_PRIV_H

#include "filters/filters.h"

#define ALL_FUA ((1u << REQ_WRITE) | (1u << REQ_ZERO) | (1u << REQ_DISCARD))

/* node_over: a node of drv, named like child, with child below it. Takes over the reference to
 * child on success. Its state is zeroed; the driver's close must bear that (and nothing more needs
 * to, if a constructor fails and drops the node). */
struct node *node_over(const struct driver *drv, struct node *child, struct err **errp);

/* node_abandon: undo node_over in a constructor that fails: the caller keeps child. Does not
 * yield. */
void node_abandon(struct node *n);

#endif
