/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The driver throttle, and the objects throttle-group that its nodes name.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "control/blockdev.h"
#include "control/object.h"

#define KEYS(prefix, name)                                                                         \
    {prefix name, &q_int, true}, {prefix name "-max", &q_int, true},                               \
    {                                                                                              \
        prefix name "-max-length", &q_int, true                                                    \
    }
#define ALL_KEYS(prefix)                                                                           \
    KEYS(prefix, "bps-total"), KEYS(prefix, "bps-read"), KEYS(prefix, "bps-write"),                \
        KEYS(prefix, "iops-total"), KEYS(prefix, "iops-read"), KEYS(prefix, "iops-write"),         \
    {                                                                                              \
        prefix "iops-size", &q_int, true                                                           \
    }

static const struct qtype q_limits = {
    .kind = Q_STRUCT, .name = "ThrottleLimits", .member = Q_MEMBERS(ALL_KEYS(""))};
const struct qtype q_throttle_group = {.kind = Q_STRUCT,
                                       .name = "ThrottleGroupProperties",
                                       .member =
                                           Q_MEMBERS({"limits", &q_limits, true}, ALL_KEYS("x-"))};

/* One number, if it is there. */
static bool read_number(const json_t *from, const char *prefix, const char *name,
                        const char *suffix, uint64_t max, uint64_t *out, struct err **errp)
{
    char key[32];
    int64_t v;

    snprintf(key, sizeof(key), "%s%s%s", prefix, name, suffix);
    if (!arg_has(from, key))
        return true;
    v = arg_int(from, key, 0);
    if (v < 0)
        return err_set(errp, EINVAL, "Property values cannot be negative");
    if ((uint64_t)v > max)
        return err_set(errp, EINVAL, "%s value must be in the range [0, %" PRIu64 "]", key, max);
    *out = (uint64_t)v;
    return true;
}

static bool read_limits(const json_t *from, const char *prefix, struct throttle_limits *l,
                        struct err **errp)
{
    static const char *const names[THROTTLE_BUCKETS] = {
        [THROTTLE_BPS_TOTAL] = "bps-total", [THROTTLE_BPS_READ] = "bps-read",
        [THROTTLE_BPS_WRITE] = "bps-write", [THROTTLE_IOPS_TOTAL] = "iops-total",
        [THROTTLE_IOPS_READ] = "iops-read", [THROTTLE_IOPS_WRITE] = "iops-write",
    };

    for (unsigned i = 0; i < THROTTLE_BUCKETS; i++) {
        struct throttle_rate *r = &l->rate[i];

        if (!read_number(from, prefix, names[i], "", INT64_MAX, &r->avg, errp) ||
            !read_number(from, prefix, names[i], "-max", INT64_MAX, &r->max, errp) ||
            !read_number(from, prefix, names[i], "-max-length", UINT32_MAX, &r->burst_s, errp))
            return false;
    }
    return read_number(from, prefix, "iops-size", "", INT64_MAX, &l->iops_size, errp);
}

struct throttle_group *throttle_group_load(const json_t *args, struct err **errp)
{
    struct throttle_limits l;

    throttle_limits_init(&l);
    if (!read_limits(arg_get(args, "limits"), "", &l, errp) || !read_limits(args, "x-", &l, errp))
        return NULL;
    return throttle_group_new(&l, errp);
}

static struct node *open_throttle(struct blockdev_open *o, struct err **errp)
{
    struct throttle_group *g = object_throttle(o->ctl, arg_str(o->options, "throttle-group"), errp);
    struct node *n;

    if (!g)
        return NULL;
    n = throttle_open(node_ref(o->child[0]), g, errp);
    if (n)
        n->read_only |= o->read_only;
    else
        node_unref(o->child[0]);
    return n;
}

const struct blockdev_driver blockdev_throttle = {
    .name = "throttle",
    .child = {{"file", "file", ROLE_FILTER, false}},
    .open = open_throttle,
};

void throttle_lift_below(const struct graph_node *n, bool lift)
{
    if (n->node && n->node->drv == &throttle_driver)
        throttle_lift(n->node, lift);
    for (const struct graph_edge *e = n->children; e; e = e->next_child)
        throttle_lift_below(e->child, lift);
}

void throttle_lift_all(const struct graph *g)
{
    for (const struct graph_node *n = g->nodes; n; n = n->next) {
        if (n->node && n->node->drv == &throttle_driver)
            throttle_lift(n->node, true);
    }
}
