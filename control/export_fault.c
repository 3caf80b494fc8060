/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Faults of an export: a filter on top of its node, and what a power cut has left.
 */
#include <errno.h>

#include "control/blockdev.h"
#include "control/export_priv.h"
#include "faults/cache.h"
#include "filters/cache.h"
#include "filters/filters.h"

/* A cache of the guest's disk is one for all who use the disk: an export cannot have its own. */
static bool check_cache(const struct node *lower, struct rules *rules, struct err **errp)
{
    const struct cache_conf *conf = rules_cache(rules);

    return !conf->on || conf->layer != FAULT_GUEST ||
           err_set(errp, EINVAL,
                   "Node '%s' has a [cache] with layer=guest: put a node with driver 'fault' and "
                   "layer 'guest' above the format, and export that",
                   lower->name);
}

struct node *export_top(struct control_export *e, struct graph_node *n, struct rules **rules,
                        struct err **errp)
{
    struct node *below = fault_find(n->node);
    bool joins = below != NULL;

    if (joins && fault_lower(below) != below) { /* it watches the guest's requests already */
        *rules = fault_rules(below);
        return node_ref(n->node);
    }
    *rules = joins ? fault_rules(below) : rules_new(fault_names());
    if (!*rules) {
        err_set(errp, ENOMEM, "out of memory for an export");
        return NULL;
    }
    if (joins && !check_cache(below, *rules, errp))
        return NULL;
    e->fault = fault_stack_open(node_ref(n->node), *rules, FAULT_GUEST, errp);
    if (!e->fault)
        node_unref(n->node);
    if (!joins)
        rules_free(*rules); /* the filter has its own reference */
    return e->fault;
}

/* n again, over what is left of the cache below it. Filters change nothing that is there. */
static struct node *show(struct control *c, struct node *n, struct node *cache, unsigned i,
                         struct err **errp)
{
    struct graph_node *entry;
    struct node *below, *again;

    if (n == cache)
        return cache_crash_open(cache, i, errp);
    if (n->n_child == 0) {
        err_set(errp, ENOENT, "the disk whose power was cut is not below this export any more");
        return NULL;
    }
    below = show(c, n->child[0], cache, i, errp);
    if (!below || n->drv->is_filter)
        return below;
    entry = graph_find_node(&c->graph, n);
    again = entry ? blockdev_open_over(c, entry, below, errp) : NULL;
    if (!entry)
        err_set(errp, ENOTSUP, "'%s' (%s) cannot be opened a second time", n->name, n->drv->name);
    node_unref(below);
    return again;
}

struct node *export_crash_open(void *arg, unsigned i, struct err **errp)
{
    struct control_export *e = arg;
    struct node *top = e->use ? e->use->child->node : NULL;
    struct node *filter = top ? fault_find(top) : NULL,
                *cache = filter ? fault_cache(filter) : NULL;

    if (!cache) {
        err_set(errp, ENOENT, "there is no disk any more whose power could be cut");
        return NULL;
    }
    return show(e->ctl, top, cache, i, errp);
}
