/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Serialisation of requests that touch the same bytes: read-modify-write, copy on write.
 */
#ifndef BLOCK_OVERLAP_H
#define BLOCK_OVERLAP_H

#include <stdbool.h>
#include <stdint.h>

#include "io/lock.h"

/* A set of ranges in use. Zeroed is valid. */
struct overlap_list {
    struct overlap *head;
};
/* One range in use; lives on the stack of the request that uses it. */
struct overlap {
    uint64_t off, len;
    bool exclusive;
    struct co_queue waiters;
    struct overlap *prev, *next;
};

/* overlap_begin: wait until no earlier range that intersects [off, off + len) conflicts (a conflict
 * needs at least one of the two to be exclusive), then enter. Yields. First come, first served,
 * so that it cannot starve or deadlock as long as a holder enters no second range of the list. */
void overlap_begin(struct overlap_list *l, struct overlap *o, uint64_t off, uint64_t len,
                   bool exclusive);
/* overlap_end: leave; wakes those that waited for it. Does not yield. */
void overlap_end(struct overlap_list *l, struct overlap *o);

#endif
