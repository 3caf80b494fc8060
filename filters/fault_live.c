/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rules of the fault filters at run time. The engine does the work (faults/live.h); here is what it
 * cannot know: where a node's engine is, and that a new rule may wait for an event that has passed.
 */
#include "filters/fault_priv.h"

struct node *fault_find(struct node *n)
{
    while (n && n->drv != &fault_driver && n->drv != &fault_guest_driver)
        n = n->n_child ? n->child[0] : NULL;
    return n;
}

struct node *fault_lower(struct node *n)
{
    n = fault_find(n);
    return n && n->drv == &fault_guest_driver ? fault_lower(n->child[0]) : n;
}

struct node *fault_lowest(struct node *n)
{
    struct node *lower = fault_lower(n);

    return lower ? lower : fault_find(n);
}

struct rules *fault_rules(struct node *n)
{
    struct fault_node *f = n->state;

    return f->rules;
}

struct node *fault_cache(struct node *n)
{
    struct fault_node *f = n->state;

    return f->cache;
}

bool fault_adopt(struct node *n, struct rules *fresh, const char *before, struct err **errp)
{
    struct rules *r = fault_rules(n);
    bool opening = rules_listens(fresh, EV_NONE);

    if (!rules_adopt(r, fresh, before, errp))
        return false;
    if (opening)
        rules_event(r, EV_NONE, NULL);
    return true;
}

bool fault_replace(struct node *n, struct rules *fresh, struct err **errp)
{
    struct rules *r = fault_rules(n);

    if (!rules_replace(r, fresh, errp))
        return false;
    rules_event(r, EV_NONE, NULL);
    return true;
}
