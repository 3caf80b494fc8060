/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Breakpoints: requests that are held at an event until somebody lets them go.
 *
 * As in blkdebug a breakpoint holds one request and is then used up. A request that met several at
 * one event must be resumed as often, by whichever of their tags: the count belongs to the request.
 * The engine keeps no clock and knows no coroutines: a sleeper belongs to who asked, and is handed
 * back when its count falls to 0.
 *
 * A rule that holds a request is in the list of suspended ones instead of that of its event, so
 * holding allocates nothing.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "faults/engine_priv.h"

static struct rule *break_new(unsigned event, const char *tag)
{
    struct rule *rule = mem_new(struct rule);

    if (!rule)
        return NULL;
    rule->action = RULE_SUSPEND;
    rule->event = event;
    rule->transient = true;
    rule->where = mem_strdup("break");
    rule->tag = mem_strdup(tag);
    if (rule->where && rule->tag)
        return rule;
    rule_free(rule);
    return NULL;
}

int rules_break(struct rules *r, unsigned event, const char *tag)
{
    struct rule *rule;

    assert(event < r->names->n_events);
    rule = break_new(event, tag);
    if (!rule)
        return -ENOMEM;
    rules_stir(r, event);
    rule->event_next = r->by_event[event];
    r->by_event[event] = rule;
    rule->break_next = r->breaks;
    r->breaks = rule;
    return 0;
}

void rules_suspend(struct rules *r, struct rule *rule, struct rules_sleeper *s)
{
    rules_unlink(r, rule);
    rule->fired++;
    rule->spent = true;
    rule->sleeper = s;
    rule->armed_next = r->suspended;
    r->suspended = rule;
    s->left++;
    if (rule->timeout_ms > s->timeout_ms)
        s->timeout_ms = rule->timeout_ms;
}

static void break_free(struct rules *r, struct rule *rule)
{
    struct rule **at = &r->breaks;

    if (!rule->transient)
        return; /* a file's: it stays for its counters */
    while (*at != rule)
        at = &(*at)->break_next;
    *at = rule->break_next;
    rule_free(rule);
}

/* Let go of the request that *at holds. NULL: it is held by others, too. */
static struct rules_sleeper *release(struct rules *r, struct rule **at)
{
    struct rule *rule = *at;
    struct rules_sleeper *s = rule->sleeper;

    *at = rule->armed_next;
    rule->sleeper = NULL;
    break_free(r, rule);
    assert(s->left > 0);
    return --s->left == 0 ? s : NULL;
}

int rules_resume(struct rules *r, const char *tag, struct rules_sleeper **woken)
{
    *woken = NULL;
    for (struct rule **at = &r->suspended; *at; at = &(*at)->armed_next) {
        if (tag && strcmp((*at)->tag, tag) != 0)
            continue;
        *woken = release(r, at);
        return 0;
    }
    return -ENOENT;
}

void rules_resume_sleeper(struct rules *r, struct rules_sleeper *s)
{
    struct rule **at = &r->suspended;

    while (*at) {
        if ((*at)->sleeper == s)
            release(r, at);
        else
            at = &(*at)->armed_next;
    }
}

int rules_remove_break(struct rules *r, const char *tag)
{
    int ret = -ENOENT;

    for (unsigned ev = 0; ev < r->names->n_events; ev++) {
        rules_stir(r, ev);
        for (struct rule **at = &r->by_event[ev]; *at;) {
            struct rule *rule = *at;

            if (rule->action != RULE_SUSPEND || strcmp(rule->tag, tag) != 0) {
                at = &rule->event_next;
                continue;
            }
            *at = rule->event_next;
            rule->spent = true;
            break_free(r, rule);
            ret = 0;
        }
    }
    return ret;
}

bool rules_is_suspended(const struct rules *r, const char *tag)
{
    for (const struct rule *rule = r->suspended; rule; rule = rule->armed_next)
        if (strcmp(rule->tag, tag) == 0)
            return true;
    return false;
}
