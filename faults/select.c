/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Selectors: which requests a fault is about. Those that look at the request come first, those
 * that count come after them, so that a count is one of matching requests and of no others.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "faults/fault_priv.h"

bool select_matches(const struct fault_select *s, const struct fault_req *q, uint32_t state)
{
    if (s->state != 0 && s->state != state)
        return false;
    if (s->kinds != 0 && (q->kind >= 32 || !(s->kinds & (1u << q->kind))))
        return false;
    if (s->fua != FUA_ANY && q->fua != (s->fua == FUA_ON))
        return false;
    if (q->len < s->min_len)
        return false;
    /* Requests of no bytes, such as flushes, touch nothing. Ends are below 2^64: see range. */
    return s->len == 0 || (q->off < s->off + s->len && s->off < q->off + q->len);
}

bool select_counts(const struct fault_select *s, uint64_t matched)
{
    uint64_t first = s->nth ? s->nth : s->every;

    if (s->every == 0)
        return s->nth == 0 || matched == s->nth;
    return matched >= first && (matched - first) % s->every == 0;
}

static void put_counting(const struct fault_select *s, struct out *o)
{
    if (s->nth)
        out_put(o, " nth=%" PRIu64, s->nth);
    if (s->every)
        out_put(o, " every=%" PRIu64, s->every);
    if (s->limit)
        out_put(o, " limit=%" PRIu64, s->limit);
    if (s->prob < 1)
        out_put(o, " prob=%.10g%%", s->prob * 100);
}

void select_describe(const struct fault_select *s, const struct rules_names *names, struct out *o)
{
    out_put(o, "layer=%s op=", s->layer == FAULT_HOST ? "host" : "guest");
    out_words(o, s->ops, fault_op_names, FAULT_IO_COUNT);
    if (s->kinds) {
        out_put(o, " kind=");
        out_words(o, s->kinds, names->kind, names->n_kinds);
    }
    if (s->fua != FUA_ANY)
        out_put(o, " fua=%s", s->fua == FUA_ON ? "on" : "off");
    if (s->len) {
        out_put(o, " range=");
        out_size(o, s->off);
        out_put(o, "+");
        out_size(o, s->len);
    }
    if (s->min_len) {
        out_put(o, " minlen=");
        out_size(o, s->min_len);
    }
    if (s->state)
        out_put(o, " state=%" PRIu32, s->state);
    put_counting(s, o);
}
