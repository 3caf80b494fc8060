/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fault rules at run time, power cuts, and what a cut has left. These commands are ours: QEMU has
 * none for it.
 *
 * A change is answered when it is in force: it does not yield, so no request meets half of it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/blockdev.h"
#include "control/export_priv.h"
#include "control/fault_watch.h"
#include "faults/trace.h"
#include "filters/cache.h"
#include "filters/filters.h"

#define CRASH_STATES_AT_ONCE 1000

#define WHICH                                                                                      \
    {"node", &q_str, true},                                                                        \
    {                                                                                              \
        "export", &q_str, true                                                                     \
    }
#define RULES                                                                                      \
    {"rule", &q_str, true}, {"rules", &q_str, true},                                               \
    {                                                                                              \
        "file", &q_str, true                                                                       \
    }

static const struct qtype q_which = {
    .kind = Q_STRUCT, .name = "FaultsWhich", .member = Q_MEMBERS(WHICH)};
static const struct qtype q_add = {.kind = Q_STRUCT,
                                   .name = "FaultsAdd",
                                   .member = Q_MEMBERS(WHICH, RULES, {"before", &q_str, true})};
static const struct qtype q_replace = {
    .kind = Q_STRUCT, .name = "FaultsReplace", .member = Q_MEMBERS(WHICH, RULES)};
static const struct qtype q_arm = {
    .kind = Q_STRUCT, .name = "FaultsArm", .member = Q_MEMBERS(WHICH, {"rule", &q_str, false})};
static const struct qtype q_remove = {
    .kind = Q_STRUCT, .name = "FaultsRemove", .member = Q_MEMBERS(WHICH, {"id", &q_str, false})};
static const struct qtype q_state = {.kind = Q_STRUCT,
                                     .name = "FaultsState",
                                     .member = Q_MEMBERS(WHICH, {"state", &q_uint32, true})};
static const struct qtype q_mark = {
    .kind = Q_STRUCT, .name = "FaultsMark", .member = Q_MEMBERS(WHICH, {"name", &q_str, false})};
static const struct qtype q_subscribe = {
    .kind = Q_STRUCT, .name = "FaultsSubscribe", .member = Q_MEMBERS({"enable", &q_bool, true})};
static const struct qtype q_crash_list = {
    .kind = Q_STRUCT,
    .name = "FaultsCrashList",
    .member = Q_MEMBERS(WHICH, {"first", &q_uint32, true}, {"count", &q_uint32, true})};

static const struct qtype q_last = {
    .kind = Q_STRUCT,
    .name = "FaultRequest",
    .member =
        Q_MEMBERS({"op", &q_str, false}, {"offset", &q_int, false}, {"length", &q_int, false})};
static const struct qtype q_rule = {
    .kind = Q_STRUCT,
    .name = "FaultRule",
    .member =
        Q_MEMBERS({"number", &q_int, false}, {"section", &q_str, false}, {"id", &q_str, true},
                  {"where", &q_str, false}, {"text", &q_str, false}, {"seen", &q_int, false},
                  {"matched", &q_int, false}, {"fired", &q_int, false}, {"spent", &q_bool, false},
                  {"holds", &q_bool, false}, {"last", &q_last, true})};
static const struct qtype q_rules = {.kind = Q_LIST, .name = "FaultRuleList", .element = &q_rule};
static const struct qtype q_engine = {
    .kind = Q_STRUCT,
    .name = "FaultEngine",
    .member =
        Q_MEMBERS({"node", &q_str, false}, {"state", &q_uint32, false}, {"seed", &q_str, false},
                  {"cut", &q_bool, false}, {"rules", &q_rules, false})};
static const struct qtype q_engines = {
    .kind = Q_LIST, .name = "FaultEngineList", .element = &q_engine};
static const struct qtype q_state_now = {
    .kind = Q_STRUCT, .name = "FaultState", .member = Q_MEMBERS({"state", &q_uint32, false})};
static const struct qtype q_crash = {
    .kind = Q_STRUCT,
    .name = "CrashState",
    .member = Q_MEMBERS({"number", &q_int, false}, {"description", &q_str, false})};
static const struct qtype q_crash_states = {
    .kind = Q_LIST, .name = "CrashStateList", .element = &q_crash};
static const struct qtype q_crashes = {
    .kind = Q_STRUCT,
    .name = "CrashStates",
    .member = Q_MEMBERS({"count", &q_int, false}, {"states", &q_crash_states, true})};

static struct fault_place which(struct call *call, struct err **errp)
{
    return fault_place_find(call->ctl, arg_str(call->args, "node"), arg_str(call->args, "export"),
                            errp);
}

/* --- Looking --- */

static json_t *rule_json(const struct rules_info *i)
{
    json_t *last = NULL;

    if (i->any_last)
        last = json_pack("{s:s,s:I,s:I}", "op", fault_op_name(i->last_op), "offset",
                         (json_int_t)i->last_off, "length", (json_int_t)i->last_len);
    return json_pack("{s:I,s:s,s:s*,s:s,s:s,s:I,s:I,s:I,s:b,s:b,s:o*}", "number",
                     (json_int_t)i->number, "section", i->section, "id", i->id, "where", i->where,
                     "text", i->text, "seen", (json_int_t)i->seen, "matched",
                     (json_int_t)i->matched, "fired", (json_int_t)i->fired, "spent", i->spent,
                     "holds", i->holds, "last", last);
}

static json_t *engine_json(const struct fault_place *at)
{
    const struct rules *r = fault_rules(at->node);
    struct node *cache = fault_cache(at->node);
    json_t *list = json_array();
    struct rules_info info;
    char seed[32];

    for (unsigned i = 0; rules_info(r, i, &info); i++)
        json_array_append_new(list, rule_json(&info));
    snprintf(seed, sizeof(seed), "0x%" PRIx64, rules_seed(r));
    return json_pack("{s:s,s:I,s:s,s:b,s:o}", "node", at->name, "state", (json_int_t)rules_state(r),
                     "seed", seed, "cut", cache && cache_is_cut(cache), "rules", list);
}

static bool run_list(struct call *call, struct err **errp)
{
    struct fault_place at;
    json_t *list;

    if (arg_has(call->args, "node") || arg_has(call->args, "export")) {
        at = which(call, errp);
        return at.node && call_return(call, json_pack("[o]", engine_json(&at)), errp);
    }
    list = json_array();
    for (unsigned i = 0; (at = fault_place_at(call->ctl, i)).node; i++)
        json_array_append_new(list, engine_json(&at));
    return call_return(call, list, errp);
}

/* --- Changing --- */

static void show_warning(void *arg, const char *text)
{
    log_warn("%s", text);
}

static bool load(struct call *call, struct rules *fresh, struct err **errp)
{
    const char *rule = arg_str(call->args, "rule"), *rules = arg_str(call->args, "rules");
    const char *file = arg_str(call->args, "file"), *name = call->command->name;

    if ((rule != NULL) + (rules != NULL) + (file != NULL) != 1)
        return err_set(errp, EINVAL, "One of 'rule', 'rules' and 'file' must be given");
    if (rule)
        return rules_load_rule(fresh, rule, name, errp);
    if (rules)
        return rules_load(fresh, name, rules, strlen(rules), errp);
    AUTO_FREE char *path = path_allow(call->ctl, file, errp);
    return path && rules_load_file(fresh, path, errp);
}

/* Without any export there is nothing to compare with: some will come. */
static bool check_exports(struct control *ctl, const struct rules *fresh, struct err **errp)
{
    AUTO_FREE const char **names = NULL;
    size_t n = 0;
    const struct control_export *e;

    for (e = ctl->exports; e; e = e->next)
        n++;
    if (n == 0)
        return true;
    names = mem_array(n, sizeof(names[0]));
    if (!names)
        return err_set(errp, ENOMEM, "out of memory for fault rules");
    for (e = ctl->exports, n = 0; e; e = e->next)
        names[n++] = e->name;
    return rules_check_exports(fresh, names, n, errp);
}

static bool change(struct call *call,
                   bool (*put)(struct call *call, struct node *n, struct rules *fresh,
                               struct err **errp),
                   struct err **errp)
{
    struct fault_place at = which(call, errp);
    struct rules *fresh = at.node ? path_rules_new(call->ctl) : NULL;
    bool ok;

    if (!at.node)
        return false;
    if (!fresh)
        return err_set(errp, ENOMEM, "out of memory for fault rules");
    ok = load(call, fresh, errp) && check_exports(call->ctl, fresh, errp);
    if (ok) {
        bool faults = rules_has_layer(fresh, FAULT_HOST) || rules_has_layer(fresh, FAULT_GUEST);

        faults_may_hang(call->ctl, true);
        rules_warn(fresh, show_warning, NULL);
        ok = put(call, at.node, fresh, errp);
        if (ok && faults)
            log_info("%s: faults are drawn with seed 0x%" PRIx64, at.name,
                     rules_seed(fault_rules(at.node)));
    }
    rules_free(fresh);
    return ok;
}

static bool put_add(struct call *call, struct node *n, struct rules *fresh, struct err **errp)
{
    return fault_adopt(n, fresh, arg_str(call->args, "before"), errp);
}

static bool put_replace(struct call *call, struct node *n, struct rules *fresh, struct err **errp)
{
    return fault_replace(n, fresh, errp);
}

static bool put_arm(struct call *call, struct node *n, struct rules *fresh, struct err **errp)
{
    return rules_arm(fault_rules(n), fresh, errp);
}

static bool run_add(struct call *call, struct err **errp)
{
    return change(call, put_add, errp);
}

static bool run_replace(struct call *call, struct err **errp)
{
    return change(call, put_replace, errp);
}

static bool run_arm(struct call *call, struct err **errp)
{
    return change(call, put_arm, errp);
}

static bool run_remove(struct call *call, struct err **errp)
{
    struct fault_place at = which(call, errp);

    return at.node && rules_remove(fault_rules(at.node), arg_str(call->args, "id"), errp);
}

static bool run_state(struct call *call, struct err **errp)
{
    struct fault_place at = which(call, errp);
    struct rules *r = at.node ? fault_rules(at.node) : NULL;

    if (!r)
        return false;
    if (arg_has(call->args, "state"))
        rules_set_state(r, (uint32_t)arg_int(call->args, "state", 0));
    return call_return(call, json_pack("{s:I}", "state", (json_int_t)rules_state(r)), errp);
}

static bool run_mark(struct call *call, struct err **errp)
{
    struct fault_place at = which(call, errp);

    if (!at.node)
        return false;
    rules_mark(fault_rules(at.node), arg_str(call->args, "name"));
    log_info("%s: mark \"%s\"", at.name, arg_str(call->args, "name"));
    return true;
}

static bool run_subscribe(struct call *call, struct err **errp)
{
    bool enable = arg_bool(call->args, "enable", true);
    struct fault_place at;

    if (!call->session)
        return err_set(errp, EINVAL, "Only a client can subscribe");
    for (unsigned i = 0; enable && (at = fault_place_at(call->ctl, i)).node; i++)
        if (!fault_watch(call->ctl, &at, errp))
            return false;
    call->session->wants_faults = enable;
    return true;
}

/* --- Power --- */

static struct node *find_cache(struct call *call, struct err **errp)
{
    struct fault_place at = which(call, errp);
    struct node *cache = at.node ? fault_cache(at.node) : NULL;

    if (at.node && !cache)
        err_set(errp, ENOTSUP,
                "'%s' has no volatile cache: start with rules that have a section [cache]",
                at.name);
    return cache;
}

static bool run_powercut(struct call *call, struct err **errp)
{
    struct node *cache = find_cache(call, errp);

    if (!cache)
        return false;
    if (cache_is_cut(cache))
        return err_set(errp, EALREADY, "The power is cut already");
    cache_powercut(cache);
    return call_return(call, json_pack("{s:I}", "count", (json_int_t)cache_crash_count(cache)),
                       errp);
}

static bool run_crash_list(struct call *call, struct err **errp)
{
    struct node *cache = find_cache(call, errp);
    int64_t first = arg_int(call->args, "first", 0);
    int64_t count = arg_int(call->args, "count", CRASH_STATES_AT_ONCE);
    json_t *list;
    char text[256];

    if (!cache)
        return false;
    if (!cache_is_cut(cache))
        return err_set(errp, EINVAL, "The power is not cut yet: faults-powercut does it");
    cache_powercut(cache); /* until the states are known */
    list = json_array();
    for (int64_t i = first; i - first < count && i <= UINT32_MAX &&
                            cache_crash_describe(cache, (unsigned)i, text, sizeof(text));
         i++)
        json_array_append_new(list,
                              json_pack("{s:I,s:s}", "number", (json_int_t)i, "description", text));
    return call_return(
        call, json_pack("{s:I,s:o}", "count", (json_int_t)cache_crash_count(cache), "states", list),
        errp);
}

const struct command fault_commands[] = {
    {"faults-list", &q_which, &q_engines, run_list, true},
    {"faults-add", &q_add, NULL, run_add, false},
    {"faults-replace", &q_replace, NULL, run_replace, false},
    {"faults-remove", &q_remove, NULL, run_remove, false},
    {"faults-arm", &q_arm, NULL, run_arm, false},
    {"faults-state", &q_state, &q_state_now, run_state, false},
    {"faults-mark", &q_mark, NULL, run_mark, false},
    {"faults-subscribe", &q_subscribe, NULL, run_subscribe, false},
    {"faults-powercut", &q_which, &q_crashes, run_powercut, false},
    {"faults-crash-list", &q_crash_list, &q_crashes, run_crash_list, true},
    {0},
};
