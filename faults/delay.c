/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How long a delay is. Everything comes from the draw, so a delay belongs to its request.
 */
#include <math.h>

#include "base/bytes.h"
#include "faults/fault_priv.h"

#define NS_PER_MS UINT64_C(1000000)
#define Z99 2.3263 /* 99 of 100 normally distributed numbers are below it */
#define LONGEST_NS (UINT64_C(3600) * 1000 * NS_PER_MS)

/* A number of (0, 1]. */
static double unit_draw(uint64_t draw, unsigned purpose)
{
    return (double)(draw_below(draw, purpose, UINT64_C(1) << 53) + 1) * 0x1p-53;
}

/* Half of them take at most min, 99 of 100 at most max. */
static uint64_t lognormal_ns(const struct fault_act *a, uint64_t draw)
{
    double median = (double)max_u64(a->min_ms, 1);
    double sigma = log((double)max_u64(a->max_ms, 1) / median) / Z99;
    /* Box and Muller: two even numbers make a normal one. */
    double z = sqrt(-2 * log(unit_draw(draw, DRAW_DELAY))) *
               cos(2 * M_PI * unit_draw(draw, DRAW_DELAY_ANGLE));
    double ns = median * exp(sigma * z) * (double)NS_PER_MS;

    return ns < (double)LONGEST_NS ? (uint64_t)ns : LONGEST_NS;
}

/* From min at the window's begin to max at its end. */
static uint64_t ramp_ns(const struct fault_act *a, uint64_t at_ms, uint64_t from_ms, uint64_t to_ms)
{
    uint64_t span = to_ms - from_ms, in = at_ms < from_ms ? 0 : min_u64(at_ms - from_ms, span);
    unsigned __int128 more = (unsigned __int128)(a->max_ms - a->min_ms) * NS_PER_MS * in;

    return a->min_ms * NS_PER_MS + (uint64_t)(more / max_u64(span, 1));
}

uint64_t act_queue_ns(uint64_t *lane, unsigned n, uint64_t at_ms, uint64_t delay_ns)
{
    uint64_t now = at_ms * NS_PER_MS, wait;
    unsigned first = 0;

    for (unsigned i = 1; i < n; i++)
        if (lane[i] < lane[first])
            first = i;
    wait = lane[first] > now ? min_u64(lane[first] - now, 24 * LONGEST_NS) : 0;
    lane[first] = now + wait + delay_ns;
    return wait + delay_ns;
}

uint64_t act_delay_ns(const struct fault_act *a, uint64_t draw, uint64_t at_ms, uint64_t from_ms,
                      uint64_t to_ms)
{
    uint64_t spread = (a->max_ms - a->min_ms) * NS_PER_MS;

    switch ((enum fault_shape)a->shape) {
    case SHAPE_LOGNORMAL:
        return lognormal_ns(a, draw);
    case SHAPE_RAMP:
        return ramp_ns(a, at_ms, from_ms, to_ms);
    default:
        return a->min_ms * NS_PER_MS + draw_below(draw, DRAW_DELAY, spread + 1);
    }
}
