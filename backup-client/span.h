/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A streaming cursor over a map of extents: the run of equal flags at an offset, fetched in pieces
 * of bounded size. The map may be a meta context of an NBD export or the status of a node.
 */
#ifndef BACKUP_CLIENT_SPAN_H
#define BACKUP_CLIENT_SPAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "block/extent.h"

#define SPAN_FETCH_MAX (UINT64_C(1) << 31) /* bytes asked for at once */
#define SPAN_EXTENTS_MAX 4096              /* extents kept of one answer */

/* span_fetch: append to x (empty, at most SPAN_EXTENTS_MAX) the extents from off on, at least one
 * byte and at most len. May yield. */
typedef bool span_fetch(void *arg, uint64_t off, uint64_t len, struct extents *x,
                        struct err **errp);

struct span {
    span_fetch *fetch;
    void *arg;
    uint64_t size;    /* of the map, bytes */
    struct extents x; /* of [start, start + x.total) */
    uint64_t start;
    size_t at;       /* the extent that the last answer came from, */
    uint64_t at_off; /* and where it begins */
};

void span_init(struct span *s, uint64_t size, span_fetch *fetch, void *arg);
void span_free(struct span *s);
/* span_at: the flags at off (below the size; ascending from call to call) and how many bytes from
 * there on have them: a lower bound, the next run may have the same flags. May yield. */
bool span_at(struct span *s, uint64_t off, uint32_t *flags, uint64_t *len, struct err **errp);

/* How much of a stretch has a flag. */
enum span_mix { SPAN_NONE, SPAN_SOME, SPAN_ALL };

/* span_blocks: the same by blocks of BACKUP_BLOCK: from off (block-aligned) on, have none, all or
 * some of the bytes any of `flags`? *len: how far the answer goes: whole blocks of one state, or
 * one block if the flag changes inside it; never past limit, where the last block may be cut. May
 * yield. */
bool span_blocks(struct span *s, uint64_t off, uint64_t limit, uint32_t flags, enum span_mix *mix,
                 uint64_t *len, struct err **errp);

#endif
