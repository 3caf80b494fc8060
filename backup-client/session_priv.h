/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a backup run carries from step to step.
 */
#ifndef BACKUP_CLIENT_SESSION_PRIV_H
#define BACKUP_CLIENT_SESSION_PRIV_H

#include "backup-client/backup.h"
#include "backup-client/pull.h"
#include "backup-client/manifest.h"
#include "backup-client/source.h"
#include "backup-client/uri.h"

struct session {
    const struct backup_opts *o;
    struct nbd_uri uri;
    struct disk_repo disk;
    struct uuid uuid;
    struct chain base;                 /* n 0: this is a full backup */
    char base_text[UUID_TEXT_LEN + 1]; /* of the backup to build on; "" if none */
    char *reason;                      /* why not an increment */
    struct source source;
    unsigned connections; /* that were used */
    bool checkpoint;      /* the source is a frozen view */
    int64_t frozen_at;
    bool begun; /* files of this run may exist */
    struct node *layer;
    int hash_fd;
    struct hash_writer *hashes;
    struct pull_result copied;
    struct manifest manifest;
};

/* session_open_source: the frozen view, or what is allowed instead of it. BACKUP_OK, _FAILED or
 * _RETRY. Yields. */
enum backup_status session_open_source(struct session *s, struct err **errp);

/* session_wake: an interrupt ends what goes on with this source; NULL: with none. */
void session_wake(struct session *s, struct source *source);

#endif
