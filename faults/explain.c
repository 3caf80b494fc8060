/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rules in words, for people who want to know before they run them.
 */
#include <inttypes.h>
#include <stdio.h>

#include "faults/fault_priv.h"

static const char *ordinal(uint64_t n)
{
    uint64_t tens = n % 100;

    if (tens >= 11 && tens <= 13)
        return "th";
    return n % 10 == 1 ? "st" : n % 10 == 2 ? "nd" : n % 10 == 3 ? "rd" : "th";
}

/* "read, write or flush" */
static void put_or(struct out *o, unsigned bits, const char *const *names, size_t n)
{
    unsigned left = (unsigned)__builtin_popcount(bits), all = left;

    for (size_t i = 0; i < n; i++) {
        if (!(bits & (1u << i)))
            continue;
        out_put(o, "%s%s", left == all ? "" : left == 1 ? " or " : ", ", names[i]);
        left--;
    }
}

static void explain_rule(const struct rule *r, const struct rules_names *names, struct out *o)
{
    char name[16];

    out_put(o, "when \"%s\" comes", names->event[r->event]);
    if (r->state)
        out_put(o, " in state %" PRIu32, r->state);
    if (r->action == RULE_SET_STATE) {
        out_put(o, ", the state becomes %" PRIu32, r->new_state);
        return;
    }
    if (r->action == RULE_SUSPEND) {
        out_put(o, ", the operation is held, once, until \"%s\" is resumed", r->tag);
        if (r->timeout_ms)
            out_put(o, " or %" PRIu64 " ms have passed", r->timeout_ms);
        return;
    }
    out_put(o, ", what is armed is replaced: from then on %s ", r->once ? "the next" : "every");
    put_or(o, r->io_mask, fault_op_names, FAULT_IO_COUNT);
    out_put(o, " of the host file");
    if (r->off != SECTOR_ANY)
        out_put(o, " that touches byte %" PRId64, r->off);
    if (r->error == 0) {
        out_put(o, " passes, and rules behind this one are hidden from it");
        return;
    }
    out_put(o, " fails with %s", errno_text(r->error, name));
    if (!r->once)
        out_put(o, ", until another event arms something");
    if (r->immediately)
        out_put(o, "; the error comes without a turn of the event loop");
}

static void put_which(const struct fault_select *s, struct out *o)
{
    if (s->nth && s->every)
        out_put(o, "the %" PRIu64 "%s and from there every %" PRIu64 "%s ", s->nth, ordinal(s->nth),
                s->every, ordinal(s->every));
    else if (s->nth)
        out_put(o, "the %" PRIu64 "%s ", s->nth, ordinal(s->nth));
    else if (s->every > 1)
        out_put(o, "every %" PRIu64 "%s ", s->every, ordinal(s->every));
    else
        out_put(o, "every ");
}

static void explain_origin(const struct fault_select *s, struct out *o)
{
    if (s->export)
        out_put(o, " on an export like %s", s->export);
    if (s->client)
        out_put(o, " by a client like %s", s->client);
    if (s->conn)
        out_put(o, " on connection %" PRIu64, s->conn);
    if (s->to_ms)
        out_put(o, " from %" PRIu64 " to %" PRIu64 " ms after the start", s->from_ms, s->to_ms);
}

static void explain_select(const struct fault_select *s, const struct rules_names *names,
                           struct out *o)
{
    put_which(s, o);
    put_or(o, s->ops, fault_op_names, FAULT_IO_COUNT);
    out_put(o, s->layer == FAULT_HOST    ? " of the host file"
               : s->layer == FAULT_GUEST ? " of the guest disk"
                                         : " of a client");
    if (s->events) {
        const char *between = " that comes just after ";

        for (unsigned ev = 0; ev < names->n_events; ev++) {
            if (!(s->events >> ev & 1))
                continue;
            out_put(o, "%s%s", between, names->event[ev]);
            between = " or ";
        }
    }
    explain_origin(s, o);
    if (s->kinds) {
        out_put(o, " that holds ");
        put_or(o, s->kinds, names->kind, names->n_kinds);
    }
    if (s->fua != FUA_ANY)
        out_put(o, s->fua == FUA_ON ? " with FUA" : " without FUA");
    if (s->min_len) {
        out_put(o, " of at least ");
        out_size(o, s->min_len);
    }
    if (s->len) {
        out_put(o, " that touches ");
        out_size(o, s->off);
        out_put(o, "+");
        out_size(o, s->len);
    }
    if (s->state)
        out_put(o, " in state %" PRIu32, s->state);
    if (s->prob < 1)
        out_put(o, ", with a probability of %.10g%%,", s->prob * 100);
    if (s->limit)
        out_put(o, ", at most %" PRIu64 " time%s,", s->limit, s->limit == 1 ? "" : "s");
}

static void explain_keep(const struct fault_act *a, struct out *o)
{
    static const char *const kept[KEEP_COUNT] = {
        "the first half",
        "the last half",
        "a random choice",
        "a random number from the start",
        "a random number from the end",
    };
    const char *comma = "";

    out_put(o, " is torn: of its units of %" PRIu32 " bytes ", a->unit);
    if (a->keep != KEEP_MASK) {
        out_put(o, "%s is written, and it succeeds", kept[a->keep]);
        return;
    }
    out_put(o, "only number ");
    for (unsigned i = 0; i < 64; i++) {
        if (!(a->mask >> i & 1))
            continue;
        out_put(o, "%s%u", comma, i + 1);
        comma = ", ";
    }
    out_put(o, " are written, and it succeeds");
}

static void explain_misdirect(const struct fault_act *a, struct out *o)
{
    if (a->to != TO_UNSET) {
        out_put(o, " goes to ");
        out_size(o, a->to);
    } else {
        out_put(o, " goes ");
        out_size(o, a->delta < 0 ? -(uint64_t)a->delta : (uint64_t)a->delta);
        out_put(o, " too %s", a->delta < 0 ? "low" : "high");
    }
    out_put(o, "%s, and succeeds", a->swap ? ", what was there comes to its place" : "");
}

static void explain_corrupt(const struct fault *f, struct out *o)
{
    bool reads = f->sel.ops & OP(READ), writes = f->sel.ops & OP(WRITE);

    out_put(o, " succeeds with ");
    if (f->act.how >= HOW_STALE) {
        out_put(o, "what was there before it was %s written",
                f->act.how == HOW_STALE ? "last" : "first");
        return;
    }
    if (f->act.how == HOW_FLIP)
        out_put(o, "%u bit%s flipped", f->act.bits, f->act.bits == 1 ? "" : "s");
    else
        out_put(o, "all bytes%s 0x%02x", f->sel.len ? " in that range" : "", (unsigned)f->act.byte);
    out_put(o, reads && writes ? " in what is returned or stored"
               : reads         ? " in what is returned"
                               : " in what is stored");
}

static void put_delay(const struct fault_act *a, struct out *o)
{
    out_put(o, " waits for %" PRIu64, a->min_ms);
    if (a->max_ms > a->min_ms)
        out_put(o, " to %" PRIu64, a->max_ms);
    out_put(o, " ms first%s",
            a->shape == SHAPE_RAMP ? ", ever longer as the window passes"
            : a->shape == SHAPE_LOGNORMAL
                ? ", half of the times the least, rarely more than the most"
                : "");
    if (a->lanes)
        out_put(o, ", behind others if %u wait%s already", a->lanes, a->lanes == 1 ? "s" : "");
}

static void explain_act(const struct fault *f, struct out *o)
{
    const struct fault_act *a = &f->act;
    char name[16];

    switch (a->action) {
    case ACTION_ERROR:
        out_put(o, " fails with %s", errno_text(a->error, name));
        break;
    case ACTION_DELAY:
        put_delay(a, o);
        break;
    case ACTION_HANG:
        if (a->hang_ms)
            out_put(o, " gets no answer for %" PRIu64 " ms, and then fails with %s", a->hang_ms,
                    errno_text(a->error, name));
        else
            out_put(o, " gets no answer until the server stops, then ESHUTDOWN");
        break;
    case ACTION_SHORT:
        out_put(o, " transfers ");
        if (a->bytes == HALF)
            out_put(o, "half of its data");
        else
            out_size(o, a->bytes);
        out_put(o, " and fails with %s", errno_text(a->error, name));
        break;
    case ACTION_TORN:
        explain_keep(a, o);
        break;
    case ACTION_MISDIRECT:
        explain_misdirect(a, o);
        break;
    case ACTION_CORRUPT:
        explain_corrupt(f, o);
        break;
    case ACTION_NOSPACE:
        out_put(o, " fails with ENOSPC once such requests have written ");
        out_size(o, a->quota);
        break;
    case ACTION_BADSECTOR:
        out_put(o, " fails with EIO%s",
                a->heals ? " until the sectors that it reads were written" : "");
        break;
    case ACTION_DISCONNECT:
        out_put(o, " is answered with %" PRIu64 " bytes and the end of the connection%s", a->byte,
                a->orderly ? "" : " by a reset");
        break;
    case ACTION_REPLY:
        out_put(o, " is answered wrongly: %s", fault_wrong_names[a->wrong]);
        break;
    case ACTION_SCRIPT:
        out_put(o, " is what %s() in the script %s says; if that fails, it fails with %s",
                f->script->hook ? f->script->hook : SCRIPT_HOOK, f->script->path,
                errno_text(a->error, name));
        break;
    case ACTION_STATE:
        out_put(o, " sets state %" PRIu32 " and goes on", a->new_state);
        break;
    default:
        out_put(o, " %s", fault_actions[a->action].text);
        break;
    }
}

bool rules_explain(const struct rules *r, unsigned i, char *buf, size_t buf_len)
{
    struct out o = {buf, buf_len, 0};
    const struct rule *rule = rules_at(r, i);
    const struct fault *f;

    if (i >= rules_count(r) || buf_len == 0)
        return false;
    if (rule) {
        out_put(&o, "%s: ", rule->where);
        explain_rule(rule, rules_event_names(r), &o);
        return true;
    }
    f = fault_set_at(rules_faults_const(r), i - (rules_count(r) - rules_faults_const(r)->n));
    out_put(&o, "%s: ", f->where);
    explain_select(&f->sel, rules_event_names(r), &o);
    explain_act(f, &o);
    if (f->act.drop)
        out_put(&o, ", and what it should have saved is lost");
    if (f->act.then_powercut)
        out_put(&o, "; then the power is cut");
    if (f->act.on_disk)
        out_put(&o, " (on the disk itself)");
    return true;
}
