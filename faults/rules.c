/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fault engine: what QEMU's blkdebug does, with counters.
 *
 * Events arm, I/O checks fire. The rules of one event are kept newest first and an event walks them
 * in that order, comparing each with the state as it was before the event; so of several set-states
 * the first in the file has the last word. The first inject rule that matches empties the list of
 * armed rules and every match is pushed to its front; so armed rules stand in file order, and the
 * first in the file wins. The list stays as it is until another event arms something.
 */
#include "faults/rules.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/rng.h"
#include "faults/engine_priv.h"
#include "faults/replay_priv.h"

#define STATE_INITIAL 1
#define SECTOR_SIZE 512

const char *const rule_section_names[RULE_ACTIONS] = {"inject-error", "set-state", "suspend"};

const char *const fault_io_names[FAULT_IO_COUNT] = {
    "read", "write", "write-zeroes", "discard", "flush", "block-status",
};

struct rules *rules_new(const struct rules_names *names)
{
    struct rules *r = mem_new(struct rules);

    if (!r)
        return NULL;
    r->refs = 1;
    r->names = names;
    r->state = STATE_INITIAL;
    r->seed = rng_entropy();
    r->by_event = mem_array(names->n_events, sizeof(r->by_event[0]));
    r->quiet = mem_array(names->n_events, sizeof(r->quiet[0]));
    r->oldest = r->current = mem_new(struct rules_gen);
    if (!r->by_event || !r->quiet || !r->current) {
        mem_free(r->by_event);
        mem_free(r->quiet);
        mem_free(r->current);
        mem_free(r);
        return NULL;
    }
    return r;
}

void rule_free(struct rule *rule)
{
    if (!rule)
        return;
    mem_free(rule->where);
    mem_free(rule->id);
    mem_free(rule->tag);
    mem_free(rule);
}

struct rules *rules_ref(struct rules *r)
{
    r->refs++;
    return r;
}

void rules_free(struct rules *r)
{
    if (!r || --r->refs > 0)
        return;
    assert(!r->suspended);
    if (r->fire_fn)
        r->fire_fn(r->fire_arg, NULL);
    while (r->breaks) {
        struct rule *rule = r->breaks;

        r->breaks = rule->break_next;
        rule_free(rule);
    }
    for (unsigned i = 0; i < r->n_all; i++)
        rule_free(r->all[i]);
    fault_set_free(&r->faults);
    replay_free(r->replay);
    while (r->oldest) {
        struct rules_gen *g = r->oldest;

        r->oldest = g->next;
        fault_list_free(g->gone);
        mem_free(g);
    }
    mem_free(r->all);
    mem_free(r->by_event);
    mem_free(r->quiet);
    mem_free(r);
}

const struct rules_names *rules_event_names(const struct rules *r)
{
    return r->names;
}

const struct rule *rules_at(const struct rules *r, unsigned i)
{
    return i < r->n_all ? r->all[i] : NULL;
}

struct fault_set *rules_faults(struct rules *r)
{
    return &r->faults;
}

const struct fault_set *rules_faults_const(const struct rules *r)
{
    return &r->faults;
}

uint64_t rules_seed(const struct rules *r)
{
    return r->seed;
}

void rules_take_seed(struct rules *r, uint64_t seed, enum seed_source source)
{
    if (source < r->seed_source)
        return;
    r->seed = seed;
    r->seed_source = source;
}

void rules_set_seed(struct rules *r, uint64_t seed)
{
    rules_take_seed(r, seed, SEED_USER);
}

void rule_list_init(struct rule_list *l)
{
    *l = (struct rule_list){.tail = &l->head};
}

void rule_list_push(struct rule_list *l, struct rule *rule)
{
    rule->load_next = NULL;
    *l->tail = rule;
    l->tail = &rule->load_next;
    l->n++;
}

void rule_list_free(struct rule_list *l)
{
    while (l->head) {
        struct rule *rule = l->head;

        l->head = rule->load_next;
        rule_free(rule);
    }
    rule_list_init(l);
}

static void add_list(struct rules *r, struct rule_list *l)
{
    for (struct rule *rule = l->head, *next; rule; rule = next) {
        next = rule->load_next;
        assert(rule->event < r->names->n_events);
        rule->number = ++r->last_number;
        rules_stir(r, rule->event);
        rule->event_next = r->by_event[rule->event];
        r->by_event[rule->event] = rule;
        r->all[r->n_all++] = rule;
    }
    rule_list_init(l);
}

int rules_add(struct rules *r, struct rule_list *const *lists)
{
    size_t n = r->n_all;
    struct rule **all;

    for (unsigned i = 0; lists[i]; i++)
        n += lists[i]->n;
    if (n == r->n_all)
        return 0;
    all = mem_realloc(r->all, n * sizeof(all[0]));
    if (!all)
        return -ENOMEM;
    r->all = all;
    for (unsigned i = 0; lists[i]; i++)
        add_list(r, lists[i]);
    return 0;
}

static bool state_matches(const struct rules *r, const struct rule *rule)
{
    return rule->state == 0 || rule->state == r->state;
}

void rules_stir(struct rules *r, unsigned event)
{
    struct rules_quiet *q = &r->quiet[event];

    for (struct rule *rule = r->by_event[event]; rule && q->skipped; rule = rule->event_next)
        rule->seen += q->skipped;
    *q = (struct rules_quiet){.known = false};
}

uint64_t rule_seen(const struct rules *r, const struct rule *rule)
{
    return rule->seen + (rule->spent ? 0 : r->quiet[rule->event].skipped);
}

void rules_event(struct rules *r, unsigned event, struct rules_sleeper *s)
{
    uint32_t new_state = r->state;
    bool emptied = false, matched = false;
    struct rules_quiet *quiet;

    assert(event < r->names->n_events);
    trace_event(r, event);
    quiet = &r->quiet[event];
    if (quiet->known && quiet->state == r->state) {
        quiet->skipped++;
        return;
    }
    rules_stir(r, event);
    for (struct rule *rule = r->by_event[event], *next; rule; rule = next) {
        next = rule->event_next;
        rule->seen++;
        if (!state_matches(r, rule))
            continue;
        matched = true;
        if (rule->action == RULE_SUSPEND) {
            if (s)
                rules_suspend(r, rule, s);
            continue;
        }
        rule->armed++;
        if (rule->action == RULE_SET_STATE) {
            rule->fired++;
            new_state = rule->new_state;
            continue;
        }
        if (!emptied)
            r->armed = NULL;
        emptied = true;
        rule->armed_next = r->armed;
        r->armed = rule;
    }
    r->state = new_state;
    if (!matched)
        *quiet = (struct rules_quiet){.known = true, .state = r->state};
}

static bool io_matches(const struct rule *rule, enum fault_io io, uint64_t off, uint64_t len)
{
    if (!(rule->io_mask & (1u << io)))
        return false;
    if (rule->off == SECTOR_ANY)
        return true;
    /* A request of no bytes, such as a flush, touches no sector. */
    return (uint64_t)rule->off >= off && (uint64_t)rule->off - off < len;
}

void rules_unlink(struct rules *r, struct rule *rule)
{
    struct rule **at = &r->by_event[rule->event];

    rules_stir(r, rule->event);
    while (*at != rule)
        at = &(*at)->event_next;
    *at = rule->event_next;
}

/* Take a rule that has fired its only time out of play. It stays for its counters. */
static void rule_spend(struct rules *r, struct rule **armed_at)
{
    struct rule *rule = *armed_at;

    *armed_at = rule->armed_next;
    rules_unlink(r, rule);
    rule->spent = true;
}

struct fault_verdict rules_check(struct rules *r, enum fault_io io, uint64_t off, uint64_t len)
{
    return rules_check_req(r, &(struct fault_req){.op = io, .off = off, .len = len});
}

struct fault_verdict rules_check_req(struct rules *r, const struct fault_req *q)
{
    struct fault_verdict v = {0};
    struct rule **at = &r->armed, *rule;
    struct fault_decision d = {.deed = FAULT_FAIL};

    while (*at && !io_matches(*at, q->op, q->off, q->len))
        at = &(*at)->armed_next;
    rule = *at;
    if (!rule || rule->error == 0)
        return v;
    v.error = rule->error;
    v.immediately = rule->immediately;
    rule->fired++;
    rule->last = (struct fault_last){true, q->op, q->off, q->len};
    rules_tell_fire(r, rule->number, rule->id, rule->where, "error", q);
    d.id = rule->number;
    d.error = rule->error;
    d.turn = !rule->immediately;
    trace_request(r, q, &d);
    if (rule->once)
        rule_spend(r, at);
    return v;
}

unsigned rules_state(const struct rules *r)
{
    return r->state;
}

void rules_set_state(struct rules *r, uint32_t state)
{
    r->state = state;
}

bool rules_idle(const struct rules *r)
{
    return !r->armed;
}

bool rules_listens(const struct rules *r, unsigned event)
{
    return r->by_event[event] || r->trace_fn;
}

unsigned rules_count(const struct rules *r)
{
    return r->n_all + r->faults.n;
}

/* The iotype of a rule as it is written in a file; NULL for the default. */
static const char *io_mask_name(unsigned mask)
{
    for (unsigned i = 0; i < FAULT_IO_COUNT; i++)
        if (mask == 1u << i)
            return fault_io_names[i];
    return NULL;
}

void rule_text(const struct rule *rule, const struct rules_names *names, struct out *o)
{
    out_put(o, "event=%s", names->event[rule->event]);
    if (rule->state != 0)
        out_put(o, " state=%" PRIu32, rule->state);
    if (rule->action == RULE_SET_STATE)
        out_put(o, " new_state=%" PRIu32, rule->new_state);
    if (rule->action == RULE_SUSPEND)
        out_put(o, " tag=%s", rule->tag);
    if (rule->action != RULE_INJECT)
        return;
    if (io_mask_name(rule->io_mask))
        out_put(o, " iotype=%s", io_mask_name(rule->io_mask));
    out_put(o, " errno=%d", rule->error);
    if (rule->off != SECTOR_ANY)
        out_put(o, " sector=%" PRId64, rule->off / SECTOR_SIZE);
    out_put(o, "%s%s", rule->once ? " once" : "", rule->immediately ? " immediately" : "");
}

bool rules_describe(const struct rules *r, unsigned i, char *buf, size_t buf_len)
{
    struct out o = {buf, buf_len, 0};
    const struct rule *rule;

    if (i >= rules_count(r) || buf_len == 0)
        return false;
    if (i >= r->n_all) {
        fault_report(&r->faults, fault_set_at(&r->faults, i - r->n_all), r->names, &o);
        return true;
    }
    rule = r->all[i];
    out_put(&o, "%s %s ", rule->where, rule_section_names[rule->action]);
    rule_text(rule, r->names, &o);
    out_put(&o, ": seen %" PRIu64, rule_seen(r, rule));
    if (rule->action == RULE_SET_STATE)
        out_put(&o, ", applied %" PRIu64, rule->fired);
    else if (rule->action == RULE_SUSPEND)
        out_put(&o, ", %s", rule->sleeper ? "holds a request" : rule->spent ? "spent" : "waits");
    else
        out_put(&o, ", armed %" PRIu64 ", fired %" PRIu64 "%s", rule->armed, rule->fired,
                rule->spent ? " (spent)" : "");
    return true;
}
