/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the two files of the fault filter share.
 */
#ifndef FILTERS_FAULT_PRIV_H
#define FILTERS_FAULT_PRIV_H

#include "faults/fault.h"
#include "filters/filters_priv.h"
#include "io/lock.h"

struct fault_node {
    struct rules *rules; /* the host layer's node owns them */
    enum fault_layer layer;
    bool may_hang;
    struct co_queue hung;
};

/* fault_carry_out: do with r what was decided. Yields. */
int fault_carry_out(struct node *n, struct req *r, const struct fault_decision *d);

#endif
