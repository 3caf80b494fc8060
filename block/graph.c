/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Entries of the registry: names, edges, and their ends. Permissions are in graph_perm.c.
 */
#include "block/graph.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "block/graph_priv.h"

struct graph_node *graph_find(const struct graph *g, const char *name)
{
    for (struct graph_node *n = g->nodes; n; n = n->next) {
        if (n->node && strcmp(n->name, name) == 0)
            return n;
    }
    return NULL;
}

struct graph_node *graph_find_node(const struct graph *g, const struct node *node)
{
    for (struct graph_node *n = g->nodes; n; n = n->next) {
        if (n->node == node)
            return n;
    }
    return NULL;
}

bool graph_name_ok(const char *name)
{
    if (!isalpha((unsigned char)*name))
        return false;
    for (; *name; name++) {
        if (!isalnum((unsigned char)*name) && !strchr("-._", *name))
            return false;
    }
    return true;
}

static bool is_taken(const struct graph *g, const char *name)
{
    for (const struct graph_node *n = g->nodes; n; n = n->next) {
        if (strcmp(n->name, name) == 0)
            return true;
    }
    return false;
}

struct graph_node *graph_reserve(struct graph *g, const char *name, const char *driver,
                                 bool read_only, struct err **errp)
{
    struct graph_node *n;

    if (name && !graph_name_ok(name)) {
        err_set(errp, EINVAL, "Invalid node-name: '%s'", name);
        return NULL;
    }
    if (name && strlen(name) > GRAPH_NAME_MAX) {
        err_set(errp, EINVAL, "Node name too long");
        return NULL;
    }
    if (name && is_taken(g, name)) {
        err_set(errp, EEXIST, "Duplicate nodes with node-name='%s'", name);
        return NULL;
    }
    n = mem_new(struct graph_node);
    if (!n) {
        err_set(errp, ENOMEM, "out of memory for a node");
        return NULL;
    }
    if (name)
        strcpy(n->name, name);
    else
        snprintf(n->name, sizeof(n->name), "#block%" PRIu64, ++g->last_auto);
    n->driver = driver;
    n->read_only = read_only;
    n->owned = name;
    n->next = g->nodes;
    g->nodes = n;
    return n;
}

void graph_opened(struct graph_node *n, struct node *node)
{
    assert(!n->node);
    n->node = node;
}

static struct graph_edge *edge_new(struct graph_node *parent, struct graph_node *child,
                                   const char *name, const char *user, enum graph_role role)
{
    struct graph_edge *e = mem_new(struct graph_edge);

    if (!e)
        return NULL;
    e->parent = parent;
    e->child = child;
    e->role = role;
    e->shared = PERM_ALL;
    e->name = mem_strdup(name);
    e->user = user ? mem_strdup(user) : NULL;
    if (!e->name || (user && !e->user)) {
        mem_free(e->name);
        mem_free(e->user);
        mem_free(e);
        return NULL;
    }
    e->next_user = child->users;
    child->users = e;
    if (parent) { /* at the end: drivers number their children */
        struct graph_edge **at = &parent->children;

        while (*at)
            at = &(*at)->next_child;
        *at = e;
    }
    return e;
}

static void edge_free(struct graph_edge *e)
{
    struct graph_edge **at = &e->child->users;

    while (*at != e)
        at = &(*at)->next_user;
    *at = e->next_user;
    if (e->parent) {
        at = &e->parent->children;
        while (*at != e)
            at = &(*at)->next_child;
        *at = e->next_child;
    }
    mem_free(e->name);
    mem_free(e->user);
    mem_free(e);
}

bool graph_reaches(const struct graph_node *from, const struct graph_node *to)
{
    if (from == to)
        return true;
    for (const struct graph_edge *e = from->children; e; e = e->next_child) {
        if (graph_reaches(e->child, to))
            return true;
    }
    return false;
}

bool graph_writes_reach(const struct graph_node *from, const struct graph_node *to)
{
    if (from == to)
        return true;
    for (const struct graph_edge *e = from->children; e; e = e->next_child) {
        if (e->role != ROLE_BACKING && e->role != ROLE_LOOK && graph_writes_reach(e->child, to))
            return true;
    }
    return false;
}

bool graph_link(struct graph *g, struct graph_node *parent, struct graph_node *child,
                const char *name, enum graph_role role, struct err **errp)
{
    struct graph_edge *e;

    if (graph_reaches(child, parent))
        return err_set(errp, ELOOP, "Making '%s' a %s child of '%s' would create a cycle",
                       child->name, name, parent->name);
    e = edge_new(parent, child, name, NULL, role);
    if (!e)
        return err_set(errp, ENOMEM, "out of memory for a node");
    if (graph_refresh(g, errp))
        return true;
    edge_free(e);
    graph_refresh(g, NULL);
    return false;
}

static void drop_if_idle(struct graph *g, struct graph_node *n)
{
    if (!n->users && !n->owned)
        graph_drop(g, n);
}

void graph_unlink(struct graph *g, struct graph_node *parent, struct graph_node *child)
{
    struct graph_edge *e = parent->children;

    while (e->child != child)
        e = e->next_child;
    edge_free(e);
    graph_refresh(g, NULL);
    drop_if_idle(g, child);
}

struct graph_edge *graph_use(struct graph *g, struct graph_node *child, const char *user,
                             unsigned perm, unsigned shared, struct err **errp)
{
    struct graph_edge *e = edge_new(NULL, child, "root", user, ROLE_USER);

    if (!e) {
        err_set(errp, ENOMEM, "out of memory for a node");
        return NULL;
    }
    e->perm = perm;
    e->shared = shared;
    if (graph_refresh(g, errp))
        return e;
    edge_free(e);
    graph_refresh(g, NULL);
    return NULL;
}

void graph_unuse(struct graph *g, struct graph_edge *e)
{
    struct graph_node *n = e->child;

    edge_free(e);
    graph_refresh(g, NULL); /* fewer wishes conflict no more than before */
    drop_if_idle(g, n);
}

static void entry_free(struct graph *g, struct graph_node *n)
{
    struct graph_node **at = &g->nodes;

    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    if (n->free_options)
        n->free_options(n->options);
    mem_free(n);
}

void graph_drop(struct graph *g, struct graph_node *n)
{
    struct node *node = n->node;

    assert(!n->users);
    n->node = NULL; /* not to be found from here on, but the name stays taken until it is closed */
    node_unref(node);
    while (n->children) {
        struct graph_node *child = n->children->child;

        edge_free(n->children);
        drop_if_idle(g, child);
    }
    entry_free(g, n);
    graph_refresh(g, NULL);
}

bool graph_delete(struct graph *g, const char *name, struct err **errp)
{
    struct graph_node *n = graph_find(g, name);

    if (!n)
        return err_set(errp, ENOENT, "Failed to find node with node-name='%s'", name);
    for (const struct graph_edge *e = n->users; e; e = e->next_user) {
        if (!e->parent)
            return err_set(errp, EBUSY, "Node %s is in use", name);
    }
    if (!graph_check_free(n, errp))
        return false;
    if (n->users)
        return err_set(errp, EBUSY, "Block device %s is in use", name);
    if (!n->owned)
        return err_set(errp, EPERM, "Node %s is not owned by the monitor", name);
    graph_drop(g, n);
    return true;
}

static const char *child_role(const struct node *parent, unsigned i, enum graph_role *role)
{
    if (parent->drv->is_filter) {
        *role = ROLE_FILTER;
        return "file";
    }
    *role = i == 0 ? ROLE_FORMAT : ROLE_BACKING;
    return i == 0 ? "file" : "backing";
}

static void move_to_front(struct graph *g, struct graph_node *n)
{
    struct graph_node **at = &g->nodes;

    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    n->next = g->nodes;
    g->nodes = n;
}

bool graph_register_children(struct graph *g, struct graph_node *n, struct err **errp)
{
    for (unsigned i = 0; i < n->node->n_child; i++) {
        struct node *child = n->node->child[i];
        enum graph_role role;
        const char *name = child_role(n->node, i, &role);

        if (graph_find_node(g, child))
            continue;
        struct graph_node *entry = graph_reserve(g, NULL, child->drv->name, child->read_only, errp);
        if (!entry)
            return false;
        graph_opened(entry, node_ref(child));
        if (!graph_link(g, n, entry, name, role, errp)) {
            graph_drop(g, entry);
            return false;
        }
        if (!graph_register_children(g, entry, errp))
            return false;
    }
    move_to_front(g, n);
    return true;
}

void graph_clear(struct graph *g)
{
    while (g->nodes) {
        struct graph_node *n = g->nodes;

        for (struct graph_edge *e = n->users; e; e = n->users) {
            if (!e->parent) {
                edge_free(e);
                continue;
            }
            n = e->parent; /* up to a node that nobody uses; there are no loops */
        }
        graph_drop(g, n);
    }
}
