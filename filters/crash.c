/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One state that a power cut may have left, as a disk: what survived of the cache and what is
 * written later lie over the medium in memory.
 */
#include <errno.h>

#include "base/bytes.h"
#include "filters/cache_priv.h"
#include "filters/overlay.h"

#define PRIVATE_MAX (256 * MiB)

unsigned cache_crash_count(const struct node *cache)
{
    const struct cache_node *c = cache->state;

    return c->crash ? crash_count(c->crash) : 0;
}

bool cache_crash_describe(const struct node *cache, unsigned i, char *buf, size_t len)
{
    const struct cache_node *c = cache->state;

    return c->crash && crash_describe(c->crash, i, buf, len);
}

struct node *cache_crash_open(struct node *cache, unsigned i, struct err **errp)
{
    struct cache_node *c = cache->state;
    struct node *medium = cache->child[0], *n;

    cache_wait_found(cache);
    if (i >= cache_crash_count(cache)) {
        err_set(errp, ENOENT, "there is no crash state %u: %s", i,
                c->cut ? "they are counted from 0" : "the power was not cut");
        return NULL;
    }
    n = overlay_open(medium, PRIVATE_MAX, errp);
    if (!n)
        return NULL;
    n->size = cache->size;
    n->growable = cache->growable;
    n->limits.cluster = cache->limits.cluster;
    if (!crash_build(c->crash, i, overlay_pages(n))) {
        node_abandon(n);
        err_set(errp, ENOMEM, "no memory for crash state %u", i);
        return NULL;
    }
    node_ref(medium); /* overlay_open took one over */
    return n;
}
