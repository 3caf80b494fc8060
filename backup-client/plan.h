/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The plan of a backup: which blocks to copy, which to store as zeros, which to leave out.
 *
 * It is the meeting of two maps, walked side by side: what changed (increments only) and what reads
 * as zeros. All that comes out is rounded to whole blocks: a block is copied if any byte of it
 * changed.
 */
#ifndef BACKUP_CLIENT_PLAN_H
#define BACKUP_CLIENT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "backup-client/span.h"
#include "base/err.h"

enum plan_kind {
    PLAN_SKIP, /* full: zeros; increment: not changed */
    PLAN_ZERO, /* increment: changed, and reads as zeros now */
    PLAN_DATA,
};

struct plan {
    uint64_t size;      /* of the disk, bytes */
    uint64_t pos;       /* where the next piece begins; a multiple of the block */
    struct span *dirty; /* flags: 1 = changed. NULL: full backup */
    struct span *alloc; /* flags: enum extent_flags. NULL: all is data */
};

/* plan_next: the next piece: *len > 0 bytes from *off on (both multiples of the block but for the
 * disk's end). *len is 0 at the end. Data comes in pieces of at most max_data bytes (a multiple of
 * the block). The pieces cover the disk in order, without gaps. May yield; not reentrant. */
bool plan_next(struct plan *p, uint64_t max_data, enum plan_kind *kind, uint64_t *off,
               uint64_t *len, struct err **errp);

#endif
