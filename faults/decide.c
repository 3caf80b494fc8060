/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The faults of an engine meet a request.
 *
 * Each layer has a list for each op, so that a request walks only past faults that could be about
 * it, and where there are none the filter does not even ask. Modifiers (delay, state, log) let the
 * walk go on; the first other action that fires ends it, and the faults behind it do not see the
 * request: their counters stay.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "faults/fault_priv.h"

#define NS_PER_MS UINT64_C(1000000)

const char *const fault_op_names[FAULT_IO_COUNT] = {
    "read", "write", "zero", "trim", "flush", "status",
};

/* --- The set --- */

void fault_free(struct fault *f)
{
    if (!f)
        return;
    draws_free(&f->met);
    mem_free(f->where);
    mem_free(f->id);
    mem_free(f);
}

void fault_list_free(struct fault *head)
{
    while (head) {
        struct fault *f = head;

        head = f->all_next;
        fault_free(f);
    }
}

void fault_set_add(struct fault_set *s, struct fault *f)
{
    struct fault **at = &s->all;

    for (; *at; at = &(*at)->all_next)
        if ((*at)->draw_id == f->draw_id)
            f->draw_id = draw_text("again") ^ (f->draw_id + 1); /* the same rule, written twice */
    f->all_next = NULL;
    *at = f;
    s->n++;
    for (unsigned io = 0; io < FAULT_IO_COUNT; io++) {
        f->next[io] = NULL;
        if (!(f->sel.ops & (1u << io)))
            continue;
        at = &s->by[f->sel.layer][io];
        while (*at)
            at = &(*at)->next[io];
        *at = f;
    }
}

void fault_set_free(struct fault_set *s)
{
    fault_list_free(s->all);
    *s = (struct fault_set){0};
}

const struct fault *fault_set_at(const struct fault_set *s, unsigned i)
{
    const struct fault *f = s->all;

    while (f && i-- > 0)
        f = f->all_next;
    return f;
}

bool rules_watches(const struct rules *r, enum fault_layer layer, enum fault_io op)
{
    return rules_faults_const(r)->by[layer][op] || (layer == FAULT_HOST && !rules_idle(r));
}

bool rules_has_layer(const struct rules *r, enum fault_layer layer)
{
    const struct fault_set *s = rules_faults_const(r);

    for (unsigned io = 0; io < FAULT_IO_COUNT; io++)
        if (s->by[layer][io])
            return true;
    return false;
}

/* --- Decisions --- */

/* Does f strike q? Advances its counters. *draw is set if f needs draws. */
static bool strikes(struct fault *f, const struct fault_req *q, uint32_t state, uint64_t seed,
                    uint64_t *draw)
{
    *draw = 0;
    f->seen++;
    if (!select_matches(&f->sel, q, state))
        return false;
    f->matched++;
    if (f->draws)
        *draw = draw_next(&f->met, seed, f->draw_id, q);
    if (!select_counts(&f->sel, f->matched) || (f->sel.limit && f->fired >= f->sel.limit) ||
        (f->sel.prob < 1 && !draw_hits(*draw, DRAW_PROB, f->sel.prob)))
        return false;
    if (f->act.action == ACTION_NOSPACE && q->len <= f->act.quota - f->written) {
        f->written += q->len;
        return false;
    }
    f->fired++;
    return true;
}

static uint64_t delay_ns(const struct fault_act *a, uint64_t draw)
{
    uint64_t spread = (a->max_ms - a->min_ms) * NS_PER_MS;

    return a->min_ms * NS_PER_MS + draw_below(draw, DRAW_DELAY, spread + 1);
}

static void log_request(const struct fault *f, const struct fault_req *q)
{
    log_info("%s%s%s: %s %s %" PRIu64 "+%" PRIu64 "%s", f->where, f->id ? " " : "",
             f->id ? f->id : "", q->layer == FAULT_HOST ? "host" : "guest", fault_op_names[q->op],
             q->off, q->len, q->fua ? " fua" : "");
}

/* The half of a short transfer is made of whole sectors. */
static uint64_t short_len(const struct fault_act *a, uint64_t len)
{
    uint64_t most = a->bytes == HALF ? round_down(len / 2, 512) : a->bytes;

    return len == 0 ? 0 : min_u64(most, len - 1);
}

static void act_on(const struct fault *f, const struct fault_req *q, uint64_t draw,
                   struct fault_decision *d)
{
    const struct fault_act *a = &f->act;

    d->by = f->where;
    switch (a->action) {
    case ACTION_ERROR:
        d->deed = FAULT_FAIL;
        d->error = a->error;
        break;
    case ACTION_NOSPACE:
        d->deed = FAULT_FAIL;
        d->error = ENOSPC;
        break;
    case ACTION_HANG:
        d->deed = FAULT_HANG;
        break;
    case ACTION_SHORT:
        d->deed = FAULT_SHORT;
        d->error = a->error;
        d->done = short_len(a, q->len);
        break;
    case ACTION_TORN:
        d->deed = FAULT_TORN;
        d->tear = (struct fault_tear){a->unit, (uint8_t)a->keep, draw};
        break;
    case ACTION_LOST:
        d->deed = FAULT_LOST;
        break;
    case ACTION_MISDIRECT:
        d->deed = FAULT_MISDIRECT;
        d->delta = a->delta;
        break;
    case ACTION_CORRUPT:
        d->deed = FAULT_CORRUPT;
        d->damage =
            (struct fault_damage){(uint8_t)a->how, a->byte, a->bits, f->sel.off, f->sel.len, draw};
        break;
    default:
        break; /* modifiers never come here */
    }
}

void rules_decide(struct rules *r, const struct fault_req *q, struct fault_decision *d)
{
    uint32_t state = rules_state(r);
    uint64_t draw;

    *d = (struct fault_decision){.deed = FAULT_PASS};
    for (struct fault *f = rules_faults(r)->by[q->layer][q->op]; f; f = f->next[q->op]) {
        if (!strikes(f, q, state, rules_seed(r), &draw))
            continue;
        switch (f->act.action) {
        case ACTION_DELAY:
            d->delay_ns += delay_ns(&f->act, draw);
            break;
        case ACTION_STATE:
            rules_set_state(r, f->act.new_state);
            break;
        case ACTION_LOG:
            log_request(f, q);
            break;
        default:
            act_on(f, q, draw, d);
            return;
        }
    }
}

/* --- What to tell of them --- */

void fault_describe(const struct fault *f, const struct rules_names *names, struct out *o)
{
    select_describe(&f->sel, names, o);
    out_put(o, " ");
    act_describe(&f->act, o);
}

void fault_report(const struct fault *f, const struct rules_names *names, struct out *o)
{
    out_put(o, "%s fault ", f->where);
    if (f->id)
        out_put(o, "\"%s\" ", f->id);
    fault_describe(f, names, o);
    out_put(o, ": seen %" PRIu64 ", matched %" PRIu64 ", fired %" PRIu64, f->seen, f->matched,
            f->fired);
}
