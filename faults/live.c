/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changing the rules of an engine that is in use.
 *
 * New rules are read into an engine of their own, so that all that can be wrong with them is told
 * before anything changes; what is left then are checks against what is there, memory, and moving
 * pointers. A fault that goes is kept with the generation of requests that it ends, until that and
 * all before it are over; blkdebug's rules are known to nobody between two calls and go at once.
 */
#include "faults/live.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "faults/engine_priv.h"

#define ARMED_KEPT 64 /* faults that were armed and have struck stay for their counters */

/* --- Generations --- */

struct rules_gen *rules_enter(struct rules *r)
{
    r->current->refs++;
    return r->current;
}

/* Free what nobody can know any more. */
static void sweep(struct rules *r)
{
    while (r->oldest != r->current && r->oldest->refs == 0) {
        struct rules_gen *g = r->oldest;

        r->oldest = g->next;
        fault_list_free(g->gone);
        mem_free(g);
    }
}

void rules_leave(struct rules *r, struct rules_gen *gen)
{
    assert(gen->refs > 0);
    gen->refs--;
    sweep(r);
}

/* The faults from head on, by all_next, are gone; next is the generation from now on. */
static void retire(struct rules *r, struct fault *head, struct rules_gen *next)
{
    r->current->gone = head;
    r->current->next = next;
    r->current = next;
    sweep(r);
}

static struct rules_gen *gen_new(struct err **errp)
{
    struct rules_gen *g = mem_new(struct rules_gen);

    if (!g)
        err_set(errp, ENOMEM, "no memory to change fault rules");
    return g;
}

/* --- Finding --- */

static bool is_named(uint64_t number, const char *id, const char *wanted)
{
    char text[32];

    if (wanted[0] != '#')
        return id && strcmp(id, wanted) == 0;
    snprintf(text, sizeof(text), "#%" PRIu64, number);
    return strcmp(text, wanted) == 0;
}

static const char *name_of(const struct rule *rule)
{
    return rule->action == RULE_SUSPEND ? rule->tag : rule->id;
}

static struct fault *find_fault(const struct rules *r, const char *id)
{
    struct fault *f = r->faults.all;

    while (f && !is_named(f->number, f->id, id))
        f = f->all_next;
    return f;
}

/* How many of blkdebug's rules, and breakpoints, have this name; *at: the first. */
static unsigned find_rules(const struct rules *r, const char *id, unsigned *at)
{
    unsigned found = 0;

    for (unsigned i = r->n_all; i-- > 0;) {
        if (!is_named(r->all[i]->number, name_of(r->all[i]), id))
            continue;
        *at = i;
        found++;
    }
    return found;
}

static bool no_rule(const char *id, struct err **errp)
{
    return err_set(errp, ENOENT, "There is no fault rule '%.64s'", id);
}

/* --- Is it possible? --- */

void rules_serve_layer(struct rules *r, enum fault_layer layer)
{
    r->layers |= 1u << layer;
}

bool rules_serves(const struct rules *r, enum fault_layer layer)
{
    return r->layers & (1u << layer);
}

static bool check_layers(const struct rules *r, const struct rules *fresh, struct err **errp)
{
    for (const struct fault *f = fresh->faults.all; f; f = f->all_next) {
        if (!(r->layers & (1u << f->sel.layer)))
            return err_set(errp, EINVAL, "%s: nothing watches layer=%s here", f->where,
                           fault_layer_names[f->sel.layer]);
    }
    return true;
}

static bool check_cache(const struct rules *r, const struct rules *fresh, struct err **errp)
{
    const char *who = rules_need_cache(fresh);

    if (fresh->cache.on)
        return err_set(errp, EINVAL,
                       "[cache] cannot be changed while the disk is in use; start the server with "
                       "it");
    return !who || r->cache.on ||
           err_set(errp, EINVAL,
                   "%s: it needs a disk with a volatile cache: start the server with a section "
                   "[cache]",
                   who);
}

static bool check_ids(const struct rules *r, const struct rules *fresh, struct err **errp)
{
    unsigned at;

    for (const struct fault *f = fresh->faults.all; f; f = f->all_next)
        if (f->id && find_fault(r, f->id))
            return err_set(errp, EEXIST, "another fault has the id \"%s\" already", f->id);
    for (unsigned i = 0; i < fresh->n_all; i++) {
        const struct rule *rule = fresh->all[i];

        if (rule->action != RULE_SUSPEND && rule->id && find_rules(r, rule->id, &at) &&
            r->all[at]->action == rule->action)
            return err_set(errp, EEXIST, "another [%s] has the id \"%s\" already",
                           rule_section_names[rule->action], rule->id);
    }
    return true;
}

static bool check_new(const struct rules *r, const struct rules *fresh, struct err **errp)
{
    if (r->replay)
        return err_set(errp, EINVAL, "A trace decides here: rules would not be asked");
    return check_layers(r, fresh, errp) && check_cache(r, fresh, errp);
}

/* --- Adding --- */

static void move_faults(struct rules *r, struct rules *fresh, struct fault *before)
{
    struct fault *f;

    while ((f = fresh->faults.all)) {
        fault_set_remove(&fresh->faults, f);
        memset(f->before, 0, sizeof(f->before));
        f->number = ++r->last_number;
        fault_set_insert(&r->faults, f, before);
    }
    if (fresh->seed_source == SEED_FILE)
        rules_take_seed(r, fresh->seed, SEED_FILE);
}

static bool move_rules(struct rules *r, struct rules *fresh, struct err **errp)
{
    struct rule_list list, *const lists[] = {&list, NULL};

    rule_list_init(&list);
    for (unsigned i = 0; i < fresh->n_all; i++)
        rule_list_push(&list, fresh->all[i]);
    if (rules_add(r, lists) < 0)
        return err_set(errp, ENOMEM, "no memory to change fault rules");
    fresh->n_all = 0;
    memset(fresh->by_event, 0, fresh->names->n_events * sizeof(fresh->by_event[0]));
    return true;
}

static bool check_room(const struct rules *r, const struct rules *fresh, struct err **errp)
{
    if (r->faults.n + fresh->faults.n > FAULTS_MAX)
        return err_set(errp, E2BIG, "more than %d faults", FAULTS_MAX);
    return r->n_all + fresh->n_all <= RULES_MAX ||
           err_set(errp, E2BIG, "more than %d rules of blkdebug", RULES_MAX);
}

bool rules_adopt(struct rules *r, struct rules *fresh, const char *before, struct err **errp)
{
    struct fault *at = before ? find_fault(r, before) : NULL;

    if (before && !at)
        return err_set(errp, ENOENT, "There is no fault '%.64s'", before);
    if (before && fresh->n_all > 0)
        return err_set(errp, EINVAL,
                       "%s: only a [fault] can be put in front of another: blkdebug's rules are "
                       "asked before all faults",
                       fresh->all[0]->where);
    if (!check_new(r, fresh, errp) || !check_ids(r, fresh, errp) || !check_room(r, fresh, errp) ||
        !move_rules(r, fresh, errp))
        return false;
    move_faults(r, fresh, at);
    return true;
}

/* --- Removing --- */

/* Out of all lists but those of breakpoints that hold somebody, who stays until he is resumed. */
static void drop_rule(struct rules *r, struct rule *rule)
{
    struct rule **at = &r->armed;

    while (*at && *at != rule)
        at = &(*at)->armed_next;
    if (*at && rule->action == RULE_INJECT)
        *at = rule->armed_next;
    if (!rule->spent)
        rules_unlink(r, rule);
    if (!rule->sleeper) {
        rule_free(rule);
        return;
    }
    rule->transient = true;
    rule->break_next = r->breaks;
    r->breaks = rule;
}

static void recount_rest(struct rules *r)
{
    r->rest_layers = 0;
    r->rest_warned = false;
    for (const struct fault *f = r->faults.all; f; f = f->all_next)
        if (pages_bytes(&f->rest))
            r->rest_layers |= 1u << f->sel.layer;
}

static bool remove_fault(struct rules *r, struct fault *f, struct err **errp)
{
    struct rules_gen *next = gen_new(errp);

    if (!next)
        return false;
    fault_set_remove(&r->faults, f);
    recount_rest(r);
    retire(r, f, next);
    return true;
}

bool rules_remove(struct rules *r, const char *id, struct err **errp)
{
    struct fault *f = find_fault(r, id);
    unsigned at = 0, n = find_rules(r, id, &at);

    if (n + (f != NULL) == 0)
        return no_rule(id, errp);
    if (n + (f != NULL) > 1)
        return err_set(errp, EINVAL, "Several fault rules are called '%.64s': say #N", id);
    if (f)
        return remove_fault(r, f, errp);
    drop_rule(r, r->all[at]);
    r->n_all--;
    memmove(r->all + at, r->all + at + 1, (r->n_all - at) * sizeof(r->all[0]));
    return true;
}

bool rules_replace(struct rules *r, struct rules *fresh, struct err **errp)
{
    struct rules_gen *next;
    struct rule **old = r->all;
    unsigned n_old = r->n_all;
    struct fault *gone;

    if (!check_new(r, fresh, errp))
        return false;
    next = gen_new(errp);
    if (!next)
        return false;
    r->all = NULL;
    r->n_all = 0;
    if (!move_rules(r, fresh, errp)) {
        r->all = old;
        r->n_all = n_old;
        mem_free(next);
        return false;
    }
    for (unsigned i = 0; i < n_old; i++)
        drop_rule(r, old[i]);
    mem_free(old);
    gone = r->faults.all;
    r->faults.all = NULL;
    fault_set_free(&r->faults);
    recount_rest(r);
    move_faults(r, fresh, NULL);
    retire(r, gone, next);
    return true;
}

/* --- The next request --- */

/* Those that have struck and hold no damage are let go of when there are many. */
static bool forget_spent(struct rules *r, struct err **errp)
{
    unsigned n = 0;

    for (const struct fault *f = r->faults.all; f; f = f->all_next)
        n += f->once_armed && f->fired > 0;
    for (struct fault *f = r->faults.all, *next; f && n >= ARMED_KEPT; f = next) {
        next = f->all_next;
        if (!f->once_armed || f->fired == 0 || pages_bytes(&f->rest))
            continue;
        if (!remove_fault(r, f, errp))
            return false;
        n--;
    }
    return true;
}

bool rules_arm(struct rules *r, struct rules *fresh, struct err **errp)
{
    struct fault *f = fresh->faults.all;

    assert(f && fresh->faults.n == 1 && fresh->n_all == 0);
    if (f->sel.limit)
        return err_set(errp, EINVAL, "What is armed strikes once: leave out 'limit' and 'once'");
    if (!check_new(r, fresh, errp) || !check_ids(r, fresh, errp) || !forget_spent(r, errp) ||
        !check_room(r, fresh, errp))
        return false;
    f->sel.limit = 1;
    f->once_armed = true;
    move_faults(r, fresh, r->faults.all);
    return true;
}

/* --- Looking --- */

static void fault_info(const struct rules *r, const struct fault *f, struct rules_info *out)
{
    struct out o = {out->text, sizeof(out->text), 0};

    fault_describe(f, r->names, &o);
    out->number = f->number;
    out->section = "fault";
    out->layer = f->sel.layer;
    out->id = f->id;
    out->where = f->where;
    out->seen = fault_seen(&r->faults, f);
    out->matched = f->matched;
    out->fired = f->fired;
    out->spent = f->sel.limit && f->fired >= f->sel.limit;
}

bool rules_info(const struct rules *r, unsigned i, struct rules_info *out)
{
    const struct rule *rule = rules_at(r, i);
    const struct fault *f = rule || i < r->n_all ? NULL : fault_set_at(&r->faults, i - r->n_all);
    const struct fault_last *last = rule ? &rule->last : f ? &f->last : NULL;
    struct out o = {out->text, sizeof(out->text), 0};

    if (!last)
        return false;
    *out = (struct rules_info){
        .any_last = last->any, .last_op = last->op, .last_off = last->off, .last_len = last->len};
    if (f) {
        fault_info(r, f, out);
        return true;
    }
    rule_text(rule, r->names, &o);
    out->number = rule->number;
    out->section = rule_section_names[rule->action];
    out->id = name_of(rule);
    out->where = rule->where;
    out->seen = rule_seen(r, rule);
    out->matched = rule->action == RULE_SUSPEND ? rule->fired : rule->armed;
    out->fired = rule->fired;
    out->spent = rule->spent;
    out->holds = rule->sleeper != NULL;
    return true;
}

void rules_on_fire(struct rules *r, void (*fn)(void *arg, const struct rules_fire *fire), void *arg)
{
    r->fire_fn = fn;
    r->fire_arg = arg;
}

void rules_tell_fire(struct rules *r, uint64_t number, const char *id, const char *where,
                     const char *action, const struct fault_req *q)
{
    struct rules_fire fire = {number, id, where, action, q};

    if (r->fire_fn)
        r->fire_fn(r->fire_arg, &fire);
}

const char *fault_op_name(enum fault_io op)
{
    return fault_op_names[op];
}

const char *fault_layer_name(enum fault_layer layer)
{
    return fault_layer_names[layer];
}
