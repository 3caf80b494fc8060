/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the two halves of the copy engine share.
 */
#ifndef BLOCK_COPY_PRIV_H
#define BLOCK_COPY_PRIV_H

#include "block/copy.h"
#include "io/lock.h"

struct copy_piece {
    enum copy_kind kind;
    uint64_t off, len;
};

/* What to do where; moves forward only. */
struct copy_map {
    const struct copy_opts *o;
    uint64_t pos, end;       /* what was not handed out yet */
    uint64_t x_start, x_end; /* what was asked last, and the answer */
    enum copy_kind x_kind;
    struct extents ext; /* of REQ_STATUS, when there is no map hook; cursor: the next of them */
    size_t cursor;
    bool peeked; /* the unit at pos, and units that continue it, have been looked at */
    struct copy_piece peek;
};

void copy_map_init(struct copy_map *m, const struct copy_opts *o);
void copy_map_free(struct copy_map *m);
/* copy_map_next: the next piece: whole units of one kind (the last may end with the range), data of
 * at most max bytes. p->len is 0 at the end. 0 or -errno. Yields; one caller at a time. */
int copy_map_next(struct copy_map *m, uint64_t max, struct copy_piece *p);

#endif
