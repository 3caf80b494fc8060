/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What can be seen of a rule before it runs: that it never will, or that it will do more than it
 * seems to say. Warnings only: what is odd may be meant. An export that is not there is not: its
 * rule is refused.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "faults/fault_priv.h"

struct warner {
    const struct rules *rules;
    void (*fn)(void *arg, const char *text);
    void *arg;
    unsigned n;
};

static void __attribute__((format(printf, 3, 4)))
warn(struct warner *w, const char *where, const char *fmt, ...)
{
    char text[512];
    struct out o = {text, sizeof(text), 0};
    va_list ap;

    out_put(&o, "%s: ", where);
    va_start(ap, fmt);
    out_vput(&o, fmt, ap);
    va_end(ap);
    w->fn(w->arg, text);
    w->n++;
}

static bool state_is_reachable(const struct rules *r, uint32_t state)
{
    const struct rule *rule;

    if (state == 0 || state == rules_state(r))
        return true;
    for (unsigned i = 0; (rule = rules_at(r, i)); i++)
        if (rule->action == RULE_SET_STATE && rule->new_state == state)
            return true;
    for (const struct fault *f = rules_faults_const(r)->all; f; f = f->all_next)
        if (f->act.action == ACTION_STATE && f->act.new_state == state)
            return true;
    return false;
}

static void warn_state(struct warner *w, const char *where, uint32_t state)
{
    if (!state_is_reachable(w->rules, state))
        warn(w, where, "it can never fire: no rule sets state %" PRIu32, state);
}

/* What clients see instead of an error that NBD does not have. */
static void warn_errno(struct warner *w, const char *where, int error)
{
    static const int known[] = {EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ESHUTDOWN};
    char name[16], instead[16];
    int as = error == EDQUOT || error == EFBIG ? ENOSPC
             : error == EROFS                  ? EPERM
             : error == ENOTSUP                ? EINVAL
                                               : EIO;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i] == error)
            return;
    warn(w, where, "NBD has no %s: clients see %s%s", errno_text(error, name),
         errno_text(as, instead), error == ENOTSUP ? ", except of fast zeros" : "");
}

static void warn_rule(struct warner *w, const struct rule *rule)
{
    const char *event = rules_event_names(w->rules)->event[rule->event];
    bool all = rule->io_mask == OPS_ALL && rule->off == SECTOR_ANY;

    warn_state(w, rule->where, rule->state);
    if (strcmp(event, "refblock_update") == 0)
        warn(w, rule->where, "it can never fire: nothing announces \"refblock_update\"");
    if (rule->action != RULE_INJECT || rule->error == 0)
        return;
    warn_errno(w, rule->where, rule->error);
    if (rule->off != SECTOR_ANY && rule->io_mask == OP(FLUSH))
        warn(w, rule->where, "it can never fire: a flush touches no sector");
    if (all && !rule->once && strcmp(event, "none") != 0)
        warn(w, rule->where,
             "it latches: after \"%s\" every request fails, of whatever type; "
             "say iotype, sector or once if that is not meant",
             event);
}

/* Takes everything of its layer and ops, every time. */
static bool takes_all(const struct fault *f)
{
    const struct fault_select *s = &f->sel;

    return !fault_actions[f->act.action].modifier && f->act.action != ACTION_NOSPACE &&
           f->act.action != ACTION_BADSECTOR && s->kinds == 0 && s->fua == FUA_ANY && s->len == 0 &&
           s->min_len == 0 && s->state == 0 && s->events == 0 && !s->export && !s->client &&
           s->conn == 0 && s->to_ms == 0 && s->nth == 0 && s->every <= 1 && s->limit == 0 &&
           s->prob >= 1;
}

static void warn_fault(struct warner *w, const struct fault *f)
{
    unsigned left = f->sel.ops;

    warn_state(w, f->where, f->sel.state);
    if (f->act.action == ACTION_ERROR || f->act.action == ACTION_SHORT ||
        f->act.action == ACTION_SCRIPT)
        warn_errno(w, f->where, f->act.error);
    if ((f->sel.len || f->sel.min_len) && f->sel.ops == OP(FLUSH))
        warn(w, f->where, "it can never fire: a flush has neither range nor length");
    for (const struct fault *o = rules_faults_const(w->rules)->all; o != f; o = o->all_next) {
        if (o->sel.layer != f->sel.layer || !takes_all(o))
            continue;
        left &= ~o->sel.ops;
        if (left == 0) {
            warn(w, f->where, "it can never fire: %s takes all such requests before", o->where);
            return;
        }
    }
}

unsigned rules_warn(const struct rules *r, void (*fn)(void *arg, const char *text), void *arg)
{
    struct warner w = {r, fn, arg, 0};
    const struct rule *rule;

    for (unsigned i = 0; (rule = rules_at(r, i)); i++)
        warn_rule(&w, rule);
    for (const struct fault *f = rules_faults_const(r)->all; f; f = f->all_next)
        warn_fault(&w, f);
    return w.n;
}

/* Could an export of this name, or a view of it (NAME@...), be like the pattern? With wildcards,
 * what stands before the first of them decides. */
static bool names_export(const char *pattern, const char *name)
{
    size_t fixed = strcspn(pattern, "*?"), len = strlen(name);

    if (pattern[fixed] && fixed <= len)
        return strncmp(pattern, name, fixed) == 0;
    return strncmp(pattern, name, len) == 0 && (pattern[len] == 0 || pattern[len] == '@');
}

static bool unknown_export(const struct fault *f, const char *const *names, size_t n,
                           struct err **errp)
{
    struct ini_text wanted = {f->sel.export, strlen(f->sel.export)};
    const char *meant = text_nearest(wanted, names, n);
    char shown[64], name[64];

    text_printable(wanted, shown);
    if (meant || n == 1)
        return err_set(errp, ENOENT, "%s: no export is called \"%s\": %s \"%s\"%s", f->where, shown,
                       meant ? "did you mean" : "there is",
                       text_printable((struct ini_text){meant ? meant : names[0],
                                                        strlen(meant ? meant : names[0])},
                                      name),
                       meant ? "?" : "");
    return err_set(errp, ENOENT, "%s: no export is called \"%s\"", f->where, shown);
}

bool rules_check_exports(const struct rules *r, const char *const *names, size_t n,
                         struct err **errp)
{
    for (const struct fault *f = rules_faults_const(r)->all; f; f = f->all_next) {
        size_t i = 0;

        while (f->sel.export && i < n && !names_export(f->sel.export, names[i]))
            i++;
        if (f->sel.export && i == n)
            return unknown_export(f, names, n, errp);
    }
    return true;
}
