/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The digest of every block of a disk at one backup, merged from the hash files of its chain.
 */
#ifndef BACKUP_CLIENT_MERGE_H
#define BACKUP_CLIENT_MERGE_H

#include <stdbool.h>
#include <stdint.h>

#include "digest/digest.h"
#include "backup-client/repo.h"
#include "base/err.h"

struct merge;

/* merge_new: over the first n layers of c (d and c are borrowed). tip: a hash file that is not
 * published yet, to be laid over them all under this uuid and temporary name; NULL: none. */
struct merge *merge_new(const struct disk_repo *d, const struct chain *c, size_t n,
                        const struct uuid *tip, uint64_t disk_size, struct err **errp);
void merge_free(struct merge *m);

/* merge_at: the digest of `block` (ascending from call to call, below the end). *run: blocks from
 * here on of the same kind, at least 1, that all come from one layer; either all zeros (*digests
 * NULL) or with digests (*digests, valid until the next call). *layer (may be NULL): index of that
 * layer, or -1 where none holds the blocks (zeros). */
bool merge_at(struct merge *m, uint64_t block, const struct digest **digests, uint64_t *run,
              int *layer, struct err **errp);

/* merge_root: the root over the whole disk; m must not have been read before. Reads to the
 * end: long for a large disk, see background.h. ECANCELED: the disk_repo's stop was set. */
bool merge_root(struct merge *m, struct digest *root, struct err **errp);

#endif
