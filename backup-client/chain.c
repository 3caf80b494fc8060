/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Chains: which backup stands on which, and how a user names one.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "backup-client/files.h"
#include "backup-client/hashes.h"
#include "backup-client/repo.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"
#include "base/parse.h"

struct backup *disk_latest(const struct disk_repo *d)
{
    /* Unusable entries sort first. */
    return d->n > 0 && !d->v[d->n - 1].problem ? &d->v[d->n - 1] : NULL;
}

struct backup *disk_damaged(const struct disk_repo *d)
{
    return d->n > 0 && d->v[0].problem ? &d->v[0] : NULL;
}

uint64_t disk_next_sequence(const struct disk_repo *d)
{
    const struct backup *last = disk_latest(d);
    uint64_t next = last ? last->m.sequence + 1 : 1;
    /* Leave room for the damaged ones, so that one that is repaired does not collide. */
    for (size_t i = 0; i < d->n && d->v[i].problem; i++)
        next++;
    return next;
}

static struct backup *by_uuid(const struct disk_repo *d, const struct uuid *u)
{
    for (size_t i = 0; i < d->n; i++)
        if (uuid_equal(&d->v[i].uuid, u))
            return &d->v[i];
    return NULL;
}

static struct backup *usable(const struct disk_repo *d, struct backup *b, struct err **errp)
{
    if (!b->problem)
        return b;
    err_set(errp, EBADMSG, "%s: %s", d->path, err_msg(b->problem));
    return NULL;
}

struct backup *disk_find(const struct disk_repo *d, const char *which, struct err **errp)
{
    struct uuid u;
    uint64_t n;
    AUTO_ERR struct err *ignored = NULL;
    struct backup *b = NULL;

    if (strcmp(which, "latest") == 0) {
        b = disk_damaged(d) ? disk_damaged(d) : disk_latest(d);
    } else if (uuid_parse(which, &u)) {
        b = by_uuid(d, &u);
    } else if (parse_u64(which, "backup", 1, INT64_MAX, &n, &ignored)) {
        for (size_t i = 0; i < d->n && !b; i++)
            if (!d->v[i].problem && d->v[i].m.sequence == n)
                b = &d->v[i];
    } else {
        err_set(errp, EINVAL, "'@%s': name a backup as @latest, @NUMBER or @UUID", which);
        return NULL;
    }
    if (!b) {
        err_set(errp, ENOENT, "%s: there is no backup '@%s'", d->path, which);
        return NULL;
    }
    return usable(d, b, errp);
}

static bool check_layer(const struct disk_repo *d, const struct backup *b, struct err **errp)
{
    char file[REPO_NAME_MAX];
    uint64_t size;
    int fd = file_open_regular(d->dir_fd, repo_file(file, &b->uuid, LAYER_EXT, false), &size, errp);
    if (fd < 0)
        return err_prefix(errp, "%s: ", d->path);
    close(fd);
    if (size != b->m.layer_size)
        return err_set(errp, EBADMSG, "%s/%s: %" PRIu64 " bytes long; its manifest says %" PRIu64,
                       d->path, file, size, b->m.layer_size);
    return true;
}

/* The parent of b, if it is what b's manifest says. */
static struct backup *check_parent(const struct disk_repo *d, struct backup *b, struct err **errp)
{
    char child[REPO_NAME_MAX], parent[REPO_NAME_MAX];
    repo_file(child, &b->uuid, MANIFEST_EXT, false);
    repo_file(parent, &b->m.parent, MANIFEST_EXT, false);

    struct backup *p = by_uuid(d, &b->m.parent);
    if (!p) {
        err_set(errp, ENOENT, "%s: %s is missing, the parent of %s", d->path, parent, child);
        return NULL;
    }
    if (!digest_equal(&p->manifest_digest, &b->m.parent_manifest) && !p->problem) {
        err_set(errp, EBADMSG, "%s: %s was changed since %s was made on it", d->path, parent,
                child);
        return NULL;
    }
    if (!usable(d, p, errp))
        return NULL;
    if (p->m.sequence >= b->m.sequence) {
        err_set(errp, EBADMSG, "%s: field \"sequence\" of %s is not above its parent's", d->path,
                child);
        return NULL;
    }
    if (p->m.size != b->m.size) {
        err_set(errp, EBADMSG, "%s: field \"size\" of %s differs from its parent's", d->path,
                child);
        return NULL;
    }
    return p;
}

bool chain_resolve(const struct disk_repo *d, struct backup *b, struct chain *out,
                   struct err **errp)
{
    *out = (struct chain){0};
    if (!usable(d, b, errp))
        return false;
    out->v = mem_array(REPO_CHAIN_MAX, sizeof(out->v[0]));
    if (!out->v)
        return err_set(errp, ENOMEM, "out of memory");

    /* Sequence numbers fall strictly on the way down, so that a loop cannot be. */
    while (b) {
        if (out->n == REPO_CHAIN_MAX) {
            chain_free(out);
            return err_set(errp, EFBIG, "%s: a chain of more than %d layers", d->path,
                           REPO_CHAIN_MAX);
        }
        out->v[out->n++] = b;
        if (!check_layer(d, b, errp)) {
            chain_free(out);
            return false;
        }
        if (!b->m.has_parent)
            break;
        b = check_parent(d, b, errp);
    }
    if (!b) {
        chain_free(out);
        return false;
    }
    for (size_t i = 0; i < out->n / 2; i++) {
        struct backup *swap = out->v[i];
        out->v[i] = out->v[out->n - 1 - i];
        out->v[out->n - 1 - i] = swap;
    }
    return true;
}

void chain_free(struct chain *c)
{
    mem_free(c->v);
    *c = (struct chain){0};
}

/* Up to the last run, with an ear for who wants this to end. */
static bool walk_hashes(const struct disk_repo *d, struct hash_reader *r, uint64_t blocks,
                        struct err **errp)
{
    enum hash_kind kind;
    const struct digest *digests;
    for (uint64_t block = 0, run = 0; block < blocks; block += run) {
        if (disk_stopped(d))
            return err_set(errp, ECANCELED, "interrupted");
        if (!hash_reader_at(r, block, &kind, &run, &digests, errp))
            return false;
    }
    return true;
}

static bool check_hash_file(const struct disk_repo *d, const struct backup *b, struct err **errp)
{
    char file[REPO_NAME_MAX];
    struct digest root;
    repo_file(file, &b->uuid, HASH_EXT, false);
    struct hash_reader *r = hash_reader_open(d->dir_fd, file, &b->uuid, b->m.size, errp);
    bool ok = r && walk_hashes(d, r, div_round_up(b->m.size, BACKUP_BLOCK), errp) &&
              hash_reader_finish(r, &root, errp);
    hash_reader_free(r);
    if (!ok)
        return err_prefix(errp, "%s: ", d->path);
    return digest_equal(&root, &b->m.layer_root) ||
           err_set(errp, EBADMSG, "%s/%s: its SHA-256 is not the \"layer_root\" of the manifest",
                   d->path, file);
}

bool chain_check_hashes(const struct disk_repo *d, const struct chain *c, struct err **errp)
{
    for (size_t i = 0; i < c->n; i++)
        if (!check_hash_file(d, c->v[i], errp))
            return false;
    return true;
}

bool repo_split(const char *text, char **repo, char **disk, char **which, struct err **errp)
{
    *repo = *disk = *which = NULL;
    size_t len = strlen(text);
    while (len > 1 && text[len - 1] == '/')
        len--;
    AUTO_FREE char *copy = mem_strndup(text, len);
    if (!copy)
        return err_set(errp, ENOMEM, "out of memory");
    char *slash = strrchr(copy, '/');
    char *name = slash ? slash + 1 : copy;
    char *at = strchr(name, '@');
    if (at)
        *at = '\0';
    if (slash)
        *slash = '\0';
    const char *folder = !slash ? "." : slash == copy ? "/" : copy;
    if (!disk_name_check(name, errp))
        return err_prefix(errp, "'%s': ", text);
    *repo = mem_strdup(folder);
    *disk = mem_strdup(name);
    *which = at ? mem_strdup(at + 1) : NULL;
    if (*repo && *disk && (!at || *which))
        return true;
    mem_free(*repo);
    mem_free(*disk);
    mem_free(*which);
    *repo = *disk = *which = NULL;
    return err_set(errp, ENOMEM, "out of memory");
}
