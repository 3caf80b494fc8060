/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The manifest of one backup: what its layer holds and which backup it stands on.
 * The format is described in docs/backup.md.
 */
#ifndef BACKUP_CLIENT_MANIFEST_H
#define BACKUP_CLIENT_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "digest/digest.h"
#include "digest/uuid.h"
#include "base/err.h"

#define MANIFEST_FORMAT "breakwater-backup"
#define MANIFEST_VERSION 1
#define MANIFEST_MAX_BYTES (64 * 1024) /* a longer file is refused unread */
#define DISK_NAME_MAX 200
#define CHECKPOINT_PREFIX "bw-"
#define CHECKPOINT_NAME_LEN (3 + UUID_TEXT_LEN)

struct manifest {
    struct uuid uuid;
    uint64_t sequence; /* 1, 2, ... over all backups of one disk */
    bool has_parent;   /* an increment; else a full backup */
    struct uuid parent;
    struct digest parent_manifest; /* SHA-256 of the parent's manifest file */
    int64_t created;               /* seconds since 1970, UTC */
    char *disk;                    /* the folder's name */
    uint64_t size;                 /* of the disk, bytes */
    char *source_uri;              /* without credentials */
    char *source_export;
    bool has_checkpoint; /* taken from a frozen view: its checkpoint is CHECKPOINT_PREFIX UUID */
    char *bitmap;        /* the named bitmap the increment came from, or NULL */
    bool live;           /* taken from an export that was open for writing: no point in time */
    uint64_t data_bytes; /* guest bytes stored as data in this layer, and as explicit zeros */
    uint64_t zero_bytes;
    uint64_t layer_size;      /* of the layer's file, bytes */
    struct digest layer_root; /* SHA-256 of the hash file */
    struct digest disk_root;  /* SHA-256 over the digests of all blocks of the disk */
};

/* manifest_parse: from the text of a manifest file, judging every field. name: of the file, for
 * messages. On success the strings belong to *out: free with manifest_free. EBADMSG: malformed;
 * ENOTSUP: a later version. */
bool manifest_parse(const char *text, size_t len, const char *name, struct manifest *out,
                    struct err **errp);
/* manifest_format: the text of the file, new, ends with a newline. NULL without memory. */
char *manifest_format(const struct manifest *m);
void manifest_free(struct manifest *m);

/* manifest_time: "2026-01-31T23:59:59Z" in buf (at least 21 bytes). */
void manifest_time(int64_t when, char *buf, size_t buf_len);
/* manifest_checkpoint: the checkpoint's name in buf (at least CHECKPOINT_NAME_LEN + 1 bytes). */
void manifest_checkpoint(const struct uuid *u, char *buf);
static inline const char *manifest_level(const struct manifest *m)
{
    return m->has_parent ? "incremental" : "full";
}

/* text_is_utf8: can a manifest hold this text? */
bool text_is_utf8(const char *text);

/* disk_name_check: may this be the name of a disk's folder? 1 to DISK_NAME_MAX bytes of UTF-8,
 * without '/', '@' (which introduces the backup's name) and control characters, not starting with
 * '.' or '-'. */
bool disk_name_check(const char *name, struct err **errp);

#endif
