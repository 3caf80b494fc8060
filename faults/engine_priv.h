/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The engine itself, for the files that change it: rules.c, suspend.c.
 */
#ifndef FAULTS_ENGINE_PRIV_H
#define FAULTS_ENGINE_PRIV_H

#include "faults/cache.h"
#include "faults/fault_priv.h"
#include "faults/trace.h"

#define RULES_MAX 65536 /* that were added while serving, with those there */

struct rules_gen {
    unsigned refs;      /* requests that came while it was the newest */
    struct fault *gone; /* what ended it: they may still know these */
    struct rules_gen *next;
};

/* When an event came last, no rule of it matched: in the same state none will. */
struct rules_quiet {
    bool known;
    uint32_t state;
    uint64_t skipped; /* times its rules were not looked at, and have not counted */
};

struct rules {
    unsigned refs;
    const struct rules_names *names;
    uint32_t state;
    struct rule **by_event; /* heads, newest first */
    struct rules_quiet *quiet;
    struct rule *armed;
    struct rule **all; /* in load order; owns them, spent or not */
    unsigned n_all;

    struct rule *breaks;    /* set at run time and not from a file, by break_next; owns them */
    struct rule *suspended; /* rules that hold a request, newest first, by armed_next */

    struct fault_set faults; /* beyond blkdebug: see decide.c */
    unsigned rest_layers;    /* bits: there may be damage at rest */
    bool rest_warned;
    struct cache_conf cache;

    uint64_t seed;
    enum seed_source seed_source;

    /* live.c */
    uint64_t last_number;               /* of a rule */
    unsigned layers;                    /* bits: somebody watches them */
    struct rules_gen *oldest, *current; /* a list from the one to the other */
    void (*fire_fn)(void *arg, const struct rules_fire *fire);
    void *fire_arg;
    void (*trace_fn)(void *arg, const struct trace_record *t);
    void *trace_arg;
    char *(*allow_fn)(const void *arg, const char *path, struct err **errp); /* scripts */
    const void *allow_arg;
    struct replay *replay; /* decides instead of the rules; NULL: they do */
};

/* rules_stir: the rules of this event are about to change. rule_seen: how often its event came. */
void rules_stir(struct rules *r, unsigned event);
uint64_t rule_seen(const struct rules *r, const struct rule *rule);
/* rules_unlink: take a rule out of the list of its event. */
void rules_unlink(struct rules *r, struct rule *rule);
/* rules_tell_fire: to whom it concerns. */
void rules_tell_fire(struct rules *r, uint64_t number, const char *id, const char *where,
                     const char *action, const struct fault_req *q);
/* trace_event, trace_request: to who records, if somebody does. */
void trace_event(struct rules *r, unsigned event);
void trace_request(struct rules *r, const struct fault_req *q, const struct fault_decision *d);
/* rule_text: what it says. */
void rule_text(const struct rule *rule, const struct rules_names *names, struct out *o);

#endif
