/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the cache node and its crash states share.
 */
#ifndef FILTERS_CACHE_PRIV_H
#define FILTERS_CACHE_PRIV_H

#include "faults/crash.h"
#include "filters/cache.h"
#include "filters/filters_priv.h"
#include "io/lock.h"

struct cache_node {
    struct cache c;
    struct co_mutex stage; /* held while records move to the medium */
    uint64_t gen;          /* grows when bytes leave the cache that are on the medium */
    bool cut;
    bool finding;            /* what it may have left, in a coroutine */
    struct co_queue found;   /* who waits for that */
    struct crash_set *crash; /* what the cut may have left; NULL: not cut, or no memory */
};

/* cache_wait_found: until what a cut left is known, if there was one. */
void cache_wait_found(struct node *cache);

#endif
