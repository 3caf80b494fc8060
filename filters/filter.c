/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What every constructor of a filter does first, and undoes when it fails.
 */
#include "filters/filters_priv.h"

struct node *node_over(const struct driver *drv, struct node *child, struct err **errp)
{
    struct node *n = node_new(drv, child->name, errp);

    if (n && !node_attach(n, child, errp)) {
        node_unref(n);
        return NULL;
    }
    return n;
}

void node_abandon(struct node *n)
{
    n->n_child = 0;
    node_unref(n);
}
