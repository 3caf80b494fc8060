/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading a chain against its digests, many blocks at a time: what verify and restore share.
 */
#ifndef BACKUP_CLIENT_SWEEP_H
#define BACKUP_CLIENT_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "backup-client/backup.h"
#include "backup-client/merge.h"
#include "backup-client/progress.h"
#include "base/err.h"
#include "block/node.h"

struct sweep_opts {
    struct merge *merge; /* what is expected; not read before */
    struct node *from;   /* what is read */
    uint64_t size;       /* of the disk */
    struct progress *progress;
    struct backup_control *ctl;
    void *arg;

    /* look: decide about *run blocks from `block` on, which come from `layer` (-1: none) and
     * should be zeros or not; may shorten *run. *read: read and compare them, else leave them out.
     * May yield; called in ascending order. */
    bool (*look)(void *arg, uint64_t block, uint64_t *run, int layer, bool zeros, bool *read,
                 struct err **errp);
    /* differs: the block does not have its digest. False ends the sweep. */
    bool (*differs)(void *arg, uint64_t block, struct err **errp);
    /* unreadable: reading len bytes at off failed with -error. False ends the sweep. */
    bool (*unreadable)(void *arg, uint64_t off, uint64_t len, int error, struct err **errp);
    /* good: len bytes from off on, none of them zero blocks, are as they should be. May yield;
     * several run at once. NULL: nothing to do. */
    bool (*good)(void *arg, uint64_t off, const void *buf, uint64_t len, struct err **errp);
};

/* sweep_run: false at the first error, or ECANCELED. *read_bytes counts up. Yields. */
bool sweep_run(const struct sweep_opts *o, uint64_t *read_bytes, struct err **errp);

#endif
