/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A graph and a server that somebody else has built: clients may look at them and add to them, but
 * what was there before they came stays with whoever made it.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "control/export_priv.h"

static bool adopt_graph(struct control *c, const struct control_adoption *a,
                        struct graph_node **out, struct err **errp)
{
    struct graph_node *n =
        graph_reserve(&c->graph, a->node_name, a->top->drv->name, a->top->read_only, errp);

    if (!n)
        return false;
    graph_opened(n, node_ref(a->top));
    *out = n;
    if (graph_register_children(&c->graph, n, errp))
        return true;
    graph_drop(&c->graph, n);
    return false;
}

static struct control_export *adopt_export(struct control *c, const struct control_adoption *a,
                                           struct graph_node *n, struct err **errp)
{
    struct control_export *e = mem_new(struct control_export);
    AUTO_FREE char *user = mem_printf("block export '%s'", a->export_id);

    if (e) {
        e->ctl = c;
        e->borrowed = true;
        e->id = mem_strdup(a->export_id);
        e->name = mem_strdup(a->export_name);
        if (e->id && e->name && user)
            e->use =
                graph_use(&c->graph, n, user, PERM_CONSISTENT_READ | (a->writable ? PERM_WRITE : 0),
                          a->resizable ? PERM_ALL : PERM_ALL & ~PERM_RESIZE, errp);
        if (e->use) {
            e->use->stays_as = "the export that this server was started for";
            return e;
        }
        if (!e->id || !e->name || !user)
            err_set(errp, ENOMEM, "out of memory for a control socket");
        mem_free(e->id);
        mem_free(e->name);
        mem_free(e);
        return NULL;
    }
    err_set(errp, ENOMEM, "out of memory for a control socket");
    return NULL;
}

bool control_adopt(struct control *c, const struct control_adoption *a, struct err **errp)
{
    struct graph_node *n;
    struct control_export *e;

    if (!c->nbd)
        c->nbd = mem_new(struct nbd_host);
    if (!c->nbd)
        return err_set(errp, ENOMEM, "out of memory for a control socket");
    c->nbd->server = a->server;
    c->nbd->borrowed = true;
    if (!adopt_graph(c, a, &n, errp))
        return false;
    e = adopt_export(c, a, n, errp);
    if (!e) {
        graph_drop(&c->graph, n);
        return false;
    }
    e->next = c->exports;
    c->exports = e;
    return true;
}

/* Is the export the only one that uses the node? */
static bool only_user(const struct graph_node *n, const struct graph_edge *use)
{
    return n->users == use && !use->next_user;
}

static bool disown(struct control *c, struct control_export *e, struct err **errp)
{
    struct graph_node *n = e->use->child;
    struct control_export **at = &c->exports;

    if (!only_user(n, e->use))
        return err_set(errp, EBUSY, "clients of the control socket have use for it");
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    graph_unuse(&c->graph, e->use);
    graph_drop(&c->graph, n);
    event_emit(c, "BLOCK_EXPORT_DELETED", json_pack("{s:s}", "id", e->id));
    mem_free(e->id);
    mem_free(e->name);
    mem_free(e);
    return true;
}

bool control_disown(struct control *c, const char *export_id, struct err **errp)
{
    bool ok;

    co_lock(&c->busy);
    struct control_export *e = export_find(c, export_id);
    ok = e && e->borrowed ? disown(c, e, errp)
                          : err_set(errp, ENOENT, "there is no export '%s'", export_id);
    co_unlock(&c->busy);
    return ok;
}
