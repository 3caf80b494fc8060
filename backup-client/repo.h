/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One disk's folder in a repository: REPO/DISK with its backups, and the chains they form.
 *
 * A backup is three files named after its uuid: G<uuid>.qcow2 (the layer), .hash, .json (the
 * manifest). It is published when its manifest has its final name, and not before. Files named
 * otherwise are none of ours. These functions block and do not yield.
 */
#ifndef BACKUP_CLIENT_REPO_H
#define BACKUP_CLIENT_REPO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "digest/digest.h"
#include "backup-client/manifest.h"
#include "digest/uuid.h"
#include "base/err.h"

#define REPO_CHAIN_MAX 64 /* layers a chain may have: what the qcow2 node opens */
#define REPO_NAME_MAX 64  /* room for a file name of a backup with a NUL */

struct backup {
    struct uuid uuid;
    struct manifest m;             /* valid if problem is NULL */
    struct digest manifest_digest; /* of the manifest's file */
    struct err *problem;           /* why the manifest cannot be used, or NULL */
};

struct disk_repo {
    char *path; /* REPO/DISK */
    char *name; /* DISK */
    int dir_fd;
    int lock_fd;      /* -1: not locked */
    struct backup *v; /* by sequence, unusable ones first */
    size_t n;
    const volatile bool *stop; /* NULL, or set by another thread to end long computations */
};

static inline bool disk_stopped(const struct disk_repo *d)
{
    return d->stop && __atomic_load_n(d->stop, __ATOMIC_RELAXED);
}

/* Name parts of a backup's files. */
#define LAYER_EXT "qcow2"
#define HASH_EXT "hash"
#define MANIFEST_EXT "json"
/* repo_file: "G<uuid>.EXT", with ".tmp" if tmp, into buf of REPO_NAME_MAX bytes; returns buf. */
char *repo_file(char *buf, const struct uuid *u, const char *ext, bool tmp);
/* repo_path: the same below the disk's folder, new; NULL without memory. */
char *repo_path(const struct disk_repo *d, const struct uuid *u, const char *ext, bool tmp);

/* disk_open: REPO/NAME; with create, both folders are made as needed (and made durable). Lists
 * the backups as repo_scan does. Close with disk_close, also after failure. */
bool disk_open(const char *repo, const char *name, bool create, struct disk_repo *d,
               struct err **errp);
void disk_close(struct disk_repo *d);
/* disk_lock: keep other backup runs out until disk_close. EBUSY: one is at work. The lock is the
 * kernel's (flock) and ends with the process, however that ends. */
bool disk_lock(struct disk_repo *d, struct err **errp);
/* disk_scan: read all manifests anew. One that is damaged becomes an entry with a problem. */
bool disk_scan(struct disk_repo *d, struct err **errp);
/* disk_clean: remove what killed runs left: temporary files, and layers and hash files whose
 * manifest still has its temporary name and that are nobody's parent. Without any manifest a layer
 * may be all that is left of a backup: it stays, with a warning. Only with the lock. Returns how
 * many files went. */
unsigned disk_clean(struct disk_repo *d);

/* disk_each_lost: call fn with the name of each layer that has no manifest, not even one that waits
 * to be published: that got lost. Needs no lock. */
bool disk_each_lost(struct disk_repo *d, void (*fn)(void *arg, const char *name), void *arg,
                    struct err **errp);

/* disk_latest: the published backup with the highest sequence number, or NULL. Damaged manifests do
 * not count: see disk_damaged. */
struct backup *disk_latest(const struct disk_repo *d);
/* disk_damaged: a backup whose manifest cannot be used, or NULL. While there is one, which backup
 * is the latest is not certain. */
struct backup *disk_damaged(const struct disk_repo *d);
/* disk_find: by "latest", sequence number, or uuid. NULL and *errp: ENOENT (there is none), EINVAL
 * (not a name), EBADMSG (damaged; for "latest": any manifest is). */
struct backup *disk_find(const struct disk_repo *d, const char *which, struct err **errp);
uint64_t disk_next_sequence(const struct disk_repo *d);

/* A backup with all it stands on: v[0] is the full backup, v[n - 1] the backup itself. */
struct chain {
    struct backup **v; /* belong to the disk_repo */
    size_t n;
};

/* chain_resolve: from b down to its full backup. Checks each manifest, the parent's hash, order,
 * equal sizes, and that each layer is there with its recorded length. */
bool chain_resolve(const struct disk_repo *d, struct backup *b, struct chain *out,
                   struct err **errp);
/* chain_check_hashes: reads each hash file whole: well-formed, and with the root its manifest
 * says. Long for a large disk: see background.h. ECANCELED: d->stop was set. */
bool chain_check_hashes(const struct disk_repo *d, const struct chain *c, struct err **errp);
void chain_free(struct chain *c);

/* repo_split: "REPO/DISK@WHICH" (each argument's memory is new). *which is NULL without '@'. */
bool repo_split(const char *text, char **repo, char **disk, char **which, struct err **errp);

#endif
