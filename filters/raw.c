/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The raw format: the child as it is. A node of its own, so that it can have a name, be read-only
 * above a writable child, and have bitmaps of its own.
 */
#include "filters/filters_priv.h"

const struct driver raw_driver = {
    .name = "raw",
    .is_filter = true,
    .fua_ops = ALL_FUA,
};

struct node *raw_open(struct node *child, bool read_only, struct err **errp)
{
    struct node *n = node_over(&raw_driver, child, errp);

    if (n)
        n->read_only = read_only || child->read_only;
    return n;
}
