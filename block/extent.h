/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Extent lists: what a block status request returns.
 */
#ifndef BLOCK_EXTENT_H
#define BLOCK_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum extent_flags {
    EXTENT_HOLE = 1, /* not allocated in the host */
    EXTENT_ZERO = 2, /* reads as zeros */
    /* In answers to a STATUS with REQ_DEPTH, besides: */
    EXTENT_NOWHERE = 4,    /* no image of the chain has it */
    EXTENT_LEVEL = 1 << 8, /* so many times: how many images below the top one has it */
};

struct extent {
    uint64_t len; /* bytes, > 0 */
    uint32_t flags;
};

/* Adjacent extents of equal flags are merged as they are added. */
struct extents {
    struct extent *v;
    size_t n, cap;
    size_t max;     /* stop after this many: extents_add then reports full */
    uint64_t total; /* sum of len */
};

/* extents_init: max > 0: the most extents to hold. Allocates nothing. */
void extents_init(struct extents *x, size_t max);
void extents_free(struct extents *x);
/* extents_clear: empty it, keeping the memory. */
void extents_clear(struct extents *x);
/* extents_add: append len bytes (0 is a no-op). Returns 1 if added, 0 if full (nothing added),
 * -ENOMEM. */
int extents_add(struct extents *x, uint64_t len, uint32_t flags);
/* extents_trim: cut the list so that its total is at most len. */
void extents_trim(struct extents *x, uint64_t len);

#endif
