/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who may do what with a node. The rules are those of QEMU (bdrv_child_perm and the comments of
 * enum BLK_PERM_*): a format writes its file whenever it is writable, and bears no other writer; a
 * filter asks of its child what is asked of itself.
 *
 * Each change of the graph computes all edges anew, parents before children, and compares all users
 * of each node pairwise. Graphs have tens of nodes: simple beats clever here.
 */
#include "block/graph_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

struct wish {
    unsigned perm, shared;
};

static struct wish wish_of_users(const struct graph_node *n)
{
    struct wish w = {0, PERM_ALL};

    for (const struct graph_edge *e = n->users; e; e = e->next_user) {
        w.perm |= e->perm;
        w.shared &= e->shared;
    }
    return w;
}

static struct wish wish_of_role(enum graph_role role, struct wish w, bool writable, bool used)
{
    switch (role) {
    case ROLE_FORMAT:
        w.perm |= PERM_CONSISTENT_READ | (writable ? PERM_WRITE | PERM_RESIZE : 0);
        w.shared &= ~(unsigned)(PERM_WRITE | PERM_RESIZE);
        break;
    case ROLE_DATA:
        w.shared &= ~(unsigned)PERM_RESIZE;
        if (w.perm & (PERM_WRITE | PERM_WRITE_UNCHANGED))
            w.perm |= PERM_WRITE | PERM_RESIZE;
        break;
    case ROLE_BACKING:
        w.perm &= PERM_CONSISTENT_READ;
        w.shared = (w.shared & PERM_WRITE ? PERM_WRITE | PERM_RESIZE : 0) | PERM_CONSISTENT_READ;
        break;
    case ROLE_COPY_ON_READ:
        w.perm |= PERM_WRITE_UNCHANGED;
        break;
    case ROLE_COPIED:
        if (used && (w.perm & PERM_WRITE))
            w.perm |= PERM_CONSISTENT_READ;
        if (used)
            w.shared &= ~(unsigned)(PERM_WRITE | PERM_RESIZE);
        break;
    case ROLE_COPY:
        w = (struct wish){PERM_WRITE, PERM_ALL};
        break;
    case ROLE_LOOK:
        w = (struct wish){0, PERM_ALL};
        break;
    case ROLE_FILTER:
    case ROLE_USER:
        break;
    }
    w.shared |= PERM_WRITE_UNCHANGED;
    return w;
}

/* One round; true if anything changed. Entries are newest first, and nearly always parents are
 * newer than their children: one round does it, and a second one finds nothing to do. */
static bool spread(struct graph *g)
{
    bool changed = false;

    for (struct graph_node *n = g->nodes; n; n = n->next) {
        struct wish users = wish_of_users(n);

        for (struct graph_edge *e = n->children; e; e = e->next_child) {
            struct wish w = wish_of_role(e->role, users, !n->read_only, n->users);

            if (e->relaxed)
                w = (struct wish){0, PERM_ALL};
            changed |= w.perm != e->perm || w.shared != e->shared;
            e->perm = w.perm;
            e->shared = w.shared;
        }
    }
    return changed;
}

static char *perm_names(unsigned perm, char *buf, size_t len)
{
    static const char *const names[] = {"consistent read", "write", "write unchanged", "resize"};
    size_t used = 0;

    buf[0] = '\0';
    for (unsigned i = 0; i < 4; i++) {
        if (perm & (1U << i))
            used += (size_t)snprintf(buf + used, len - used, "%s%s", used ? ", " : "", names[i]);
    }
    return buf;
}

static char *user_text(const struct graph_edge *e)
{
    if (e->parent)
        return mem_printf("node '%s'", e->parent->name);
    return mem_strdup(e->user);
}

/* a, b: users of the same node; does b want what a does not share? */
static bool check_pair(const struct graph_edge *a, const struct graph_edge *b, struct err **errp)
{
    unsigned conflict = b->perm & ~a->shared;
    char perms[64];

    if (!conflict)
        return true;
    AUTO_FREE char *wants = user_text(b);
    AUTO_FREE char *denies = user_text(a);
    const char *node = a->child->name;
    return err_set(errp, EPERM,
                   "Permission conflict on node '%s': permissions '%s' are both required by %s "
                   "(uses node '%s' as '%s' child) and unshared by %s (uses node '%s' as '%s' "
                   "child).",
                   node, perm_names(conflict, perms, sizeof(perms)), wants ? wants : "?", node,
                   b->name, denies ? denies : "?", node, a->name);
}

static bool check_node(const struct graph_node *n, struct err **errp)
{
    for (const struct graph_edge *a = n->users; a; a = a->next_user) {
        if ((a->perm & (PERM_WRITE | PERM_WRITE_UNCHANGED)) && n->read_only)
            return err_set(errp, EPERM, "Block node is read-only");
        for (const struct graph_edge *b = n->users; b; b = b->next_user) {
            if (a != b && !check_pair(a, b, errp))
                return false;
        }
    }
    return true;
}

bool graph_refresh(struct graph *g, struct err **errp)
{
    while (spread(g))
        ;
    for (const struct graph_node *n = g->nodes; n; n = n->next) {
        if (!check_node(n, errp))
            return false;
    }
    return true;
}
