/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The list of a node's guards. It may change whenever one of them yields; so after one has acted
 * the walk ends, and the caller begins anew.
 */
#include "block/guard.h"

#include <assert.h>

#include "block/submit_priv.h"

void node_guard_add(struct node *n, struct node_guard *g)
{
    assert(n->drained && n->in_flight == 0);
    g->next = n->guards;
    n->guards = g;
}

void node_guard_remove(struct node *n, struct node_guard *g)
{
    struct node_guard **at = &n->guards;

    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    while (g->busy > 0)
        co_queue_wait(&g->idle);
}

bool guards_act(struct node *n, const struct req *r)
{
    if (r->op != REQ_WRITE && r->op != REQ_ZERO && r->op != REQ_DISCARD && r->op != REQ_TRUNCATE)
        return false;
    for (struct node_guard *g = n->guards; g; g = g->next) {
        bool acted;

        g->busy++;
        acted = g->before(g, n, r);
        if (--g->busy == 0)
            co_queue_wake_all(&g->idle);
        if (acted)
            return true;
    }
    return false;
}
