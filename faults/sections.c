/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sections of rule files that are neither blkdebug's nor a [fault]: their keys, and what they
 * mean once the section is complete.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/parse.h"
#include "faults/fault_priv.h"

#define LONGEST_MS (UINT64_C(1000) * 3600 * 24 * 365)

bool value_duration(struct ini_text t, const char *key, uint64_t *out_ms, struct err **errp)
{
    char buf[64] = "", shown[64];

    if (t.len < sizeof(buf))
        memcpy(buf, t.at, t.len);
    if (parse_duration_ms(buf, key, out_ms, NULL) && *out_ms <= LONGEST_MS)
        return true;
    return err_set(errp, EINVAL, "'%s' must be a time, such as 500ms, 10s or 2m, not \"%s\"", key,
                   text_printable(t, shown));
}

/* --- [engine] --- */

enum { ENGINE_SEED, ENGINE_LAYER, ENGINE_STRICT, ENGINE_KEYS };
static const char *const engine_keys[ENGINE_KEYS] = {"seed", "layer", "strict"};

/* For faults that name none. It stands in front of them, as a section is judged when it ends. */
static bool engine_layer(struct lang *l)
{
    const struct fault_setting *s = &l->set[ENGINE_LAYER];
    unsigned v = 0;

    if (!s->given)
        return true;
    if (l->head)
        return lang_bad(l, s->at, "'layer' in [engine] must stand before the first fault");
    if (!value_word(s->value, "layer", fault_layer_names, FAULT_LAYERS, &v, l->errp))
        return lang_at(l, s->at);
    l->layer = (enum fault_layer)v;
    return true;
}

static bool engine_end(struct lang *l)
{
    const struct fault_setting *seed = &l->set[ENGINE_SEED];

    const struct fault_setting *strict = &l->set[ENGINE_STRICT];
    bool to_the_letter = true;

    if (!engine_layer(l))
        return false;
    if (strict->given) {
        if (!value_bool(strict->value, "strict", &to_the_letter, l->errp))
            return lang_at(l, strict->at);
        l->relaxed = !to_the_letter;
    }
    if (!seed->given)
        return true;
    if (l->seed_given)
        return lang_bad(l, seed->at, "the seed is given twice");
    if (!value_number(seed->value, "seed", 0, UINT64_MAX, &l->seed, l->errp))
        return lang_at(l, seed->at);
    l->seed_given = true;
    return true;
}

/* --- [suspend "tag"] --- */

enum { SUSPEND_TAG, SUSPEND_EVENT, SUSPEND_STATE, SUSPEND_TIMEOUT, SUSPEND_KEYS };
static const char *const suspend_keys[SUSPEND_KEYS] = {"tag", "event", "state", "timeout"};

static bool suspend_fill(struct lang *l, struct rule *rule)
{
    const struct rules_names *names = rules_event_names(l->rules);
    const struct fault_setting *s = l->set;
    uint64_t state = 0;

    for (unsigned k = 0; k < SUSPEND_KEYS; k++) {
        bool ok = true;

        if (!s[k].given)
            continue;
        if (k == SUSPEND_EVENT)
            ok = value_word(s[k].value, "event", names->event, names->n_events, &rule->event,
                            l->errp);
        else if (k == SUSPEND_STATE)
            ok = value_number(s[k].value, "state", 0, UINT32_MAX, &state, l->errp);
        else if (k == SUSPEND_TIMEOUT)
            ok = value_duration(s[k].value, "timeout", &rule->timeout_ms, l->errp);
        if (!ok)
            return lang_at(l, s[k].at);
    }
    rule->state = (uint32_t)state;
    rule->where = mem_printf("%s:%u", l->file, l->section_line);
    rule->tag = mem_strndup(s[SUSPEND_TAG].value.at, s[SUSPEND_TAG].value.len);
    return (rule->where && rule->tag) || lang_no_memory(l);
}

static bool suspend_end(struct lang *l)
{
    struct rule *rule;

    if (!l->set[SUSPEND_TAG].given)
        return lang_bad(l, (struct ini_place){l->section_line, 1},
                        "a breakpoint lacks its tag: write [suspend \"tag\"], as it is resumed by "
                        "that");
    if (!l->set[SUSPEND_EVENT].given)
        return lang_bad(l, (struct ini_place){l->section_line, 1},
                        "[suspend] lacks its event: add a line event = ...");
    rule = mem_new(struct rule);
    if (!rule)
        return lang_no_memory(l);
    rule->action = RULE_SUSPEND;
    if (!suspend_fill(l, rule)) {
        rule_free(rule);
        return false;
    }
    rule_list_push(&l->suspends, rule);
    return true;
}

/* --- [cache] --- */

enum {
    CACHE_VOLATILE,
    CACHE_LAYER,
    CACHE_SIZE,
    CACHE_ATOMIC,
    CACHE_DESTAGE,
    CACHE_FLUSH,
    CACHE_STATES,
    CACHE_KEYS
};
static const char *const cache_keys[CACHE_KEYS] = {"volatile", "layer", "size",  "atomic",
                                                   "destage",  "flush", "states"};

static bool cache_take(struct lang *l, unsigned k, struct cache_conf *c)
{
    static const char *const layers[] = {"host", "guest"};
    static const char *const policies[DESTAGE_COUNT] = {"none", "fifo", "random"};
    static const char *const flushes[] = {"honour", "ignore"};
    struct ini_text t = l->set[k].value;
    unsigned word = 0;
    uint64_t v = 0;

    switch (k) {
    case CACHE_VOLATILE:
        return value_bool(t, "volatile", &c->on, l->errp);
    case CACHE_LAYER:
        if (!value_word(t, "layer", layers, 2, &word, l->errp))
            return false;
        c->layer = (enum fault_layer)word;
        return true;
    case CACHE_SIZE:
        return value_size(t, "size", &c->size, l->errp) &&
               ((c->size >= CACHE_SIZE_MIN && c->size <= CACHE_SIZE_MAX) ||
                err_set(l->errp, EINVAL, "'size' must be from 1M to 4G"));
    case CACHE_ATOMIC:
        if (!value_size(t, "atomic", &v, l->errp))
            return false;
        c->unit = (uint32_t)v;
        return v == 512 || v == 4096 || err_set(l->errp, EINVAL, "'atomic' must be 512 or 4096");
    case CACHE_DESTAGE:
        if (!value_word(t, "destage", policies, DESTAGE_COUNT, &word, l->errp))
            return false;
        c->destage = (enum cache_destage)word;
        return true;
    case CACHE_FLUSH:
        if (!value_word(t, "flush", flushes, 2, &word, l->errp))
            return false;
        c->ignore_flush = word;
        return true;
    default:
        if (!value_number(t, "states", 1, CACHE_STATES_MAX, &v, l->errp))
            return false;
        c->states = (unsigned)v;
        return true;
    }
}

static bool cache_end(struct lang *l)
{
    struct cache_conf c = {
        .on = true, .size = CACHE_SIZE_DEFAULT, .unit = 512, .states = CACHE_STATES_DEFAULT};

    if (l->cache_given)
        return lang_bad(l, (struct ini_place){l->section_line, 1}, "there is one [cache]");
    for (unsigned k = 0; k < CACHE_KEYS; k++)
        if (l->set[k].given && !cache_take(l, k, &c))
            return lang_at(l, l->set[k].at);
    l->cache = c;
    l->cache_given = true;
    return true;
}

/* --- All of them --- */

const struct lang_section lang_sections[] = {
    [LANG_CLOSED] = {.name = ""},
    [LANG_FAULT] = {.name = "fault", .end = lang_end_fault, .id_key = FK_ID},
    [LANG_SCRIPT] = {.name = "script", .end = lang_end_script, .id_key = FK_ID},
    [LANG_ENGINE] = {"engine", engine_keys, ENGINE_KEYS, engine_end, -1},
    [LANG_CACHE] = {"cache", cache_keys, CACHE_KEYS, cache_end, -1},
    [LANG_SUSPEND] = {"suspend", suspend_keys, SUSPEND_KEYS, suspend_end, SUSPEND_TAG},
};
const unsigned lang_n_sections = sizeof(lang_sections) / sizeof(lang_sections[0]);
