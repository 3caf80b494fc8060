/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Limits of bytes and operations per second, shared by all nodes of a group: QEMU's throttle
 * groups.
 */
#ifndef FILTERS_THROTTLE_H
#define FILTERS_THROTTLE_H

#include "block/node.h"

extern const struct driver throttle_driver;

enum throttle_bucket {
    THROTTLE_BPS_TOTAL,
    THROTTLE_BPS_READ,
    THROTTLE_BPS_WRITE,
    THROTTLE_IOPS_TOTAL,
    THROTTLE_IOPS_READ,
    THROTTLE_IOPS_WRITE,
    THROTTLE_BUCKETS
};

struct throttle_rate {
    uint64_t avg;     /* bytes or operations per second in the long run; 0: no limit */
    uint64_t max;     /* the same, in a burst; 0: none beyond a tenth of a second of avg */
    uint64_t burst_s; /* seconds that a burst lasts */
};

struct throttle_limits {
    struct throttle_rate rate[THROTTLE_BUCKETS];
    uint64_t iops_size; /* a request of more bytes than this counts as several; 0: as one */
};

/* throttle_limits_init: no limits at all. throttle_limits_check: do they go together? EINVAL with
 * QEMU's texts. */
void throttle_limits_init(struct throttle_limits *l);
bool throttle_limits_check(const struct throttle_limits *l, struct err **errp);

/* A group, counted: its maker has a reference and so has every node in it. limits are checked. */
struct throttle_group;
struct throttle_group *throttle_group_new(const struct throttle_limits *limits, struct err **errp);
struct throttle_group *throttle_group_ref(struct throttle_group *g);
void throttle_group_unref(struct throttle_group *g);
/* throttle_group_members: how many nodes are in it. */
unsigned throttle_group_members(const struct throttle_group *g);

/* throttle_open: child, with its reads, and its writes, zeros and discards, held to the group's
 * limits. Takes over the reference to child on success, and takes one of its own to the group. */
struct node *throttle_open(struct node *child, struct throttle_group *group, struct err **errp);
/* throttle_lift: let go what waits at this throttle node, and let all pass from now on, until the
 * same is called with false as often. For whoever waits for the node's requests to end. */
void throttle_lift(struct node *n, bool lift);

#endif
