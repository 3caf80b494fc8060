/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The order here is the promise: content is durable before a name points at it, all names are
 * durable before the manifest gets its own, and that one rename is the commit.
 */
#include "backup-client/publish.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backup-client/files.h"
#include "base/cleanup.h"
#include "base/mem.h"

static bool give_name(struct disk_repo *d, const struct uuid *u, const char *ext, struct err **errp)
{
    char from[REPO_NAME_MAX], to[REPO_NAME_MAX];
    repo_file(from, u, ext, true);
    repo_file(to, u, ext, false);
    return file_rename(d->dir_fd, from, d->dir_fd, to, false, errp) ||
           err_prefix(errp, "%s: ", d->path);
}

static bool write_manifest(struct disk_repo *d, const struct manifest *m, struct err **errp)
{
    char file[REPO_NAME_MAX];
    AUTO_FREE char *text = manifest_format(m);
    struct manifest again;
    if (!text)
        return err_set(errp, ENOMEM, "out of memory");
    /* A manifest that nobody can read would make the repository a damaged one. */
    if (strlen(text) > MANIFEST_MAX_BYTES)
        return err_set(errp, EMSGSIZE, "the manifest is longer than %d bytes", MANIFEST_MAX_BYTES);
    if (!manifest_parse(text, strlen(text), "the manifest to be written", &again, errp))
        return false;
    manifest_free(&again);
    return file_write_durable(d->dir_fd, repo_file(file, &m->uuid, MANIFEST_EXT, true), text,
                              strlen(text), errp) ||
           err_prefix(errp, "%s: ", d->path);
}

bool publish_step(struct disk_repo *d, const struct manifest *m, enum publish_step step,
                  struct err **errp)
{
    switch (step) {
    case PUBLISH_LAYER:
        return give_name(d, &m->uuid, LAYER_EXT, errp);
    case PUBLISH_HASHES:
        return give_name(d, &m->uuid, HASH_EXT, errp);
    case PUBLISH_MANIFEST:
        return write_manifest(d, m, errp);
    case PUBLISH_COMMIT:
        return give_name(d, &m->uuid, MANIFEST_EXT, errp);
    case PUBLISH_NAMES:
    case PUBLISH_DURABLE:
        return dir_sync(d->dir_fd, d->path, errp);
    default:
        return err_set(errp, EINVAL, "no such step");
    }
}

bool publish(struct disk_repo *d, const struct manifest *m, struct err **errp)
{
    for (enum publish_step s = 0; s < PUBLISH_STEPS; s++) {
        if (!publish_step(d, m, s, errp)) {
            publish_abandon(d, &m->uuid);
            return false;
        }
    }
    return true;
}

void publish_abandon(struct disk_repo *d, const struct uuid *u)
{
    static const char *const exts[] = {HASH_EXT, LAYER_EXT};
    char file[REPO_NAME_MAX], tmp[REPO_NAME_MAX];
    /* First of all it is a manifest no more, and last that goes which tells whose the others are.
     */
    repo_file(file, u, MANIFEST_EXT, false);
    repo_file(tmp, u, MANIFEST_EXT, true);
    if (renameat(d->dir_fd, file, d->dir_fd, tmp) < 0)
        unlinkat(d->dir_fd, file, 0);
    for (size_t i = 0; i < sizeof(exts) / sizeof(exts[0]); i++) {
        unlinkat(d->dir_fd, repo_file(file, u, exts[i], false), 0);
        unlinkat(d->dir_fd, repo_file(file, u, exts[i], true), 0);
    }
    unlinkat(d->dir_fd, tmp, 0);
}
