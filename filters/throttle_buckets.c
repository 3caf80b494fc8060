/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Leaky buckets, as QEMU's throttling has them (docs/throttle.txt there): what passes fills a
 * bucket, which leaks at the rate of the limit; while it is over its brim nothing passes. So a
 * request of any size may go at once and those behind it pay for it, which needs no knowledge of
 * what is to come. A bucket without a burst rate holds a tenth of a second, or every request would
 * have to wait for the one before.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "filters/throttle_priv.h"
#include "io/reactor.h"

#define RATE_MAX UINT64_C(1000000000000000)

void throttle_limits_init(struct throttle_limits *l)
{
    *l = (struct throttle_limits){0};
    for (unsigned i = 0; i < THROTTLE_BUCKETS; i++)
        l->rate[i].burst_s = 1;
}

static bool check_mix(const struct throttle_rate *total, struct err **errp)
{
    if ((total[0].avg && (total[1].avg || total[2].avg)) ||
        (total[0].max && (total[1].max || total[2].max)))
        return err_set(errp, EINVAL,
                       "bps/iops/max total values and read/write values cannot be used at the "
                       "same time");
    return true;
}

static bool check_rate(const struct throttle_rate *r, struct err **errp)
{
    if (r->avg > RATE_MAX || r->max > RATE_MAX)
        return err_set(errp, EINVAL, "bps/iops/max values must be within [0, %" PRIu64 "]",
                       RATE_MAX);
    if (r->burst_s == 0)
        return err_set(errp, EINVAL, "the burst length cannot be 0");
    if (r->burst_s > 1 && !r->max)
        return err_set(errp, EINVAL, "burst length set without burst rate");
    if (r->max && r->burst_s > RATE_MAX / r->max)
        return err_set(errp, EINVAL, "burst length too high for this burst rate");
    if (r->max && !r->avg)
        return err_set(errp, EINVAL, "bps_max/iops_max require corresponding bps/iops values");
    if (r->max && r->max < r->avg)
        return err_set(errp, EINVAL, "bps_max/iops_max cannot be lower than bps/iops");
    return true;
}

bool throttle_limits_check(const struct throttle_limits *l, struct err **errp)
{
    const struct throttle_rate *iops = &l->rate[THROTTLE_IOPS_TOTAL];

    if (!check_mix(&l->rate[THROTTLE_BPS_TOTAL], errp) || !check_mix(iops, errp))
        return false;
    if (l->iops_size && !iops[0].avg && !iops[1].avg && !iops[2].avg)
        return err_set(errp, EINVAL, "iops size requires an iops value to be set");
    for (unsigned i = 0; i < THROTTLE_BUCKETS; i++) {
        if (!check_rate(&l->rate[i], errp))
            return false;
    }
    return true;
}

static bool concerns(unsigned bucket, bool write)
{
    unsigned kind = bucket % THROTTLE_IOPS_TOTAL;

    return kind == THROTTLE_BPS_TOTAL || (kind == THROTTLE_BPS_WRITE) == write;
}

static void leak(struct buckets *b, int64_t now_ns)
{
    double s = (double)(now_ns - b->leaked_ns) / NS_PER_S;

    b->leaked_ns = now_ns;
    for (unsigned i = 0; i < THROTTLE_BUCKETS; i++) {
        const struct throttle_rate *r = &b->limits.rate[i];

        b->level[i] -= (double)r->avg * s;
        b->burst_level[i] -= (double)r->max * s;
        if (b->level[i] < 0)
            b->level[i] = 0;
        if (b->burst_level[i] < 0)
            b->burst_level[i] = 0;
    }
}

static double wait_s(const struct throttle_rate *r, double level, double burst_level)
{
    double brim = r->max ? (double)r->max * (double)r->burst_s : (double)r->avg / 10;

    if (r->avg == 0)
        return 0;
    if (level > brim)
        return (level - brim) / (double)r->avg;
    brim = (double)r->max / 10;
    return r->burst_s > 1 && burst_level > brim ? (burst_level - brim) / (double)r->max : 0;
}

int64_t buckets_wait_ns(struct buckets *b, bool write, int64_t now_ns)
{
    double most = 0;

    leak(b, now_ns);
    for (unsigned i = 0; i < THROTTLE_BUCKETS; i++) {
        double s = wait_s(&b->limits.rate[i], b->level[i], b->burst_level[i]);

        if (concerns(i, write) && s > most)
            most = s;
    }
    if (most >= (double)(INT64_MAX / 4) / NS_PER_S)
        return INT64_MAX / 4;
    /* Rounded up: woken a nanosecond early there would still be a little over the brim. */
    return most > 0 ? (int64_t)(most * NS_PER_S) + 1 : 0;
}

void buckets_add(struct buckets *b, bool write, uint64_t len)
{
    uint64_t size = b->limits.iops_size;
    double ops = size && len > size ? (double)len / (double)size : 1;

    for (unsigned i = 0; i < THROTTLE_BUCKETS; i++) {
        double units = i < THROTTLE_IOPS_TOTAL ? (double)len : ops;

        if (!concerns(i, write) || b->limits.rate[i].avg == 0)
            continue;
        b->level[i] += units;
        if (b->limits.rate[i].burst_s > 1)
            b->burst_level[i] += units;
    }
}

bool buckets_limit(const struct buckets *b, bool write)
{
    for (unsigned i = 0; i < THROTTLE_BUCKETS; i++) {
        if (concerns(i, write) && b->limits.rate[i].avg)
            return true;
    }
    return false;
}
