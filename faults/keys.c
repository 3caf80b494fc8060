/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The keys of [fault] sections: one table, one small function each; those of actions are in
 * keys_act.c. What keys mean together is judged when the section is complete.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "faults/keys_priv.h"

#define SELECT(what) static TAKE(what)

SELECT(op)
{
    UNUSED_NAMES;
    return value_words(t, "op", fault_op_names, FAULT_IO_COUNT, &f->sel.ops, errp);
}

SELECT(layer)
{
    unsigned v = 0;

    UNUSED_NAMES;
    if (!value_word(t, "layer", fault_layer_names, FAULT_LAYERS, &v, errp))
        return false;
    f->sel.layer = (enum fault_layer)v;
    return true;
}

SELECT(fua)
{
    bool on;

    UNUSED_NAMES;
    if (!value_bool(t, "fua", &on, errp))
        return false;
    f->sel.fua = on ? FUA_ON : FUA_OFF;
    return true;
}

SELECT(kind)
{
    return value_words(t, "kind", names->kind, names->n_kinds, &f->sel.kinds, errp);
}

SELECT(range)
{
    struct ini_text off, rest = t;
    char shown[64];

    UNUSED_NAMES;
    if (!text_split(&rest, '+', &off) || !rest.at)
        return err_set(errp, EINVAL, "'range' must be OFFSET+LENGTH, such as 1M+4k, not \"%s\"",
                       text_printable(t, shown));
    if (!value_size(text_trim(off), "range", &f->sel.off, errp) ||
        !value_size(text_trim(rest), "range", &f->sel.len, errp))
        return false;
    if (f->sel.len == 0 || f->sel.off + f->sel.len > INT64_MAX)
        return err_set(errp, EINVAL, "'range' must be at least one byte and end below 8E");
    return true;
}

SELECT(minlen)
{
    UNUSED_NAMES;
    return value_size(t, "minlen", &f->sel.min_len, errp);
}

bool keys_u32(struct ini_text t, const char *key, uint32_t *out, struct err **errp)
{
    uint64_t v;

    if (!value_number(t, key, 0, UINT32_MAX, &v, errp))
        return false;
    *out = (uint32_t)v;
    return true;
}

SELECT(state)
{
    UNUSED_NAMES;
    return keys_u32(t, "state", &f->sel.state, errp);
}

SELECT(event)
{
    struct ini_text part;
    unsigned ev = 0;

    while (text_split(&t, ',', &part)) {
        if (!value_word(text_trim(part), "event", names->event, names->n_events, &ev, errp))
            return false;
        f->sel.events |= UINT64_C(1) << ev;
    }
    return true;
}

static bool take_text(struct ini_text t, char **out, struct err **errp)
{
    *out = mem_strndup(t.at, t.len);
    return *out || err_set(errp, ENOMEM, "no memory for its rules");
}

SELECT(export)
{
    UNUSED_NAMES;
    return take_text(t, &f->sel.export, errp);
}

SELECT(client)
{
    UNUSED_NAMES;
    return take_text(t, &f->sel.client, errp);
}

SELECT(conn)
{
    UNUSED_NAMES;
    return value_number(t, "conn", 1, UINT64_MAX, &f->sel.conn, errp);
}

bool keys_dots(struct ini_text t, struct ini_text *lo, struct ini_text *hi)
{
    for (size_t i = 0; i + 1 < t.len; i++) {
        if (t.at[i] != '.' || t.at[i + 1] != '.')
            continue;
        *lo = text_trim((struct ini_text){t.at, i});
        *hi = text_trim((struct ini_text){t.at + i + 2, t.len - i - 2});
        return true;
    }
    return false;
}

SELECT(window)
{
    struct ini_text lo, hi;
    char shown[64];

    UNUSED_NAMES;
    if (!keys_dots(t, &lo, &hi))
        return err_set(errp, EINVAL, "'window' must be TIME..TIME, such as 10s..2m, not \"%s\"",
                       text_printable(t, shown));
    if (!value_duration(lo, "window", &f->sel.from_ms, errp) ||
        !value_duration(hi, "window", &f->sel.to_ms, errp))
        return false;
    return f->sel.to_ms > f->sel.from_ms ||
           err_set(errp, EINVAL, "'window' must end after it begins");
}

SELECT(nth)
{
    UNUSED_NAMES;
    return value_number(t, "nth", 1, UINT64_MAX, &f->sel.nth, errp);
}

SELECT(every)
{
    UNUSED_NAMES;
    return value_number(t, "every", 1, UINT64_MAX, &f->sel.every, errp);
}

SELECT(limit)
{
    UNUSED_NAMES;
    return value_number(t, "limit", 1, UINT64_MAX, &f->sel.limit, errp);
}

SELECT(once)
{
    bool on;

    UNUSED_NAMES;
    if (!value_bool(t, "once", &on, errp))
        return false;
    if (on)
        f->sel.limit = 1;
    return true;
}

SELECT(prob)
{
    UNUSED_NAMES;
    return value_prob(t, "prob", &f->sel.prob, errp);
}

SELECT(id)
{
    char shown[64];

    UNUSED_NAMES;
    if (!text_id_is_well_formed(t) || t.len > 63)
        return err_set(errp, EINVAL,
                       "\"%s\" is no id: use letters, digits, '-', '.' and '_', a letter first",
                       text_printable(t, shown));
    f->id = mem_strndup(t.at, t.len);
    return f->id || err_set(errp, ENOMEM, "no memory for its rules");
}

#define FOR(action) (1u << ACTION_##action)

const struct fault_key_info fault_keys[FK_COUNT] = {
    [FK_OP] = {"op", "OP,...", "read, write, zero, trim, flush, status", 0, take_op},
    [FK_LAYER] = {"layer", "host|guest", "under the image format, or above it [host]", 0,
                  take_layer},
    [FK_FUA] = {"fua", "on|off", "writes with or without forced unit access; guest only", 0,
                take_fua},
    [FK_KIND] = {"kind", "KIND,...",
                 "what a write holds: data, header, l1, l2, reftable, refblock, snapshot, bitmap; "
                 "host only",
                 0, take_kind},
    [FK_RANGE] = {"range", "OFF+LEN", "the request touches these bytes", 0, take_range},
    [FK_MINLEN] = {"minlen", "SIZE", "the request is at least so long", 0, take_minlen},
    [FK_STATE] = {"state", "N", "only in this state; 0: any [0]", 0, take_state},
    [FK_EVENT] = {"event", "EVENT,...", "its operation has just announced one of these; host only",
                  0, take_event},
    [FK_EXPORT] = {"export", "GLOB", "the export's name is like this", 0, take_export},
    [FK_CLIENT] = {"client", "GLOB", "the client's address is like this", 0, take_client},
    [FK_CONN] = {"conn", "N", "it is from the server's Nth connection", 0, take_conn},
    [FK_WINDOW] = {"window", "TIME..TIME", "it comes so long after serving began", 0, take_window},
    [FK_NTH] = {"nth", "N", "only the Nth that matches; with every: from the Nth on", 0, take_nth},
    [FK_EVERY] = {"every", "N", "every Nth that matches", 0, take_every},
    [FK_LIMIT] = {"limit", "N", "strikes at most N times", 0, take_limit},
    [FK_ONCE] = {"once", "on|off", "strikes once: limit=1", 0, take_once},
    [FK_PROB] = {"prob", "P", "with this probability: 25% or 0.25", 0, take_prob},
    [FK_ID] = {"id", "NAME", "its name; or in the section: [fault \"name\"]", 0, take_id},
    [FK_ACTION] = {"action", "ACTION", "what is done; must be given", 0, take_action},
    [FK_THEN] = {"then", "powercut", "and then the power is cut",
                 FOR(ERROR) | FOR(SHORT) | FOR(TORN) | FOR(LOST) | FOR(MISDIRECT) | FOR(CORRUPT) |
                     FOR(NOSPACE),
                 take_then},
    [FK_ERROR] = {"errno", "NAME|N", "the error [EIO]",
                  FOR(ERROR) | FOR(HANG) | FOR(SHORT) | FOR(REPLY) | FOR(SCRIPT), take_errno},
    [FK_MS] = {"ms", "N|N..M", "milliseconds, fixed or drawn from a range", FOR(DELAY), take_ms},
    [FK_TIMEOUT] = {"timeout", "TIME", "then it fails after all, with errno [never]", FOR(HANG),
                    take_timeout},
    [FK_LANES] = {"lanes", "N", "only so many wait at a time, the others behind them [all]",
                  FOR(DELAY), take_lanes},
    [FK_BYTES] = {"bytes", "SIZE", "how much is transferred [half]", FOR(SHORT), take_bytes},
    [FK_UNIT] = {"unit", "512|4096", "what cannot tear [512]", FOR(TORN), take_unit},
    [FK_KEEP] = {"keep", "UNITS", "prefix, suffix, random, prefix:random, suffix:random [prefix]",
                 FOR(TORN), take_keep},
    [FK_MASK] = {"mask", "N", "a bit for each unit that is written, the lowest for the first",
                 FOR(TORN), take_mask},
    [FK_DELTA] = {"delta", "SIZE", "so far from the right place; may be negative", FOR(MISDIRECT),
                  take_delta},
    [FK_TO] = {"to", "OFFSET", "to this place instead", FOR(MISDIRECT), take_to},
    [FK_SWAP] = {"swap", "on|off", "and what was there comes to the right place", FOR(MISDIRECT),
                 take_swap},
    [FK_BITS] = {"bits", "N", "so many bits are flipped, 1 to 64 [1]", FOR(CORRUPT), take_bits},
    [FK_BYTE] = {"byte", "N", "all bytes become this; so many are sent first [0]",
                 FOR(CORRUPT) | FOR(DISCONNECT), take_byte},
    [FK_ZERO] = {"zero", "on|off", "all bytes become 0", FOR(CORRUPT), take_zero},
    [FK_AFTER] = {"after", "SIZE", "so much can be written before", FOR(NOSPACE), take_after},
    [FK_SHAPE] = {"shape", "SHAPE",
                  "of N..M: uniform, lognormal (median N, 99 of 100 below M), ramp over the window "
                  "[uniform]",
                  FOR(DELAY), take_shape},
    [FK_HEAL] = {"heal", "write|never", "what ends it [write]", FOR(BADSECTOR), take_heal},
    [FK_STALE] = {"stale", "on|off", "reads find what was there before the last write",
                  FOR(CORRUPT), take_stale},
    [FK_STUCK] = {"stuck", "on|off", "reads find what was there before the first write",
                  FOR(CORRUPT), take_stuck},
    [FK_WHERE] = {"where", "overlay|disk",
                  "damage lies over the true disk, or is done to it "
                  "[overlay]",
                  FOR(TORN) | FOR(LOST) | FOR(MISDIRECT) | FOR(CORRUPT), take_where},
    [FK_DROP] = {"drop", "unflushed",
                 "a failed flush loses what it should have saved; needs a "
                 "[cache]",
                 FOR(ERROR), take_drop},
    [FK_MODE] = {"mode", "rst|fin", "by a reset, or in order [rst]", FOR(DISCONNECT), take_mode},
    [FK_WRONG] = {"wrong", "WHAT", "magic, cookie, duplicate, truncate, errno", FOR(REPLY),
                  take_wrong},
    [FK_FILE] = {"file", "FILE", "the script, from the folder of the rule file on", FOR(SCRIPT),
                 script_take_file},
    [FK_HOOK] = {"hook", "NAME", "its function that is asked [decide]", FOR(SCRIPT),
                 script_take_hook},
    [FK_BUDGET] = {"budget", "N", "instructions for each request [100000]", FOR(SCRIPT),
                   script_take_budget},
    [FK_MEMORY] = {"memory", "SIZE", "most that it may have [4M]", FOR(SCRIPT), script_take_memory},
    [FK_NEW_STATE] = {"new_state", "N", "the state from the next request on", FOR(STATE),
                      take_new_state},
};
