/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The layer of a backup while it is written: a qcow2 file under its temporary name.
 */
#ifndef BACKUP_CLIENT_LAYER_H
#define BACKUP_CLIENT_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "backup-client/repo.h"
#include "base/err.h"
#include "block/node.h"

/* layer_create: an empty layer for a disk of size bytes, over the parent's (NULL: a full backup).
 * Release with node_unref. Yields. */
struct node *layer_create(const struct disk_repo *d, const struct uuid *u, uint64_t size,
                          const struct uuid *parent, struct err **errp);
/* layer_finish: flush, close (drops the reference, also on failure) and sync the file;
 * *file_size: its length. Yields. */
bool layer_finish(const struct disk_repo *d, const struct uuid *u, struct node *layer,
                  uint64_t *file_size, struct err **errp);
/* layer_open: a published layer for reading; whole: with the chain below it, else alone (blocks
 * it does not hold read as zeros). Yields. */
struct node *layer_open(const struct disk_repo *d, const struct uuid *u, bool whole,
                        struct err **errp);

/* layer_check: can the layer of b be opened, is its disk as long as b's manifest says, and does it
 * stand on the layer that the manifest names? Looks at this layer only. Yields. */
bool layer_check(const struct disk_repo *d, const struct backup *b, struct err **errp);

/* qcow2_size: sizes of qcow2 images are multiples of 512 bytes. */
static inline uint64_t qcow2_size(uint64_t size)
{
    return (size + 511) & ~UINT64_C(511);
}

#endif
