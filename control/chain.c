/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Holding and walking a part of a backing chain.
 */
#include "control/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "control/blockdev.h"
#include "qcow2/qcow2.h"

bool chain_has(const struct graph_node *top, const struct graph_node *n)
{
    while (top && top != n)
        top = graph_below(top);
    return top;
}

unsigned chain_images(const struct graph_node *top, const struct graph_node *base)
{
    unsigned n = 0;

    for (; top && top != base; top = graph_below(top))
        n += graph_unfiltered((struct graph_node *)top) == top;
    return n;
}

static bool is_file(const struct graph_node *n, const char *name)
{
    const struct graph_node *storage = blockdev_storage(n);
    struct stat a, b;

    return storage && stat(name, &a) == 0 && stat(storage->node->name, &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static bool says(const struct graph_node *n, const char *name)
{
    struct qc_info info;

    if (n->node->drv != &qcow2_driver)
        return false;
    qc_get_info(n->node, &info);
    return info.backing_name && strcmp(info.backing_name, name) == 0;
}

struct graph_node *chain_find_file(const struct graph_node *n, const char *name)
{
    for (struct graph_node *below; (below = graph_below(n)); n = below) {
        if (says(n, name) || is_file(below, name))
            return below;
    }
    return NULL;
}

bool chain_name(struct chain *ch, const char *file, struct err **errp)
{
    const struct graph_node *u = ch->base ? graph_unfiltered(ch->base) : NULL;

    if (!u)
        return true;
    if (!file)
        return blockdev_backing_name(ch->base, &ch->name, &ch->format, errp);
    ch->name = mem_strdup(file);
    ch->format = u->node->drv == &qcow2_driver ? "qcow2" : "raw";
    return ch->name || err_set(errp, ENOMEM, "out of memory");
}

bool chain_use(struct chain *ch, struct graph_node *n, const char *type, const struct job *j,
               unsigned perm, unsigned shared, struct err **errp)
{
    struct graph_edge **more = mem_realloc(ch->use, (ch->n_use + 1) * sizeof(struct graph_edge *));
    AUTO_FREE char *user = mem_printf("job '%s'", j->id);

    if (more)
        ch->use = more;
    if (!more || !user)
        return err_set(errp, ENOMEM, "out of memory for a job");
    ch->use[ch->n_use] = graph_use(&ch->ctl->graph, n, user, perm, shared, errp);
    if (!ch->use[ch->n_use])
        return false;
    ch->use[ch->n_use++]->stays_as = type;
    return true;
}

void chain_relax(struct chain *ch, bool on)
{
    ch->relaxed = on;
    for (struct graph_node *n = ch->top; n && n != ch->base; n = graph_below(n)) {
        for (struct graph_edge *e = n->children; e; e = e->next_child)
            e->relaxed = on && e->child == graph_below(n);
    }
}

void chain_release(struct chain *ch)
{
    if (ch->relaxed)
        chain_relax(ch, false);
    /* From below: what is dropped with its last user has dropped nothing that is to come. */
    while (ch->n_use > 0)
        graph_unuse(&ch->ctl->graph, ch->use[--ch->n_use]);
    mem_free(ch->use);
    mem_free(ch->name);
    *ch = (struct chain){.ctl = ch->ctl};
}

void chain_lock(struct chain *ch)
{
    co_lock(&ch->ctl->busy);
}

void chain_unlock(struct chain *ch)
{
    co_unlock(&ch->ctl->busy);
}

bool chain_set_backing(struct graph *g, struct graph_node *n, struct graph_node *to,
                       struct err **errp)
{
    struct graph_node *below = graph_backing(n);
    bool ok = true;

    graph_mark(n, true);
    graph_drain_begin(g);
    if (to)
        ok = graph_link(g, n, to, "backing", ROLE_BACKING, errp);
    if (ok && !qc_use_backing(n->node, to ? to->node : NULL, errp)) {
        if (to)
            graph_unlink(g, n, to);
        ok = false;
    }
    graph_drain_end(g);
    if (ok && below)
        graph_unlink(g, n, below);
    return ok;
}

bool chain_set_header(struct chain *ch, struct graph_node *n, const char *name, const char *format,
                      struct err **errp)
{
    bool read_only = n->read_only, ok;

    if (n->node->drv != &qcow2_driver)
        return err_set(errp, ENOTSUP, "Node '%s' (%s) names no backing file", n->name, n->driver);
    if (read_only && !graph_set_read_only(&ch->ctl->graph, n, false, errp))
        return false;
    ok = qc_set_backing(n->node, name, format, errp);
    if (read_only)
        ok = graph_set_read_only(&ch->ctl->graph, n, true, ok ? errp : NULL) && ok;
    return ok;
}

struct old_header {
    struct old_header *next;
    struct graph_node *n;
    char *name, *format;
};

static bool remember(struct old_header **all, struct graph_node *n, struct err **errp)
{
    struct old_header *h = mem_new(struct old_header);
    struct qc_info info = {0};

    if (n->node->drv == &qcow2_driver)
        qc_get_info(n->node, &info);
    if (!h)
        return err_set(errp, ENOMEM, "out of memory");
    h->next = *all;
    *all = h;
    h->n = n;
    h->name = info.backing_name ? mem_strdup(info.backing_name) : NULL;
    h->format = info.backing_name ? mem_strdup(info.backing_format) : NULL;
    return !info.backing_name || (h->name && h->format) || err_set(errp, ENOMEM, "out of memory");
}

void chain_headers_end(struct chain *ch, struct old_header *all, bool put_back)
{
    for (struct old_header *h = all, *next; h; h = next) {
        next = h->next;
        if (put_back)
            chain_set_header(ch, h->n, h->name, h->format, NULL);
        mem_free(h->name);
        mem_free(h->format);
        mem_free(h);
    }
}

bool chain_set_headers(struct chain *ch, struct old_header **old, struct err **errp)
{
    for (const struct graph_edge *e = ch->top->users; e; e = e->next_user) {
        if (e->role == ROLE_BACKING &&
            (!remember(old, e->parent, errp) ||
             !chain_set_header(ch, e->parent, ch->name, ch->format, errp)))
            return false;
    }
    return true;
}
