/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changing the graph under whoever uses it: another node takes a node's place, a node is written to
 * from now on or no more. All that is affected is drained for that moment.
 */
#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "block/graph_priv.h"

/* --- Draining several nodes --- */

void graph_mark(struct graph_node *n, bool parents)
{
    n->marked = true;
    for (const struct graph_edge *e = parents ? n->users : NULL; e; e = e->next_user) {
        if (e->parent)
            e->parent->marked = true;
    }
}

/* How many nodes at most lie between a node and what nobody uses but from outside. */
static unsigned rank_of(const struct graph_node *n)
{
    unsigned rank = 0;

    for (const struct graph_edge *e = n->users; e; e = e->next_user) {
        if (e->parent && rank_of(e->parent) >= rank)
            rank = rank_of(e->parent) + 1;
    }
    return rank;
}

/* The marked node of the least rank that is not drained yet. */
static struct graph_node *next_to_drain(const struct graph *g)
{
    struct graph_node *first = NULL;

    for (struct graph_node *n = g->nodes; n; n = n->next) {
        if (n->marked && !n->drained && n->node && (!first || rank_of(n) < rank_of(first)))
            first = n;
    }
    return first;
}

void graph_drain_add(struct graph_node *n)
{
    if (n->drained)
        return;
    n->marked = n->drained = true;
    node_drain_begin(n->node);
}

void graph_drain_begin(struct graph *g)
{
    struct graph_node *n;

    while ((n = next_to_drain(g)))
        graph_drain_add(n);
}

void graph_drain_end(struct graph *g)
{
    for (struct graph_node *n = g->nodes; n; n = n->next) {
        if (n->drained)
            node_drain_end(n->node);
        n->marked = n->drained = false;
    }
}

/* --- One node in the place of another --- */

static bool check_users_are(const struct graph_node *n, bool jobs_only, struct err **errp)
{
    for (const struct graph_edge *e = n->users; e; e = e->next_user) {
        if (!e->parent && !e->move && (e->stays_as || !jobs_only))
            return err_set(errp, EBUSY, "Node '%s' is busy: block device is in use by %s", n->name,
                           e->stays_as ? e->stays_as : e->user);
    }
    return true;
}

bool graph_check_idle(const struct graph_node *n, struct err **errp)
{
    return check_users_are(n, false, errp);
}

bool graph_check_jobless(const struct graph_node *n, struct err **errp)
{
    return check_users_are(n, true, errp);
}

bool graph_check_free(const struct graph_node *n, struct err **errp)
{
    for (const struct graph_edge *e = n->users; e; e = e->next_user) {
        if (e->role == ROLE_BACKING)
            return err_set(errp, EBUSY, "Node '%s' is busy: node is used as backing hd of '%s'",
                           n->name, e->parent->name);
    }
    return graph_check_idle(n, errp);
}

/* Filters that can have another child. */
static bool is_filter_edge(const struct graph_edge *e)
{
    return e->role == ROLE_FILTER || e->role == ROLE_COPY_ON_READ;
}

static bool check_users(const struct graph_node *from, const struct graph_node *to,
                        const struct graph_node *except, struct err **errp)
{
    if (!graph_check_idle(from, errp))
        return false;
    for (const struct graph_edge *e = from->users; e; e = e->next_user) {
        if (!e->parent && from->node->size != to->node->size)
            return err_set(errp, EINVAL, "Node '%s' has another size than node '%s' (%s)", to->name,
                           from->name, e->user);
        if (!e->parent || e->parent == except)
            continue;
        if (!is_filter_edge(e) && e->role != ROLE_BACKING)
            return err_set(errp, ENOTSUP,
                           "Node '%s' is the '%s' child of node '%s', whose bytes are there; it "
                           "cannot have another one",
                           from->name, e->name, e->parent->name);
        if (graph_reaches(to, e->parent))
            return err_set(errp, ELOOP, "Making '%s' a %s child of '%s' would create a cycle",
                           to->name, e->name, e->parent->name);
    }
    return true;
}

static void edge_to(struct graph_edge *e, struct graph_node *to)
{
    struct graph_edge **at = &e->child->users;

    while (*at != e)
        at = &(*at)->next_user;
    *at = e->next_user;
    e->child = to;
    e->next_user = to->users;
    to->users = e;
}

/* What the edge stands for follows it. */
static void follow(struct graph_edge *e, const struct graph_node *from)
{
    struct node *parent = e->parent ? e->parent->node : NULL;

    if (!parent)
        e->move(e, e->child->node);
    for (unsigned i = 0; parent && i < parent->n_child; i++) {
        if (parent->child[i] == from->node)
            node_unref(node_set_child(parent, i, e->child->node)); /* its entry has it, too */
    }
}

bool graph_replace(struct graph *g, struct graph_node *from, struct graph_node *to,
                   const struct graph_node *except, struct err **errp)
{
    struct graph_edge *const before = to->users, *e, *next;
    bool ok;

    assert(from->node->drained && to->node->drained);
    if (!check_users(from, to, except, errp))
        return false;
    for (e = from->users; e; e = next) {
        next = e->next_user;
        if (!e->parent || e->parent != except)
            edge_to(e, to);
    }
    ok = graph_refresh(g, errp);
    for (e = to->users; e != before; e = next) {
        next = e->next_user;
        if (ok)
            follow(e, from);
        else
            edge_to(e, from);
    }
    if (ok)
        node_redirect(from->node, to->node);
    else
        graph_refresh(g, NULL);
    return ok;
}

struct graph_node *graph_unfiltered(struct graph_node *n)
{
    struct graph_edge *e = n->children;

    while (e) {
        if (is_filter_edge(e) || e->role == ROLE_COPIED)
            return graph_unfiltered(e->child);
        e = e->next_child;
    }
    return n;
}

struct graph_node *graph_below(const struct graph_node *n)
{
    for (const struct graph_edge *e = n->children; e; e = e->next_child) {
        if (is_filter_edge(e) || e->role == ROLE_COPIED || e->role == ROLE_BACKING)
            return e->child;
    }
    return NULL;
}

struct graph_node *graph_backing(const struct graph_node *n)
{
    for (const struct graph_edge *e = graph_unfiltered((struct graph_node *)n)->children; e;
         e = e->next_child) {
        if (e->role == ROLE_BACKING)
            return e->child;
    }
    return NULL;
}

/* --- Read-only, or not --- */

/* Does e's child belong to its parent alone, as far as that is concerned? */
static bool goes_along(const struct graph_edge *e)
{
    return !e->child->owned && e->role != ROLE_BACKING;
}

static void declare(struct graph_node *n, bool read_only)
{
    n->read_only = read_only;
    for (const struct graph_edge *e = n->children; e; e = e->next_child) {
        if (goes_along(e))
            declare(e->child, read_only);
    }
}

/* As the nodes themselves say it. */
static void declare_truth(struct graph_node *n)
{
    n->read_only = n->node->read_only;
    for (const struct graph_edge *e = n->children; e; e = e->next_child) {
        if (goes_along(e))
            declare_truth(e->child);
    }
}

static bool set_node(struct graph_node *n, bool read_only, struct err **errp)
{
    struct node *node = n->node;
    bool ok = true;

    if (node->read_only == read_only)
        return true;
    node_drain_begin(node);
    if (node->drv->set_read_only)
        ok = node->drv->set_read_only(node, read_only, errp);
    else if (node->drv->is_filter)
        node->read_only = read_only;
    else
        ok = err_set(errp, ENOTSUP,
                     "Node '%s' (%s) cannot change from read-only to writable or back", n->name,
                     n->driver);
    node_drain_end(node);
    return ok;
}

/* Who writes comes after what it writes to, and ends before that. */
static bool set_all(struct graph_node *n, bool read_only, struct err **errp)
{
    bool ok = !read_only || set_node(n, read_only, errp);

    for (const struct graph_edge *e = n->children; e && ok; e = e->next_child)
        ok = !goes_along(e) || set_all(e->child, read_only, errp);
    return ok && (read_only || set_node(n, read_only, errp));
}

bool graph_set_read_only(struct graph *g, struct graph_node *n, bool read_only, struct err **errp)
{
    bool ok;

    if (n->read_only == read_only)
        return true;
    declare(n, read_only);
    if (!graph_refresh(g, errp)) {
        declare_truth(n);
        graph_refresh(g, NULL);
        return false;
    }
    ok = set_all(n, read_only, errp);
    if (!ok && !read_only)
        set_all(n, true, NULL);
    declare_truth(n);
    graph_refresh(g, NULL);
    return ok;
}
