/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Actions: what is done to a request, as far as that is arithmetic on its bytes.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "faults/fault_priv.h"
#include "faults/script.h"

#define NEED(key) (UINT64_C(1) << FK_##key)
#define DISK (1u << FAULT_HOST | 1u << FAULT_GUEST)
#define WIRE (1u << FAULT_WIRE)
#define CHANGES (OP(WRITE) | OP(WRITE_ZEROES))

const struct fault_action_info fault_actions[ACTION_COUNT] = {
    [ACTION_ERROR] = {"error", "fails; nothing is done", OPS_WITH_STATUS, OPS_ALL, 0, DISK, false},
    [ACTION_DELAY] = {"delay", "waits first", OPS_WITH_STATUS, OPS_ALL, NEED(MS), DISK | WIRE,
                      true},
    [ACTION_HANG] = {"hang", "gets no answer until its timeout or the server's end",
                     OPS_WITH_STATUS, OPS_ALL, 0, DISK, false},
    [ACTION_SHORT] = {"short", "fails after a prefix was transferred", OP(READ) | CHANGES,
                      OP(READ) | OP(WRITE), 0, DISK, false},
    [ACTION_TORN] = {"torn", "writes only some of its units and reports success", CHANGES,
                     OP(WRITE), 0, DISK, false},
    [ACTION_LOST] = {"lost", "does nothing and reports success", CHANGES | OP(DISCARD) | OP(FLUSH),
                     OP(WRITE), 0, DISK, false},
    [ACTION_MISDIRECT] = {"misdirect", "writes to a wrong place and reports success", CHANGES,
                          OP(WRITE), 0, DISK, false},
    [ACTION_CORRUPT] = {"corrupt", "returns wrong data (reads) or stores it (writes)",
                        OP(READ) | OP(WRITE), OP(READ), 0, DISK, false},
    [ACTION_NOSPACE] = {"nospace", "fails with ENOSPC once so many bytes were written", CHANGES,
                        CHANGES, NEED(AFTER), DISK, false},
    [ACTION_BADSECTOR] = {"badsector", "fails until what it reads was written anew", OP(READ),
                          OP(READ), NEED(RANGE), DISK, false},
    [ACTION_POWERCUT] = {"powercut", "never happens: the power is cut before it", OPS_ALL, OPS_ALL,
                         0, DISK, false},
    [ACTION_DISCONNECT] = {"disconnect", "is answered by the end of the connection",
                           OPS_WITH_STATUS, OPS_ALL, 0, WIRE, false},
    [ACTION_REPLY] = {"reply", "is answered wrongly", OPS_WITH_STATUS, OPS_ALL, NEED(WRONG), WIRE,
                      false},
    [ACTION_STATE] = {"state", "sets the state, and goes on", OPS_WITH_STATUS, OPS_ALL,
                      NEED(NEW_STATE), DISK | WIRE, true},
    [ACTION_SCRIPT] = {"script", "is what a Lua script says that it is", OPS_WITH_STATUS, OPS_ALL,
                       NEED(FILE), DISK | WIRE, true},
    [ACTION_LOG] = {"log", "writes a line to the log, and goes on", OPS_WITH_STATUS, OPS_ALL, 0,
                    DISK | WIRE, true},
};

const char *const fault_keep_names[KEEP_COUNT] = {
    "prefix", "suffix", "random", "prefix:random", "suffix:random", "mask",
};

const char *const fault_shape_names[SHAPE_COUNT] = {"uniform", "fixed", "lognormal", "ramp"};
const char *const fault_wrong_names[WRONG_COUNT] = {"magic", "cookie", "duplicate", "truncate",
                                                    "errno"};

bool act_draws(const struct fault_act *a)
{
    switch (a->action) {
    case ACTION_DELAY:
        return a->max_ms > a->min_ms && a->shape != SHAPE_RAMP;
    case ACTION_TORN:
        return a->keep >= KEEP_RANDOM && a->keep != KEEP_MASK;
    case ACTION_CORRUPT:
        return a->how == HOW_FLIP;
    case ACTION_SCRIPT:
        return true;
    default:
        return false;
    }
}

static void put_delay(const struct fault_act *a, struct out *o)
{
    out_put(o, " ms=%" PRIu64, a->min_ms);
    if (a->max_ms > a->min_ms)
        out_put(o, "..%" PRIu64, a->max_ms);
    if (a->shape != SHAPE_UNIFORM)
        out_put(o, " shape=%s", fault_shape_names[a->shape]);
    if (a->lanes)
        out_put(o, " lanes=%u", a->lanes);
}

static void put_corrupt(const struct fault_act *a, struct out *o)
{
    if (a->how == HOW_FLIP)
        out_put(o, " bits=%u", a->bits);
    else if (a->how == HOW_FILL)
        out_put(o, " byte=0x%02x", (unsigned)a->byte);
    else
        out_put(o, " %s=on", a->how == HOW_STALE ? "stale" : "stuck");
}

static void put_misdirect(const struct fault_act *a, struct out *o)
{
    if (a->to != TO_UNSET) {
        out_put(o, " to=");
        out_size(o, a->to);
    } else {
        out_put(o, " delta=%s", a->delta < 0 ? "-" : "");
        out_size(o, a->delta < 0 ? -(uint64_t)a->delta : (uint64_t)a->delta);
    }
    if (a->swap)
        out_put(o, " swap=on");
}

void act_describe(const struct fault_act *a, struct out *o)
{
    char name[16];

    out_put(o, "action=%s", fault_actions[a->action].name);
    switch (a->action) {
    case ACTION_SHORT:
        if (a->bytes != HALF) {
            out_put(o, " bytes=");
            out_size(o, a->bytes);
        }
        /* fall through */
    case ACTION_ERROR:
    case ACTION_SCRIPT:
        out_put(o, " errno=%s", errno_text(a->error, name));
        break;
    case ACTION_HANG:
        if (a->hang_ms)
            out_put(o, " timeout=%" PRIu64 "ms errno=%s", a->hang_ms, errno_text(a->error, name));
        break;
    case ACTION_DELAY:
        put_delay(a, o);
        break;
    case ACTION_TORN:
        out_put(o, " unit=%" PRIu32, a->unit);
        if (a->keep == KEEP_MASK)
            out_put(o, " mask=0x%" PRIx64, a->mask);
        else
            out_put(o, " keep=%s", fault_keep_names[a->keep]);
        break;
    case ACTION_MISDIRECT:
        put_misdirect(a, o);
        break;
    case ACTION_CORRUPT:
        put_corrupt(a, o);
        break;
    case ACTION_BADSECTOR:
        out_put(o, " heal=%s", a->heals ? "write" : "never");
        break;
    case ACTION_DISCONNECT:
        out_put(o, " byte=%" PRIu64 " mode=%s", a->byte, a->orderly ? "fin" : "rst");
        break;
    case ACTION_REPLY:
        out_put(o, " wrong=%s", fault_wrong_names[a->wrong]);
        if (a->wrong == WRONG_ERRNO)
            out_put(o, " errno=%s", errno_text(a->error, name));
        break;
    case ACTION_NOSPACE:
        out_put(o, " after=");
        out_size(o, a->quota);
        break;
    case ACTION_STATE:
        out_put(o, " new_state=%" PRIu32, a->new_state);
        break;
    default:
        break;
    }
    if (a->action == ACTION_SCRIPT && a->budget != SCRIPT_BUDGET)
        out_put(o, " budget=%" PRIu64, a->budget);
    if (a->on_disk)
        out_put(o, " where=disk");
    if (a->drop)
        out_put(o, " drop=unflushed");
    if (a->then_powercut)
        out_put(o, " then=powercut");
}

/* --- Torn --- */

/* Units are those of the disk, not of the request: the first and last may be partial. */
static bool is_kept(const struct fault_tear *t, uint64_t i, uint64_t count)
{
    switch ((enum fault_keep)t->keep) {
    case KEEP_PREFIX:
        return i < count / 2;
    case KEEP_SUFFIX:
        return i >= count - count / 2;
    case KEEP_PREFIX_RANDOM:
        return i < draw_below(t->draw, DRAW_KEEP, count);
    case KEEP_SUFFIX_RANDOM:
        return i >= count - draw_below(t->draw, DRAW_KEEP, count);
    case KEEP_RANDOM:
        /* One is lost for certain, or it would be no tear. */
        return i != draw_below(t->draw, DRAW_LOSE, count) && (rng_hash(t->draw + rng_hash(i)) & 1);
    case KEEP_MASK:
        return i < 64 && (t->mask >> i & 1);
    case KEEP_COUNT:
        break;
    }
    return false;
}

bool fault_torn_next(const struct fault_tear *t, uint64_t off, uint64_t len, uint64_t *at,
                     uint64_t *n)
{
    uint64_t end = off + len, first = off / t->unit;
    uint64_t count = len ? (end - 1) / t->unit - first + 1 : 0;
    uint64_t i = *at / t->unit - first, stop;

    while (i < count && !is_kept(t, i, count))
        i++;
    if (i >= count || *at >= end)
        return false;
    *at = max_u64(*at, (first + i) * t->unit);
    for (stop = i + 1; stop < count && is_kept(t, stop, count);)
        stop++;
    *n = min_u64(end, (first + stop) * t->unit) - *at;
    return true;
}

/* --- Corrupt --- */

/* Distinct bits: flipping one twice would repair it. */
static void flip(const struct fault_damage *d, uint8_t *p, uint64_t len)
{
    uint64_t place[BITS_MAX];
    unsigned n = (unsigned)min_u64(min_u64(d->bits, BITS_MAX), len * 8);

    for (unsigned i = 0; i < n; i++) {
        place[i] = draw_below(d->draw, DRAW_BIT + i, len * 8);
        for (unsigned k = 0; k < i; k++) {
            if (place[k] == place[i]) {
                place[i] = (place[i] + 1) % (len * 8);
                k = UINT32_MAX; /* look at all of them again */
            }
        }
        p[place[i] / 8] ^= (uint8_t)(1u << place[i] % 8);
    }
}

void fault_damage(const struct fault_damage *d, void *buf, uint64_t off, uint64_t len)
{
    uint64_t start = off, end = off + len;

    if (d->len) {
        start = max_u64(start, d->off);
        end = min_u64(end, d->off + d->len);
    }
    if (start >= end)
        return;
    if (d->how == HOW_FILL)
        memset((uint8_t *)buf + (start - off), d->byte, end - start);
    else
        flip(d, (uint8_t *)buf + (start - off), end - start);
}
