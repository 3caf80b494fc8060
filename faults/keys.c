/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The keys of [fault] sections: one table, one small function each. What keys mean together is
 * judged when the section is complete.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "faults/fault_priv.h"

#define MS_MAX (3600 * 1000)
#define UNUSED_NAMES (void)names

#define TAKE(what)                                                                                 \
    static bool take_##what(struct ini_text t, const struct rules_names *names, struct fault *f,   \
                            struct err **errp)

TAKE(op)
{
    UNUSED_NAMES;
    return value_words(t, "op", fault_op_names, FAULT_IO_COUNT, &f->sel.ops, errp);
}

TAKE(layer)
{
    static const char *const layers[FAULT_LAYERS] = {"host", "guest"};
    unsigned v = 0;

    UNUSED_NAMES;
    if (!value_word(t, "layer", layers, FAULT_LAYERS, &v, errp))
        return false;
    f->sel.layer = (enum fault_layer)v;
    return true;
}

TAKE(fua)
{
    bool on;

    UNUSED_NAMES;
    if (!value_bool(t, "fua", &on, errp))
        return false;
    f->sel.fua = on ? FUA_ON : FUA_OFF;
    return true;
}

TAKE(kind)
{
    return value_words(t, "kind", names->kind, names->n_kinds, &f->sel.kinds, errp);
}

TAKE(range)
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

TAKE(minlen)
{
    UNUSED_NAMES;
    return value_size(t, "minlen", &f->sel.min_len, errp);
}

static bool take_u32(struct ini_text t, const char *key, uint32_t *out, struct err **errp)
{
    uint64_t v;

    if (!value_number(t, key, 0, UINT32_MAX, &v, errp))
        return false;
    *out = (uint32_t)v;
    return true;
}

TAKE(state)
{
    UNUSED_NAMES;
    return take_u32(t, "state", &f->sel.state, errp);
}

TAKE(nth)
{
    UNUSED_NAMES;
    return value_number(t, "nth", 1, UINT64_MAX, &f->sel.nth, errp);
}

TAKE(every)
{
    UNUSED_NAMES;
    return value_number(t, "every", 1, UINT64_MAX, &f->sel.every, errp);
}

TAKE(limit)
{
    UNUSED_NAMES;
    return value_number(t, "limit", 1, UINT64_MAX, &f->sel.limit, errp);
}

TAKE(once)
{
    bool on;

    UNUSED_NAMES;
    if (!value_bool(t, "once", &on, errp))
        return false;
    if (on)
        f->sel.limit = 1;
    return true;
}

TAKE(prob)
{
    UNUSED_NAMES;
    return value_prob(t, "prob", &f->sel.prob, errp);
}

TAKE(id)
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

TAKE(action)
{
    const char *all[ACTION_COUNT];
    unsigned v = 0;

    UNUSED_NAMES;
    for (unsigned i = 0; i < ACTION_COUNT; i++)
        all[i] = fault_actions[i].name;
    if (!value_word(t, "action", all, ACTION_COUNT, &v, errp))
        return false;
    f->act.action = (enum fault_action)v;
    return true;
}

TAKE(errno)
{
    UNUSED_NAMES;
    return value_errno(t, "errno", &f->act.error, errp);
}

TAKE(ms)
{
    struct ini_text hi = {NULL, 0}, lo = t;

    UNUSED_NAMES;
    for (size_t i = 0; i + 1 < t.len; i++) {
        if (t.at[i] == '.' && t.at[i + 1] == '.') {
            lo.len = i;
            hi = (struct ini_text){t.at + i + 2, t.len - i - 2};
            break;
        }
    }
    if (!value_number(text_trim(lo), "ms", 0, MS_MAX, &f->act.min_ms, errp))
        return false;
    f->act.max_ms = f->act.min_ms;
    return !hi.at || value_number(text_trim(hi), "ms", f->act.min_ms, MS_MAX, &f->act.max_ms, errp);
}

TAKE(bytes)
{
    UNUSED_NAMES;
    return value_size(t, "bytes", &f->act.bytes, errp);
}

TAKE(unit)
{
    uint64_t v;
    char shown[64];

    UNUSED_NAMES;
    if (!value_size(t, "unit", &v, errp))
        return false;
    if (v != 512 && v != 4096)
        return err_set(errp, EINVAL, "'unit' must be 512 or 4096, not \"%s\"",
                       text_printable(t, shown));
    f->act.unit = (uint32_t)v;
    return true;
}

TAKE(keep)
{
    UNUSED_NAMES;
    return value_word(t, "keep", fault_keep_names, KEEP_COUNT, &f->act.keep, errp);
}

TAKE(delta)
{
    bool back = t.len > 0 && t.at[0] == '-', sign = back || (t.len > 0 && t.at[0] == '+');
    struct ini_text size = {t.at + sign, t.len - sign};
    uint64_t v;

    UNUSED_NAMES;
    if (!value_size(size, "delta", &v, errp))
        return false;
    if (v == 0)
        return err_set(errp, EINVAL, "'delta' must not be 0: that is the right place");
    f->act.delta = back ? -(int64_t)v : (int64_t)v;
    return true;
}

TAKE(bits)
{
    uint64_t v;

    UNUSED_NAMES;
    if (!value_number(t, "bits", 1, BITS_MAX, &v, errp))
        return false;
    f->act.how = HOW_FLIP;
    f->act.bits = (unsigned)v;
    return true;
}

TAKE(byte)
{
    uint64_t v;

    UNUSED_NAMES;
    if (!value_number(t, "byte", 0, 255, &v, errp))
        return false;
    f->act.how = HOW_FILL;
    f->act.byte = (uint8_t)v;
    return true;
}

TAKE(zero)
{
    bool on;

    UNUSED_NAMES;
    if (!value_bool(t, "zero", &on, errp))
        return false;
    if (on) {
        f->act.how = HOW_FILL;
        f->act.byte = 0;
    }
    return true;
}

TAKE(after)
{
    UNUSED_NAMES;
    return value_size(t, "after", &f->act.quota, errp);
}

TAKE(new_state)
{
    UNUSED_NAMES;
    return take_u32(t, "new_state", &f->act.new_state, errp);
}

#define FOR(action) (1u << ACTION_##action)

const struct fault_key_info fault_keys[FK_COUNT] = {
    [FK_OP] = {"op", "OP,...", "read, write, zero, trim, flush, status", 0, take_op},
    [FK_LAYER] = {"layer", "host|guest", "under the image format, or above it [host]", 0,
                  take_layer},
    [FK_FUA] = {"fua", "on|off", "writes with or without forced unit access; guest only", 0,
                take_fua},
    [FK_KIND] = {"kind", "KIND,...",
                 "what a write holds: data, header, l1, l2, reftable, refblock; host only", 0,
                 take_kind},
    [FK_RANGE] = {"range", "OFF+LEN", "the request touches these bytes", 0, take_range},
    [FK_MINLEN] = {"minlen", "SIZE", "the request is at least so long", 0, take_minlen},
    [FK_STATE] = {"state", "N", "only in this state; 0: any [0]", 0, take_state},
    [FK_NTH] = {"nth", "N", "only the Nth that matches; with every: from the Nth on", 0, take_nth},
    [FK_EVERY] = {"every", "N", "every Nth that matches", 0, take_every},
    [FK_LIMIT] = {"limit", "N", "strikes at most N times", 0, take_limit},
    [FK_ONCE] = {"once", "on|off", "strikes once: limit=1", 0, take_once},
    [FK_PROB] = {"prob", "P", "with this probability: 25% or 0.25", 0, take_prob},
    [FK_ID] = {"id", "NAME", "its name; or in the section: [fault \"name\"]", 0, take_id},
    [FK_ACTION] = {"action", "ACTION", "what is done; must be given", 0, take_action},
    [FK_ERROR] = {"errno", "NAME|N", "the error [EIO]", FOR(ERROR) | FOR(SHORT), take_errno},
    [FK_MS] = {"ms", "N|N..M", "milliseconds, fixed or drawn from a range", FOR(DELAY), take_ms},
    [FK_BYTES] = {"bytes", "SIZE", "how much is transferred [half]", FOR(SHORT), take_bytes},
    [FK_UNIT] = {"unit", "512|4096", "what cannot tear [512]", FOR(TORN), take_unit},
    [FK_KEEP] = {"keep", "UNITS", "prefix, suffix, random, prefix:random, suffix:random [prefix]",
                 FOR(TORN), take_keep},
    [FK_DELTA] = {"delta", "SIZE", "so far from the right place; may be negative", FOR(MISDIRECT),
                  take_delta},
    [FK_BITS] = {"bits", "N", "so many bits are flipped, 1 to 64 [1]", FOR(CORRUPT), take_bits},
    [FK_BYTE] = {"byte", "N", "all bytes become this", FOR(CORRUPT), take_byte},
    [FK_ZERO] = {"zero", "on|off", "all bytes become 0", FOR(CORRUPT), take_zero},
    [FK_AFTER] = {"after", "SIZE", "so much can be written before", FOR(NOSPACE), take_after},
    [FK_NEW_STATE] = {"new_state", "N", "the state from the next request on", FOR(STATE),
                      take_new_state},
};

bool fault_key_help(unsigned i, struct fault_help *out)
{
    struct out o = {out->goes_with, sizeof(out->goes_with), 0};

    if (i >= FK_COUNT)
        return false;
    *out = (struct fault_help){fault_keys[i].name, fault_keys[i].value, fault_keys[i].text, ""};
    for (unsigned a = 0; a < ACTION_COUNT; a++)
        if (fault_keys[i].actions & (1u << a))
            out_put(&o, "%s%s", o.used ? "," : "", fault_actions[a].name);
    return true;
}

bool fault_action_help(unsigned i, struct fault_help *out)
{
    struct out o = {out->goes_with, sizeof(out->goes_with), 0};

    if (i >= ACTION_COUNT)
        return false;
    *out = (struct fault_help){fault_actions[i].name, "", fault_actions[i].text, ""};
    out_words(&o, fault_actions[i].ops, fault_op_names, FAULT_IO_COUNT);
    return true;
}
