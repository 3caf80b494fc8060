/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Taking and giving up points in time. The view belongs to a copy-before-write node of its own, so
 * that points of one node come and go without each other.
 */
#include "control/point.h"

static bool open_view(struct point *p, struct node *n, const struct cbw_view_opts *view,
                      struct err **errp)
{
    p->cbw = cbw_open(node_ref(n), errp);
    if (!p->cbw) {
        node_unref(n);
        return false;
    }
    p->view = cbw_view_open(p->cbw, view, errp);
    return p->view;
}

bool point_take(struct control *c, struct point *p, struct graph_node *n, const char *user,
                const struct cbw_view_opts *view, struct bitmap *bitmap, struct err **errp)
{
    *p = (struct point){.ctl = c};
    /* Nobody may change its size: the copy is as long as the disk is now. */
    p->use = graph_use(&c->graph, n, user, PERM_CONSISTENT_READ, PERM_ALL & ~PERM_RESIZE, errp);
    if (p->use && open_view(p, n->node, view, errp) && (!bitmap || bitmap_freeze(bitmap, errp))) {
        p->bitmap = bitmap;
        cbw_guard(p->cbw);
        return true;
    }
    node_unref(p->view);
    node_unref(p->cbw);
    if (p->use)
        graph_unuse(&c->graph, p->use);
    *p = (struct point){0};
    return false;
}

void point_settle(struct point *p, bool advance)
{
    if (p->bitmap && advance)
        bitmap_abdicate(p->bitmap);
    else if (p->bitmap)
        bitmap_reclaim(p->bitmap);
    p->bitmap = NULL;
}

void point_free(struct point *p)
{
    if (!p->use)
        return;
    cbw_unguard(p->cbw);
    node_unref(p->view);
    node_unref(p->cbw);
    graph_unuse(&p->ctl->graph, p->use);
    *p = (struct point){0};
}
