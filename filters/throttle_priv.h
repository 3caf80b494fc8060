/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The buckets of a throttle group.
 */
#ifndef FILTERS_THROTTLE_PRIV_H
#define FILTERS_THROTTLE_PRIV_H

#include "filters/throttle.h"

struct buckets {
    struct throttle_limits limits;
    /* What was let through and has not leaked yet, in bytes or operations: at the long-term rate,
     * and at that of a burst. */
    double level[THROTTLE_BUCKETS], burst_level[THROTTLE_BUCKETS];
    int64_t leaked_ns; /* when they leaked last */
};

/* buckets_wait_ns: how long the next read or write must wait at the time now_ns; 0: it may go.
 * Never more than INT64_MAX / 4. */
int64_t buckets_wait_ns(struct buckets *b, bool write, int64_t now_ns);
/* buckets_add: one of len bytes goes. */
void buckets_add(struct buckets *b, bool write, uint64_t len);
/* buckets_limit: is there any limit for reads, or writes? */
bool buckets_limit(const struct buckets *b, bool write);

#endif
