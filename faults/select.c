/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Selectors: which requests a fault is about. Those that look at the request come first, those
 * that count come after them, so that a count is one of matching requests and of no others.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "faults/fault_priv.h"

/* glob: does text match pattern? '*' is any text, '?' any byte. Linear in both: one star back is
 * all that ever needs to be tried again. */
static bool glob(const char *pattern, const char *text)
{
    const char *star = NULL, *back = NULL;

    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            back = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++back;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == 0;
}

bool select_origin(const struct fault_select *s, const struct fault_req *q)
{
    if (s->export && !(q->export && glob(s->export, q->export)))
        return false;
    if (s->client && !(q->client && glob(s->client, q->client)))
        return false;
    return s->conn == 0 || s->conn == q->conn;
}

static bool select_window(const struct fault_select *s, const struct fault_req *q)
{
    return s->to_ms == 0 || (q->at_ms >= s->from_ms && q->at_ms < s->to_ms);
}

bool select_matches(const struct fault_select *s, const struct fault_req *q, uint32_t state)
{
    if (s->state != 0 && s->state != state)
        return false;
    if (s->kinds != 0 && (q->kind >= 32 || !(s->kinds & (1u << q->kind))))
        return false;
    if (s->fua != FUA_ANY && q->fua != (s->fua == FUA_ON))
        return false;
    if (s->events != 0 && !(q->events & s->events))
        return false;
    if (!select_origin(s, q) || !select_window(s, q))
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

static void put_origin(const struct fault_select *s, const struct rules_names *names, struct out *o)
{
    const char *comma = " event=";

    for (unsigned ev = 0; ev < names->n_events; ev++) {
        if (!(s->events >> ev & 1))
            continue;
        out_put(o, "%s%s", comma, names->event[ev]);
        comma = ",";
    }
    if (s->export)
        out_put(o, " export=%s", s->export);
    if (s->client)
        out_put(o, " client=%s", s->client);
    if (s->conn)
        out_put(o, " conn=%" PRIu64, s->conn);
    if (s->to_ms)
        out_put(o, " window=%" PRIu64 "ms..%" PRIu64 "ms", s->from_ms, s->to_ms);
}

void select_describe(const struct fault_select *s, const struct rules_names *names, struct out *o)
{
    out_put(o, "layer=%s op=", fault_layer_names[s->layer]);
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
    put_origin(s, names, o);
    put_counting(s, o);
}
