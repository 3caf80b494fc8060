/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rules that change while requests are under way.
 *
 * What was decided about a request stays decided: it runs to its end as the rules said when it
 * came. So that what it was decided by does not vanish under it, whoever carries decisions out
 * enters the engine before and leaves it after; a rule that is removed is freed when all have left
 * that entered before. Changes are all or nothing, and none of them yields. Damage at rest goes
 * with its rule, at once.
 */
#ifndef FAULTS_LIVE_H
#define FAULTS_LIVE_H

#include "faults/fault.h"

struct rules_gen;

/* rules_enter, rules_leave: around rules_decide and all that is done by its decision, if that
 * yields. Cheap; neither fails. */
struct rules_gen *rules_enter(struct rules *r);
void rules_leave(struct rules *r, struct rules_gen *gen);

/* rules_serve_layer: somebody watches this layer for r: rules for it may come. rules_serves: has
 * that been said? */
void rules_serve_layer(struct rules *r, enum fault_layer layer);
bool rules_serves(const struct rules *r, enum fault_layer layer);

/* Rules are named by their id (a breakpoint's by its tag), or by "#N", N being their number.
 *
 * rules_adopt: r gets all rules of fresh, an engine of the same names that served nobody; it is
 * empty afterwards. before: the fault in front of which they go (only faults may, then); NULL:
 * behind all. rules_replace: instead of all that r has; the state and who sleeps at a breakpoint
 * stay. The seed changes if fresh was told one. The caller announces the event "none" afterwards.
 * rules_arm: one fault of fresh goes before all others and strikes once. rules_remove: one rule.
 * Errors: ENOENT: no such rule; EEXIST: an id is there; EINVAL: nobody watches the layer, a
 * [cache], or a rule that needs one; E2BIG: too many; ENOMEM. Nothing has changed then. */
bool rules_adopt(struct rules *r, struct rules *fresh, const char *before, struct err **errp);
bool rules_replace(struct rules *r, struct rules *fresh, struct err **errp);
bool rules_arm(struct rules *r, struct rules *fresh, struct err **errp);
bool rules_remove(struct rules *r, const char *id, struct err **errp);
/* rules_set_state: from the next event or request on. */
void rules_set_state(struct rules *r, uint32_t state);

struct rules_info {
    uint64_t number;
    const char *section; /* "fault", "inject-error", ... */
    const char *id;      /* NULL: none */
    const char *where;   /* "file:line" */
    enum fault_layer layer;
    char text[512]; /* what it says */
    uint64_t seen, matched, fired;
    bool spent; /* it takes part in nothing any more */
    bool holds; /* a breakpoint: somebody sleeps there */
    bool any_last;
    enum fault_io last_op; /* the request that it struck last */
    uint64_t last_off, last_len;
};
/* rules_info: rule i in the order of rules_describe; false past the end. Texts are r's. */
bool rules_info(const struct rules *r, unsigned i, struct rules_info *out);

/* fault_op_name, fault_layer_name: as in rule files. */
const char *fault_op_name(enum fault_io op);
const char *fault_layer_name(enum fault_layer layer);

struct rules_fire {
    uint64_t number;
    const char *id, *where, *action; /* id NULL: none */
    const struct fault_req *req;
};
/* rules_on_fire: fn is told of each request that a rule strikes; it must not yield nor change
 * rules. With fire NULL: r ends. fn NULL: no more. */
void rules_on_fire(struct rules *r, void (*fn)(void *arg, const struct rules_fire *fire),
                   void *arg);

#endif
