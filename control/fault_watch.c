/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who wants to know of faults: an engine tells its watch of each rule that fires, and the watch the
 * clients that have subscribed. A workload may meet a rule a million times a second, and a client
 * that does not read fast enough would be cut off: so there is a limit, and what is beyond it is
 * counted and told with the next event.
 */
#include "control/fault_watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/export_priv.h"
#include "faults/live.h"
#include "filters/filters.h"

struct fault_watch {
    struct control *ctl;
    struct fault_watch *next;
    struct rules *rules;
    char node[GRAPH_NAME_MAX + 1];
    int64_t since_ns; /* when this second began */
    unsigned told;    /* in it */
    uint64_t missed;
};

const struct qtype q_fault_fired_event = {
    .kind = Q_STRUCT,
    .name = "FAULT_FIRED-arg",
    .member =
        Q_MEMBERS({"node", &q_str, false}, {"number", &q_int, false}, {"id", &q_str, true},
                  {"where", &q_str, false}, {"action", &q_str, false}, {"layer", &q_str, false},
                  {"op", &q_str, false}, {"offset", &q_int, false}, {"length", &q_int, false},
                  {"export", &q_str, true}, {"client", &q_str, true}, {"missed", &q_int, false})};

static void watch_free(struct fault_watch *w)
{
    struct fault_watch **at = &w->ctl->fault_watches;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    mem_free(w);
}

static bool is_over_limit(struct fault_watch *w)
{
    int64_t now = clock_ns();

    if (now - w->since_ns >= NS_PER_S) {
        w->since_ns = now;
        w->told = 0;
    }
    return w->told >= FAULT_EVENTS_PER_SECOND;
}

static void on_fire(void *arg, const struct rules_fire *f)
{
    struct fault_watch *w = arg;
    const struct fault_req *q;

    if (!f) {
        watch_free(w);
        return;
    }
    if (is_over_limit(w)) {
        w->missed++;
        return;
    }
    q = f->req;
    event_emit_to(w->ctl, WANTS_FAULTS, "FAULT_FIRED",
                  json_pack("{s:s,s:I,s:s*,s:s,s:s,s:s,s:s,s:I,s:I,s:s*,s:s*,s:I}", "node", w->node,
                            "number", (json_int_t)f->number, "id", f->id, "where", f->where,
                            "action", f->action, "layer", fault_layer_name(q->layer), "op",
                            fault_op_name(q->op), "offset", (json_int_t)q->off, "length",
                            (json_int_t)q->len, "export", q->export, "client", q->client, "missed",
                            (json_int_t)w->missed));
    w->told++;
    w->missed = 0;
}

bool fault_watch(struct control *c, const struct fault_place *at, struct err **errp)
{
    struct rules *rules = fault_rules(at->node);
    struct fault_watch *w;

    for (w = c->fault_watches; w; w = w->next)
        if (w->rules == rules)
            return true;
    w = mem_new(struct fault_watch);
    if (!w)
        return err_set(errp, ENOMEM, "out of memory");
    w->ctl = c;
    w->rules = rules;
    snprintf(w->node, sizeof(w->node), "%s", at->name);
    w->next = c->fault_watches;
    c->fault_watches = w;
    rules_on_fire(rules, on_fire, w);
    return true;
}

void fault_watches_clear(struct control *c)
{
    while (c->fault_watches) {
        rules_on_fire(c->fault_watches->rules, NULL, NULL);
        watch_free(c->fault_watches);
    }
}

void faults_may_hang(struct control *c, bool may)
{
    for (struct graph_node *n = c->graph.nodes; n; n = n->next)
        if (n->node && (n->node->drv == &fault_driver || n->node->drv == &fault_guest_driver))
            fault_let_hang(n->node, may && !c->stopping);
    for (struct control_export *e = c->exports; e; e = e->next)
        if (e->fault)
            fault_let_hang(e->fault, may && !c->stopping && !e->shutting_down);
}

/* --- Which one is meant --- */

/* Does n stand for an engine: is it the lowest of its filters? */
static bool stands(const struct graph_node *n)
{
    return n->node && (n->node->drv == &fault_driver ||
                       (n->node->drv == &fault_guest_driver && fault_lowest(n->node) == n->node));
}

struct fault_place fault_place_at(struct control *c, unsigned i)
{
    for (struct graph_node *n = c->graph.nodes; n; n = n->next)
        if (stands(n) && i-- == 0)
            return (struct fault_place){n->name, n->node};
    for (struct control_export *e = c->exports; e; e = e->next)
        if (e->fault && fault_lowest(e->fault) == e->fault && i-- == 0)
            return (struct fault_place){e->id, e->fault};
    return (struct fault_place){NULL, NULL};
}

/* If there are nodes, exports without one are not meant. */
static struct fault_place only_one(struct control *c, struct err **errp)
{
    struct fault_place found = fault_place_at(c, 0), other = fault_place_at(c, 1);

    if (!found.node)
        err_set(errp, ENOENT,
                "There is no fault filter: add an export, or a node with driver 'fault'");
    if (!other.node || (graph_find(&c->graph, found.name) && !graph_find(&c->graph, other.name)))
        return found;
    err_set(errp, EINVAL, "There are several fault filters: say which, with 'node' or 'export'");
    return (struct fault_place){NULL, NULL};
}

/* The engine at or below a node. */
static struct fault_place place_below(struct control *c, struct node *top)
{
    struct node *filter = fault_lowest(top);
    struct graph_node *n = filter ? graph_find_node(&c->graph, filter) : NULL;

    return n ? (struct fault_place){n->name, filter} : (struct fault_place){NULL, NULL};
}

struct fault_place fault_place_find(struct control *c, const char *node, const char *export,
                                    struct err **errp)
{
    struct control_export *e = export ? export_find(c, export) : NULL;
    struct fault_place found = {NULL, NULL};
    struct graph_node *n;

    if (node && export) {
        err_set(errp, EINVAL, "'node' and 'export' exclude each other");
        return found;
    }
    if (!node && !export)
        return only_one(c, errp);
    if (export) {
        if (!e || !e->use) {
            err_set(errp, ENOENT, "Export '%s' is not found", export);
            return found;
        }
        found = place_below(c, e->use->child->node);
        if (!found.node && e->fault)
            found = (struct fault_place){e->id, e->fault};
    } else {
        n = graph_find(&c->graph, node);
        if (!n || !n->node) {
            err_set(errp, ENOENT, "Cannot find node '%s'", node);
            return found;
        }
        found = place_below(c, n->node);
    }
    if (!found.node)
        err_set(errp, ENOENT,
                "%s '%s' has no fault filter: put a node with driver 'fault' below it",
                export ? "Export" : "Node", export ? export : node);
    return found;
}
