/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Publishing a backup: the steps after which it exists, whatever happens between them.
 */
#ifndef BACKUP_CLIENT_PUBLISH_H
#define BACKUP_CLIENT_PUBLISH_H

#include <stdbool.h>

#include "backup-client/manifest.h"
#include "backup-client/repo.h"
#include "base/err.h"

/* The steps, in order. A crash before PUBLISH_COMMIT leaves the repository as it was (but for files
 * that the next run removes); after it, the backup is there. */
enum publish_step {
    PUBLISH_MANIFEST, /* the manifest is written under a temporary name and synced; while that is
                         there, the other files are not published, whatever their names */
    PUBLISH_LAYER,    /* the layer's file takes its name */
    PUBLISH_HASHES,   /* the hash file takes its name */
    PUBLISH_NAMES,    /* the directory is synced: all names above are durable */
    PUBLISH_COMMIT,   /* the manifest takes its name */
    PUBLISH_DURABLE,  /* the directory is synced again */
    PUBLISH_STEPS
};

/* publish_step: do one step for the backup of m. The layer and hash files wait, complete and
 * synced, under their temporary names. */
bool publish_step(struct disk_repo *d, const struct manifest *m, enum publish_step step,
                  struct err **errp);
/* publish: all steps. On failure nothing stays published and no file is left. */
bool publish(struct disk_repo *d, const struct manifest *m, struct err **errp);
/* publish_abandon: remove every file of an unpublished backup, whatever there is of it. */
void publish_abandon(struct disk_repo *d, const struct uuid *u);

#endif
