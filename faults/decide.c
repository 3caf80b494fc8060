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
#include "faults/engine_priv.h"
#include "faults/replay_priv.h"
#include "faults/script.h"

const char *const fault_layer_names[FAULT_LAYERS] = {"host", "guest", "wire"};

const char *const fault_op_names[FAULT_IO_COUNT] = {
    "read", "write", "zero", "trim", "flush", "status",
};

/* --- The set --- */

void fault_free(struct fault *f)
{
    if (!f)
        return;
    draws_free(&f->met);
    fault_script_free(f->script);
    mem_free(f->where);
    mem_free(f->id);
    mem_free(f->sel.export);
    mem_free(f->sel.client);
    pages_free(&f->rest);
    pages_free(&f->old);
    pages_free(&f->healed);
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

static void note_wishes(struct fault_set *s, const struct fault *f)
{
    s->events |= f->sel.events;
    s->heals |= f->act.action == ACTION_BADSECTOR && f->act.heals;
    s->keeps_old |= f->act.action == ACTION_CORRUPT && f->act.how >= HOW_STALE;
    s->origins |= f->sel.export || f->sel.client || f->sel.conn;
}

static void forget_index(struct fault_list *l)
{
    index_free(l->index);
    l->index = NULL;
    l->indexed = false;
}

/* Requests that came as far as to f. Counted for the list, not for each fault: most are never
 * looked at. */
static uint64_t came_to(const struct fault_list *l, const struct fault *f, unsigned io)
{
    uint64_t n = l->met;

    for (const struct fault *o = l->head; o != f; o = o->next[io])
        n -= o->ended[io];
    return n;
}

/* NULL: of all. */
static bool is_before(const struct fault *f, const struct fault *other)
{
    while (f && f != other)
        f = f->all_next;
    return f || !other;
}

void fault_set_insert(struct fault_set *s, struct fault *f, struct fault *before)
{
    struct fault **at = &s->all;

    for (const struct fault *o = s->all; o; o = o->all_next)
        if (o->draw_id == f->draw_id)
            f->draw_id = draw_text("again") ^ (f->draw_id + 1); /* the same rule, written twice */
    while (*at != before)
        at = &(*at)->all_next;
    f->all_next = before;
    *at = f;
    s->n++;
    note_wishes(s, f);
    for (unsigned io = 0; io < FAULT_IO_COUNT; io++) {
        struct fault_list *l = &s->by[f->sel.layer][io];

        f->next[io] = NULL;
        if (!(f->sel.ops & (1u << io)))
            continue;
        for (at = &l->head; *at && !(before && is_before(before, *at)); at = &(*at)->next[io])
            ;
        f->next[io] = *at;
        *at = f;
        l->op = (enum fault_io)io;
        l->n++;
        f->before[io] = came_to(l, f, io);
        forget_index(l);
    }
}

void fault_set_add(struct fault_set *s, struct fault *f)
{
    fault_set_insert(s, f, NULL);
}

void fault_set_remove(struct fault_set *s, struct fault *f)
{
    struct fault **at = &s->all;

    while (*at != f)
        at = &(*at)->all_next;
    *at = f->all_next;
    f->all_next = NULL;
    s->n--;
    for (unsigned io = 0; io < FAULT_IO_COUNT; io++) {
        struct fault_list *l = &s->by[f->sel.layer][io];

        if (!(f->sel.ops & (1u << io)))
            continue;
        for (at = &l->head; *at != f; at = &(*at)->next[io])
            ;
        *at = f->next[io];
        l->n--;
        /* What it ended did not come to those behind it, and must not seem to have. */
        for (struct fault *o = *at; o; o = o->next[io])
            o->before[io] += f->ended[io];
        forget_index(l);
    }
    s->events = 0;
    s->heals = s->keeps_old = s->origins = false;
    for (const struct fault *o = s->all; o; o = o->all_next)
        note_wishes(s, o);
}

void rules_add_fault(struct rules *r, struct fault *f)
{
    f->number = ++r->last_number;
    fault_set_add(&r->faults, f);
}

uint64_t fault_seen(const struct fault_set *s, const struct fault *f)
{
    uint64_t n = 0;

    for (unsigned io = 0; io < FAULT_IO_COUNT; io++)
        if (f->sel.ops & (1u << io))
            n += came_to(&s->by[f->sel.layer][io], f, io) - f->before[io];
    return n;
}

void fault_set_free(struct fault_set *s)
{
    fault_list_free(s->all);
    for (unsigned layer = 0; layer < FAULT_LAYERS; layer++)
        for (unsigned io = 0; io < FAULT_IO_COUNT; io++)
            index_free(s->by[layer][io].index);
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
    const struct fault_set *s = rules_faults_const(r);

    if (r->trace_fn || (r->replay && replay_has_layer(r->replay, layer)))
        return true;
    /* Writes heal sectors and end damage; reads find it. */
    if (s->by[layer][op].head || layer == FAULT_WIRE)
        return s->by[layer][op].head;
    return (layer == FAULT_HOST && !rules_idle(r)) || s->heals || s->keeps_old ||
           rules_rest_any(r, layer);
}

bool rules_has_layer(const struct rules *r, enum fault_layer layer)
{
    const struct fault_set *s = rules_faults_const(r);

    for (unsigned io = 0; io < FAULT_IO_COUNT; io++)
        if (s->by[layer][io].head)
            return true;
    return false;
}

/* --- Decisions --- */

static void note_strike(struct fault *f, const struct fault_req *q)
{
    f->fired++;
    f->last = (struct fault_last){true, q->op, q->off, q->len};
}

/* Does f strike q? Advances its counters. *draw is set if f needs draws. */
static bool strikes(struct fault *f, const struct fault_req *q, uint32_t state, uint64_t seed,
                    uint64_t *draw)
{
    *draw = 0;
    if (!select_matches(&f->sel, q, state) ||
        (f->act.action == ACTION_BADSECTOR && !badsector_is_bad(f, q)))
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
    if (f->act.action != ACTION_SCRIPT) /* that depends on what it says */
        note_strike(f, q);
    return true;
}

static void log_request(const struct fault *f, const struct fault_req *q)
{
    log_info("%s%s%s: %s %s %" PRIu64 "+%" PRIu64 "%s", f->where, f->id ? " " : "",
             f->id ? f->id : "", fault_layer_names[q->layer], fault_op_names[q->op], q->off, q->len,
             q->fua ? " fua" : "");
}

/* The half of a short transfer is made of whole sectors. */
static uint64_t short_len(const struct fault_act *a, uint64_t len)
{
    uint64_t most = a->bytes == HALF ? round_down(len / 2, 512) : a->bytes;

    return len == 0 ? 0 : min_u64(most, len - 1);
}

static void act_on(const struct fault *f, const struct fault_act *a, const struct fault_req *q,
                   uint64_t draw, struct fault_decision *d)
{
    d->by = f->where;
    d->id = f->number;
    d->on_disk = a->on_disk;
    d->powercut = a->then_powercut;
    d->drop = a->drop;
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
        d->hang_ms = a->hang_ms;
        d->error = a->hang_ms ? a->error : 0;
        break;
    case ACTION_SHORT:
        d->deed = FAULT_SHORT;
        d->error = a->error;
        d->done = short_len(a, q->len);
        break;
    case ACTION_TORN:
        d->deed = FAULT_TORN;
        d->tear = (struct fault_tear){a->unit, (uint8_t)a->keep, draw, a->mask};
        break;
    case ACTION_LOST:
        d->deed = FAULT_LOST;
        break;
    case ACTION_MISDIRECT:
        d->deed = FAULT_MISDIRECT;
        d->delta = a->to == TO_UNSET ? a->delta : (int64_t)(a->to - q->off);
        d->swap = a->swap;
        break;
    case ACTION_CORRUPT:
        d->deed = a->how >= HOW_STALE ? FAULT_OLD : FAULT_CORRUPT;
        d->damage = (struct fault_damage){(uint8_t)a->how, (uint8_t)a->byte, a->bits,
                                          f->sel.off,      f->sel.len,       draw};
        break;
    case ACTION_BADSECTOR:
        d->deed = FAULT_FAIL;
        d->error = EIO;
        break;
    case ACTION_POWERCUT:
        d->deed = FAULT_CUT;
        d->powercut = true;
        break;
    case ACTION_DISCONNECT:
        d->deed = FAULT_DISCONNECT;
        d->done = a->byte;
        d->orderly = a->orderly;
        break;
    case ACTION_REPLY:
        d->deed = FAULT_REPLY;
        d->wrong = (enum fault_wrong)a->wrong;
        d->error = a->error;
        break;
    default:
        break; /* modifiers never come here */
    }
}

/* Few are walked faster than looked up. */
#define INDEX_FROM 8

static struct fault *first_of(struct fault_list *l, const struct fault_req *q, uint32_t state)
{
    if (l->n < INDEX_FROM)
        return l->head;
    if (!l->indexed) {
        l->index = index_new(l); /* without memory they are walked */
        l->indexed = true;
    }
    if (!l->index)
        return l->head;
    index_find(l->index, q, state);
    return index_next(l->index);
}

static struct fault *next_of(const struct fault_list *l, const struct fault *f, enum fault_io op)
{
    return l->index ? index_next(l->index) : f->next[op];
}

/* Do a of f to q; true: nothing else is done to it. */
static bool apply(struct rules *r, struct fault *f, const struct fault_act *a,
                  const struct fault_req *q, uint64_t draw, struct fault_decision *d)
{
    uint64_t ns;

    rules_tell_fire(r, f->number, f->id, f->where, fault_actions[a->action].name, q);
    switch (a->action) {
    case ACTION_DELAY:
        ns = act_delay_ns(a, draw, q->at_ms, f->sel.from_ms, f->sel.to_ms);
        d->delay_ns += a->lanes ? act_queue_ns(f->lane_ns, a->lanes, q->at_ms, ns) : ns;
        return false;
    case ACTION_STATE:
        rules_set_state(r, a->new_state);
        return false;
    case ACTION_LOG:
        log_request(f, q);
        return false;
    default:
        act_on(f, a, q, draw, d);
        return true;
    }
}

/* A script that fails: so does the request; of the wire, where all is done already, its reply. */
static bool ask_script(struct rules *r, struct fault *f, const struct fault_req *q, uint64_t draw,
                       struct fault_decision *d)
{
    struct fault_act acts[SCRIPT_ANSWERS], fail = {.action = ACTION_ERROR, .error = f->act.error};
    unsigned n;

    if (!fault_script_ask(r, f, q, draw, acts, &n)) {
        if (q->layer == FAULT_WIRE) {
            fail.action = ACTION_REPLY;
            fail.wrong = WRONG_ERRNO;
        }
        acts[0] = fail;
        n = 1;
    }
    if (n > 0)
        note_strike(f, q);
    for (unsigned i = 0; i < n; i++)
        if (apply(r, f, &acts[i], q, draw + i, d))
            return true;
    return false;
}

static bool is_change(enum fault_io op)
{
    return op == FAULT_WRITE || op == FAULT_WRITE_ZEROES || op == FAULT_DISCARD;
}

static void decide_again(struct rules *r, const struct fault_req *q, struct fault_decision *d)
{
    replay_decide(r->replay, r->names, q, d);
    if (d->deed != FAULT_PASS)
        rules_tell_fire(r, d->id, NULL, d->by, fault_deed_name(d->deed), q);
    trace_request(r, q, d);
}

void rules_decide(struct rules *r, const struct fault_req *q, struct fault_decision *d)
{
    struct fault_list *l = &rules_faults(r)->by[q->layer][q->op];
    uint32_t state = rules_state(r);
    uint64_t draw;

    *d = (struct fault_decision){.deed = FAULT_PASS};
    if (r->replay) {
        decide_again(r, q, d);
        return;
    }
    d->keep_old = is_change(q->op) && rules_wants_old(r, q->layer, q->off, q->len);
    l->met++;
    if (rules_faults(r)->heals && (q->op == FAULT_WRITE || q->op == FAULT_WRITE_ZEROES))
        badsector_written(r, q);
    for (struct fault *f = first_of(l, q, state); f; f = next_of(l, f, q->op)) {
        if (!strikes(f, q, state, rules_seed(r), &draw))
            continue;
        if (f->act.action == ACTION_SCRIPT ? ask_script(r, f, q, draw, d)
                                           : apply(r, f, &f->act, q, draw, d)) {
            f->ended[q->op]++;
            break;
        }
    }
    trace_request(r, q, d);
}

uint64_t rules_wanted_events(const struct rules *r)
{
    return rules_faults_const(r)->events;
}

/* --- What to tell of them --- */

void fault_describe(const struct fault *f, const struct rules_names *names, struct out *o)
{
    if (f->stand_in) {
        out_put(o, "keeps what it did to the disk");
        return;
    }
    select_describe(&f->sel, names, o);
    out_put(o, " ");
    act_describe(&f->act, o);
    fault_script_describe(f, o);
}

void fault_report(const struct fault_set *s, const struct fault *f, const struct rules_names *names,
                  struct out *o)
{
    if (f->stand_in) {
        out_put(o, "%s ", f->where);
        fault_describe(f, names, o);
        return;
    }
    out_put(o, "%s fault ", f->where);
    if (f->id)
        out_put(o, "\"%s\" ", f->id);
    fault_describe(f, names, o);
    out_put(o, ": seen %" PRIu64 ", matched %" PRIu64 ", fired %" PRIu64, fault_seen(s, f),
            f->matched, f->fired);
}
