/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A disk with a volatile write cache, whose power can be cut; and what is left of it then.
 */
#ifndef FILTERS_CACHE_H
#define FILTERS_CACHE_H

#include "block/node.h"
#include "faults/cache.h"

extern const struct driver cache_driver;

/* cache_open: over child, which is the medium. Takes over the reference to child on success. Writes
 * stay in memory until they are flushed or destaged; FUA writes go to the medium at once. */
struct node *cache_open(struct node *child, const struct cache_conf *conf, struct err **errp);
/* cache_cut: freeze the disk: from now on every request fails with -ESHUTDOWN. Also for who is in
 * the middle of a request of the cache. cache_powercut: the same, but it yields until
 * what could be left is known. Once is enough. */
void cache_cut(struct node *cache);
void cache_powercut(struct node *cache);
bool cache_is_cut(const struct node *cache);
/* cache_drop_unflushed: what is not on the medium is gone, as after a failed flush. */
void cache_drop_unflushed(struct node *cache);

/* cache_crash_count: how many states the cut may have left; 0 before it.
 * cache_crash_open: state i as a disk of its own: the medium, under the writes that survived, under
 * private changes (at most 256 MiB of them, then -ENOSPC). It holds a reference on the medium. Does
 * yield but for what is left to be found out. cache_crash_describe: which writes survived. */
unsigned cache_crash_count(const struct node *cache);
struct node *cache_crash_open(struct node *cache, unsigned i, struct err **errp);
bool cache_crash_describe(const struct node *cache, unsigned i, char *buf, size_t len);

#endif
