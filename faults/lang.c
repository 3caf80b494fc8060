/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading [engine] and [fault] sections, and faults on a command line.
 *
 * These sections are not blkdebug's, so they are read as people write: quotes are optional, space
 * is free, comments may be indented or follow a value, CRLF does no harm. A key that is given twice
 * is a mistake. A section is judged when it ends.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "faults/fault_priv.h"
#include "faults/script.h"

#define NOWHERE ((struct ini_place){0, 0}) /* of what is no file */
#define CHANGES (OP(WRITE) | OP(WRITE_ZEROES))

bool lang_at(struct lang *l, struct ini_place at)
{
    return l->file ? err_prefix(l->errp, "%s:%u:%u: ", l->file, at.line, at.column)
                   : err_prefix(l->errp, "%s: ", l->label);
}

bool lang_bad(struct lang *l, struct ini_place at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    err_vset(l->errp, EINVAL, fmt, ap);
    va_end(ap);
    return lang_at(l, at);
}

bool lang_no_memory(struct lang *l)
{
    return err_set(l->errp, ENOMEM, "%s: no memory for its rules", l->file ? l->file : l->label);
}

void lang_init(struct lang *l, struct rules *r, const char *file, struct err **errp)
{
    *l = (struct lang){.rules = r, .file = file, .errp = errp};
    l->tail = &l->head;
    rule_list_init(&l->suspends);
}

void lang_drop(struct lang *l)
{
    fault_list_free(l->head);
    l->head = NULL;
    rule_list_free(&l->suspends);
}

void lang_commit(struct lang *l)
{
    struct fault *f;

    while ((f = l->head)) {
        l->head = f->all_next;
        rules_add_fault(l->rules, f);
    }
    if (l->cache.on)
        *rules_cache_conf(l->rules) = l->cache;
    if (l->seed_given)
        rules_take_seed(l->rules, l->seed, SEED_FILE);
}

bool lang_begin(struct lang *l, struct ini_text name, struct ini_text id, unsigned line)
{
    for (unsigned i = LANG_CLOSED + 1; i < lang_n_sections; i++) {
        if (!text_is(name, lang_sections[i].name))
            continue;
        l->section = (enum lang_section_id)i;
        l->section_line = line;
        memset(l->set, 0, sizeof(l->set));
        if (id.len > 0 && lang_sections[i].id_key < 0)
            return lang_bad(l, lang_place(l, id, line), "[%s] has no name", lang_sections[i].name);
        if (id.len > 0)
            l->set[lang_sections[i].id_key] =
                (struct fault_setting){id, lang_place(l, id, line), true};
        return true;
    }
    return false;
}

/* --- A complete section --- */

static struct ini_place section_place(const struct lang *l)
{
    return (struct ini_place){l->section_line, 1};
}

static struct ini_place key_place(const struct lang *l, enum fault_key k)
{
    return l->set[k].given ? l->set[k].at : section_place(l);
}

/* Values that are right alone and not together. */
static bool check_values(struct lang *l, const struct fault *f)
{
    const struct fault_act *a = &f->act;
    bool corrupt = a->action == ACTION_CORRUPT;

    if (l->set[FK_BITS].given + l->set[FK_BYTE].given + l->set[FK_ZERO].given +
            l->set[FK_STALE].given + l->set[FK_STUCK].given >
        1)
        return lang_bad(l, key_place(l, FK_ACTION),
                        "'bits', 'byte', 'zero', 'stale' and 'stuck' exclude each other");
    if (l->set[FK_KEEP].given && l->set[FK_MASK].given)
        return lang_bad(l, key_place(l, FK_MASK), "'keep' and 'mask' exclude each other");
    if (a->action == ACTION_MISDIRECT && l->set[FK_DELTA].given == l->set[FK_TO].given)
        return lang_bad(l, key_place(l, FK_TO),
                        "a misdirected write needs either delta=SIZE or "
                        "to=OFFSET");
    if (a->action == ACTION_HANG && l->set[FK_ERROR].given && !a->hang_ms)
        return lang_bad(l, key_place(l, FK_ERROR),
                        "a hang ends with an error after its timeout only: add timeout=10s");
    if (corrupt && a->byte > 255)
        return lang_bad(l, key_place(l, FK_BYTE), "'byte' must be a number from 0 to 255");
    if (corrupt && a->how >= HOW_STALE && (f->sel.ops & ~OP(READ)))
        return lang_bad(l, key_place(l, FK_OP), "'stale' and 'stuck' are about reads");
    if (a->shape == SHAPE_RAMP && f->sel.to_ms == 0)
        return lang_bad(l, key_place(l, FK_SHAPE), "a ramp lacks its window: add window=10s..60s");
    if (a->shape == SHAPE_FIXED && a->max_ms > a->min_ms)
        return lang_bad(l, key_place(l, FK_SHAPE), "a fixed delay is one number, not a range");
    if (a->shape == SHAPE_LOGNORMAL && (a->min_ms == 0 || a->max_ms == a->min_ms))
        return lang_bad(l, key_place(l, FK_SHAPE),
                        "a lognormal delay needs ms=N..M: median and what 99 of 100 stay below");
    if (a->drop && f->sel.ops != OP(FLUSH))
        return lang_bad(l, key_place(l, FK_DROP), "'drop' is about flushes: add op=flush");
    return true;
}

/* Keys that another action has, keys that this one lacks, keys that contradict each other. */
static bool check_keys(struct lang *l, const struct fault *f)
{
    const struct fault_action_info *info = &fault_actions[f->act.action];

    for (unsigned k = 0; k < FK_COUNT; k++) {
        unsigned actions = fault_keys[k].actions;
        char names[128] = "";
        struct out o = {names, sizeof(names), 0};

        if (!l->set[k].given && (info->needs & (UINT64_C(1) << k)))
            return lang_bad(l, key_place(l, FK_ACTION), "action=%s lacks its %s: add %s=%s (%s)",
                            info->name, fault_keys[k].name, fault_keys[k].name, fault_keys[k].value,
                            fault_keys[k].text);
        if (!l->set[k].given || actions == 0 || (actions & (1u << f->act.action)))
            continue;
        for (unsigned a = 0; a < ACTION_COUNT; a++)
            if (actions & (1u << a))
                out_put(&o, "%s%s", o.used ? " or " : "", fault_actions[a].name);
        return lang_bad(l, l->set[k].at, "'%s' does not go with action=%s; it goes with %s",
                        fault_keys[k].name, info->name, names);
    }
    return check_values(l, f);
}

static bool check_layer(struct lang *l, const struct fault *f)
{
    const struct fault_action_info *info = &fault_actions[f->act.action];

    if (!(info->layers & (1u << f->sel.layer)))
        return lang_bad(l, key_place(l, FK_LAYER), "action=%s cannot be done at the %s layer%s",
                        info->name, fault_layer_names[f->sel.layer],
                        info->layers == 1u << FAULT_WIRE ? ": add layer=wire" : "");
    if (f->sel.events && f->sel.layer != FAULT_HOST)
        return lang_bad(l, l->set[FK_EVENT].at,
                        "'event' is known under the format only: leave out layer=%s",
                        fault_layer_names[f->sel.layer]);
    if (f->sel.kinds != 0 && f->sel.layer != FAULT_HOST)
        return lang_bad(l, l->set[FK_KIND].at,
                        "'kind' is known under the format only: leave out layer=guest");
    if (f->sel.fua != FUA_ANY && f->sel.layer == FAULT_HOST)
        return lang_bad(
            l, l->set[FK_FUA].at,
            "'fua' is what clients ask for: add layer=guest (the host file is flushed)");
    return true;
}

static bool check_ops(struct lang *l, struct fault *f)
{
    const struct fault_action_info *info = &fault_actions[f->act.action];
    bool only_changes = f->sel.kinds != 0 || f->sel.fua != FUA_ANY;
    char names[128] = "";
    struct out o = {names, sizeof(names), 0};

    if (f->sel.ops == 0) {
        f->sel.ops = info->default_ops;
        if (only_changes)
            f->sel.ops &= CHANGES;
        if (f->sel.ops == 0)
            f->sel.ops = info->ops & CHANGES;
    }
    if (only_changes && (f->sel.ops & ~CHANGES))
        return lang_bad(l, key_place(l, FK_OP),
                        "'%s' is about writes: op must be write, zero or both",
                        f->sel.kinds ? "kind" : "fua");
    if (f->sel.ops & ~info->ops) {
        out_words(&o, info->ops, fault_op_names, FAULT_IO_COUNT);
        return lang_bad(l, key_place(l, FK_OP), "action=%s can be done to %s only", info->name,
                        names);
    }
    return true;
}

static bool check_id(struct lang *l, const struct fault *f)
{
    const struct fault *lists[] = {rules_faults(l->rules)->all, l->head};
    unsigned n = 0;

    for (unsigned i = 0; i < 2; i++) {
        for (const struct fault *o = lists[i]; o; o = o->all_next, n++)
            if (f->id && o->id && strcmp(f->id, o->id) == 0)
                return lang_bad(l, key_place(l, FK_ID), "another fault has the id \"%s\" already",
                                f->id);
    }
    return n < FAULTS_MAX || lang_bad(l, section_place(l), "more than %d faults", FAULTS_MAX);
}

/* Without a name it is what it says that makes a fault itself: other rules around it, and their
 * lines, leave its draws alone. */
static void identify(struct lang *l, struct fault *f)
{
    char text[512] = "";
    struct out o = {text, sizeof(text), 0};

    f->draws = f->sel.prob < 1 || act_draws(&f->act);
    fault_describe(f, rules_event_names(l->rules), &o);
    f->draw_id = draw_text(f->id ? f->id : text);
}

static bool take_keys(struct lang *l, struct fault *f)
{
    for (unsigned k = 0; k < FK_COUNT; k++) {
        struct err *e = NULL;

        if (!l->set[k].given ||
            fault_keys[k].take(l->set[k].value, rules_event_names(l->rules), f, &e))
            continue;
        err_move(l->errp, e);
        return lang_at(l, l->set[k].at);
    }
    return true;
}

static bool load_script(struct lang *l, struct fault *f)
{
    const char *slash = l->file ? strrchr(l->file, '/') : NULL;

    if (f->act.action != ACTION_SCRIPT)
        return true;
    if (!script_is_built())
        return lang_bad(l, key_place(l, FK_ACTION),
                        "[script] needs Lua, and this breakwater was built without it");
    return fault_script_load(l->rules, f, l->file, slash ? (size_t)(slash - l->file) + 1 : 0,
                             l->errp) ||
           lang_at(l, key_place(l, FK_FILE));
}

static bool fill(struct lang *l, struct fault *f)
{
    if (!take_keys(l, f))
        return false;
    if (!l->set[FK_ACTION].given)
        return lang_bad(l, section_place(l),
                        "a fault lacks its action: add action=error or another of those that "
                        "`breakwater faults actions` lists");
    /* What the cut leaves is what is on the disk: damage that lies over it would be gone. */
    f->act.on_disk |= f->act.then_powercut;
    if (!check_layer(l, f) || !check_ops(l, f) || !check_keys(l, f) || !check_id(l, f))
        return false;
    f->where = l->file ? mem_printf("%s:%u", l->file, l->section_line) : mem_strdup(l->label);
    if (!f->where)
        return lang_no_memory(l);
    identify(l, f);
    return load_script(l, f);
}

static void set_defaults(struct fault *f)
{
    f->sel.prob = 1;
    f->act = (struct fault_act){.error = EIO,
                                .bytes = HALF,
                                .unit = 512,
                                .bits = 1,
                                .to = TO_UNSET,
                                .heals = true,
                                .budget = SCRIPT_BUDGET,
                                .memory = SCRIPT_MEMORY};
}

bool lang_end_fault(struct lang *l)
{
    struct fault *f = mem_new(struct fault);

    if (!f)
        return lang_no_memory(l);
    set_defaults(f);
    f->sel.layer = l->layer;
    if (!fill(l, f)) {
        fault_free(f);
        return false;
    }
    *l->tail = f;
    l->tail = &f->all_next;
    return true;
}

/* A fault whose action is the script. */
bool lang_end_script(struct lang *l)
{
    static const char action[] = "script";

    if (l->set[FK_ACTION].given)
        return lang_bad(l, l->set[FK_ACTION].at,
                        "[script] has no action: its script says what is done");
    l->set[FK_ACTION] =
        (struct fault_setting){{action, sizeof(action) - 1}, section_place(l), true};
    return lang_end_fault(l);
}

bool lang_end(struct lang *l)
{
    const struct lang_section *s = &lang_sections[l->section];

    l->section = LANG_CLOSED;
    return !s->end || s->end(l);
}

/* --- Command line --- */

bool rules_load_option(struct rules *r, const char *text, unsigned n, struct err **errp)
{
    char label[32] = "";
    struct out o = {label, sizeof(label), 0};

    out_put(&o, "--fault %u", n);
    return rules_load_rule(r, text, label, errp);
}

/* The words of text are settings of one [fault]. */
static bool read_words(struct lang *l, const char *text)
{
    struct ini_text rest = text_trim((struct ini_text){text, strlen(text)}), word;
    bool ok;

    l->line_text = text;
    ok = lang_begin(l, (struct ini_text){"fault", 5}, (struct ini_text){NULL, 0}, 0);

    while (ok && text_split(&rest, ' ', &word)) {
        word = text_trim(word);
        ok = word.len == 0 || lang_setting(l, word, 0);
    }
    return ok;
}

bool rules_load_rule(struct rules *r, const char *text, const char *label, struct err **errp)
{
    struct err *e = NULL;
    struct lang l;
    bool ok;

    lang_init(&l, r, NULL, &e);
    l.label = label;
    ok = read_words(&l, text) && lang_end(&l);
    if (ok)
        lang_commit(&l);
    lang_drop(&l);
    return ok || err_move(errp, e);
}

/* --- Answers of scripts --- */

/* What an action that needs no rule to remember anything for it can be. */
static bool check_answer(struct lang *l, const struct fault *f, const struct fault_req *q)
{
    const struct fault_action_info *info = &fault_actions[f->act.action];
    bool cache = f->act.then_powercut || f->act.drop || f->act.action == ACTION_POWERCUT;

    if (f->act.action == ACTION_SCRIPT || f->act.action == ACTION_NOSPACE ||
        f->act.action == ACTION_BADSECTOR || f->act.how >= HOW_STALE)
        return lang_bad(l, NOWHERE, "a script cannot answer action=%s%s", info->name,
                        f->act.how >= HOW_STALE ? " of that kind" : "");
    if (!(info->layers & (1u << q->layer)) || !(info->ops & (1u << q->op)))
        return lang_bad(l, NOWHERE, "action=%s cannot be done to a %s of the %s layer", info->name,
                        fault_op_names[q->op], fault_layer_names[q->layer]);
    return !cache || rules_cache(l->rules)->on ||
           lang_bad(l, NOWHERE, "it needs a section [cache]");
}

bool lang_read_answer(struct rules *r, const struct fault *f, const struct fault_req *q,
                      const char *text, struct fault_act *out, struct err **errp)
{
    struct fault as = {
        .sel.layer = q->layer, .sel.from_ms = f->sel.from_ms, .sel.to_ms = f->sel.to_ms};
    struct err *e = NULL;
    struct lang l;
    bool ok;

    lang_init(&l, r, NULL, &e);
    l.label = "its answer";
    set_defaults(&as);
    as.sel.ops = 1u << q->op;
    ok = read_words(&l, text);
    for (unsigned k = 0; ok && k < FK_COUNT; k++)
        if (l.set[k].given && (k < FK_ACTION || k == FK_FILE || k == FK_HOOK))
            ok = lang_bad(&l, NOWHERE, "'%s' does not belong into an answer", fault_keys[k].name);
    if (ok && !l.set[FK_ACTION].given)
        ok = lang_bad(&l, NOWHERE, "it lacks its action");
    ok = ok && take_keys(&l, &as) && check_answer(&l, &as, q) && check_keys(&l, &as);
    as.act.on_disk |= as.act.then_powercut;
    *out = as.act;
    return ok || err_move(errp, e);
}
