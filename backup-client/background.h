/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The long computations of a backup, on another thread: for a disk of many terabytes they take
 * long enough that signals must be heard meanwhile. d->stop ends them with ECANCELED.
 */
#ifndef BACKUP_CLIENT_BACKGROUND_H
#define BACKUP_CLIENT_BACKGROUND_H

#include "backup-client/merge.h"

/* background_check_hashes: chain_check_hashes. Yields. */
bool background_check_hashes(const struct disk_repo *d, const struct chain *c, struct err **errp);
/* background_root: the root over the whole disk (arguments as for merge_new). Yields. */
bool background_root(const struct disk_repo *d, const struct chain *c, const struct uuid *tip,
                     uint64_t disk_size, struct digest *root, struct err **errp);

#endif
