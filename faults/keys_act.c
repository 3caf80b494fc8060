/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The keys of [fault] sections that say what is done: how each value gets into the action.
 */
#include <errno.h>

#include "base/mem.h"
#include "faults/keys_priv.h"

#define MS_MAX (3600 * 1000)

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
    keys_dots(t, &lo, &hi);
    if (!value_number(text_trim(lo), "ms", 0, MS_MAX, &f->act.min_ms, errp))
        return false;
    f->act.max_ms = f->act.min_ms;
    return !hi.at || value_number(text_trim(hi), "ms", f->act.min_ms, MS_MAX, &f->act.max_ms, errp);
}

TAKE(timeout)
{
    UNUSED_NAMES;
    return value_duration(t, "timeout", &f->act.hang_ms, errp) &&
           (f->act.hang_ms > 0 || err_set(errp, EINVAL, "'timeout' must not be 0"));
}

TAKE(lanes)
{
    uint64_t v;

    UNUSED_NAMES;
    if (!value_number(t, "lanes", 1, LANES_MAX, &v, errp))
        return false;
    f->act.lanes = (unsigned)v;
    return true;
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
    return value_word(t, "keep", fault_keep_names, KEEP_MASK, &f->act.keep, errp);
}

TAKE(mask)
{
    UNUSED_NAMES;
    f->act.keep = KEEP_MASK;
    return value_number(t, "mask", 1, UINT64_MAX, &f->act.mask, errp);
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

TAKE(to)
{
    UNUSED_NAMES;
    return value_size(t, "to", &f->act.to, errp);
}

TAKE(swap)
{
    UNUSED_NAMES;
    return value_bool(t, "swap", &f->act.swap, errp);
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

/* A value, or a place; check_keys knows which. */
TAKE(byte)
{
    UNUSED_NAMES;
    f->act.how = HOW_FILL;
    return value_number(t, "byte", 0, UINT32_MAX, &f->act.byte, errp);
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
    return keys_u32(t, "new_state", &f->act.new_state, errp);
}

static bool take_how(struct ini_text t, const char *key, enum fault_how how, struct fault *f,
                     struct err **errp)
{
    bool on;

    if (!value_bool(t, key, &on, errp))
        return false;
    if (on)
        f->act.how = how;
    return true;
}

TAKE(stale)
{
    UNUSED_NAMES;
    return take_how(t, "stale", HOW_STALE, f, errp);
}

TAKE(stuck)
{
    UNUSED_NAMES;
    return take_how(t, "stuck", HOW_STUCK, f, errp);
}

TAKE(shape)
{
    UNUSED_NAMES;
    return value_word(t, "shape", fault_shape_names, SHAPE_COUNT, &f->act.shape, errp);
}

/* One of two words: *second says whether it is that. */
static bool take_either(struct ini_text t, const char *key, const char *a, const char *b,
                        bool *second, struct err **errp)
{
    const char *const words[] = {a, b};
    unsigned v = 0;

    if (!value_word(t, key, words, 2, &v, errp))
        return false;
    *second = v;
    return true;
}

TAKE(heal)
{
    UNUSED_NAMES;
    return take_either(t, "heal", "never", "write", &f->act.heals, errp);
}

TAKE(where)
{
    UNUSED_NAMES;
    return take_either(t, "where", "overlay", "disk", &f->act.on_disk, errp);
}

TAKE(drop)
{
    UNUSED_NAMES;
    return take_either(t, "drop", "nothing", "unflushed", &f->act.drop, errp);
}

TAKE(mode)
{
    UNUSED_NAMES;
    return take_either(t, "mode", "rst", "fin", &f->act.orderly, errp);
}

TAKE(then)
{
    UNUSED_NAMES;
    return take_either(t, "then", "nothing", "powercut", &f->act.then_powercut, errp);
}

TAKE(wrong)
{
    UNUSED_NAMES;
    return value_word(t, "wrong", fault_wrong_names, WRONG_COUNT, &f->act.wrong, errp);
}
