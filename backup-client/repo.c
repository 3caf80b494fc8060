/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The folder of one disk: opening, locking, listing, cleaning.
 */
#include "backup-client/repo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup-client/files.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"

#define BACKUPS_MAX 100000

char *repo_file(char *buf, const struct uuid *u, const char *ext, bool tmp)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(u, text);
    snprintf(buf, REPO_NAME_MAX, "G%s.%s%s", text, ext, tmp ? ".tmp" : "");
    return buf;
}

char *repo_path(const struct disk_repo *d, const struct uuid *u, const char *ext, bool tmp)
{
    char file[REPO_NAME_MAX];
    return mem_printf("%s/%s", d->path, repo_file(file, u, ext, tmp));
}

/* Take apart "G<uuid>.EXT[.tmp]". */
static bool split_file(const char *name, struct uuid *u, char *ext, size_t ext_len, bool *tmp)
{
    char id[UUID_TEXT_LEN + 1];
    size_t len = strlen(name);
    if (name[0] != 'G' || len < 1 + UUID_TEXT_LEN + 2 || name[1 + UUID_TEXT_LEN] != '.')
        return false;
    memcpy(id, name + 1, UUID_TEXT_LEN);
    id[UUID_TEXT_LEN] = '\0';
    if (!uuid_parse(id, u) || len - UUID_TEXT_LEN - 2 >= ext_len)
        return false;
    strcpy(ext, name + UUID_TEXT_LEN + 2);
    char *suffix = strstr(ext, ".tmp");
    *tmp = suffix && suffix[4] == '\0';
    if (*tmp)
        *suffix = '\0';
    return strcmp(ext, LAYER_EXT) == 0 || strcmp(ext, HASH_EXT) == 0 ||
           strcmp(ext, MANIFEST_EXT) == 0;
}

static bool make_folder(const char *path, struct err **errp)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ||
           err_set_errno(errp, errno, "%s: cannot create", path);
}

/* Make the name of a folder durable that we may have made just now, or in a run that was killed. */
static bool sync_parent(const char *path, struct err **errp)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    AUTO_FREE char *up = mem_printf("%.*s/..", (int)len, path);
    if (!up)
        return err_set(errp, ENOMEM, "out of memory");
    AUTO_CLOSE int fd = open(up, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Somebody else's folder, in which we can have made nothing. */
    if (fd < 0 && errno == EACCES)
        return true;
    if (fd < 0)
        return err_set_errno(errp, errno, "%s", up);
    return dir_sync(fd, up, errp);
}

bool disk_open(const char *repo, const char *name, bool create, struct disk_repo *d,
               struct err **errp)
{
    *d = (struct disk_repo){.dir_fd = -1, .lock_fd = -1};
    if (!disk_name_check(name, errp))
        return false;
    d->path = mem_printf("%s/%s", repo, name);
    d->name = mem_strdup(name);
    if (!d->path || !d->name)
        return err_set(errp, ENOMEM, "out of memory");
    if (create && (!make_folder(repo, errp) || !sync_parent(repo, errp) ||
                   !make_folder(d->path, errp) || !sync_parent(d->path, errp)))
        return false;
    d->dir_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dir_fd < 0)
        return err_set_errno(errp, errno, "%s", d->path);
    return disk_scan(d, errp);
}

static void free_entries(struct disk_repo *d)
{
    for (size_t i = 0; i < d->n; i++) {
        manifest_free(&d->v[i].m);
        err_free(d->v[i].problem);
    }
    mem_free(d->v);
    d->v = NULL;
    d->n = 0;
}

void disk_close(struct disk_repo *d)
{
    free_entries(d);
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    if (d->dir_fd >= 0)
        close(d->dir_fd);
    mem_free(d->path);
    mem_free(d->name);
    *d = (struct disk_repo){.dir_fd = -1, .lock_fd = -1};
}

bool disk_lock(struct disk_repo *d, struct err **errp)
{
    int fd = openat(d->dir_fd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return err_set_errno(errp, errno, "%s/.lock", d->path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int why = errno;
        close(fd);
        if (why == EWOULDBLOCK)
            return err_set(errp, EBUSY, "%s: another backup of this disk is running", d->path);
        return err_set_errno(errp, why, "%s/.lock", d->path);
    }
    d->lock_fd = fd;
    return true;
}

static bool add_entry(struct disk_repo *d, const struct uuid *u, struct err **errp)
{
    if (d->n >= BACKUPS_MAX)
        return err_set(errp, EFBIG, "%s: more than %d backups", d->path, BACKUPS_MAX);
    struct backup *grown = mem_realloc(d->v, (d->n + 1) * sizeof(*grown));
    if (!grown)
        return err_set(errp, ENOMEM, "out of memory");
    d->v = grown;
    struct backup *b = &d->v[d->n];
    memset(b, 0, sizeof(*b));
    b->uuid = *u;
    d->n++;
    return true;
}

/* Read the manifest of b; what is wrong with it becomes b->problem. */
static void load_entry(struct disk_repo *d, struct backup *b)
{
    char file[REPO_NAME_MAX];
    size_t len;
    repo_file(file, &b->uuid, MANIFEST_EXT, false);
    AUTO_FREE char *text = file_read_small(d->dir_fd, file, MANIFEST_MAX_BYTES, &len, &b->problem);
    if (!text)
        return;
    if (!digest_bytes(text, len, &b->manifest_digest)) {
        err_set(&b->problem, ENOMEM, "SHA-256 failed");
        return;
    }
    if (!manifest_parse(text, len, file, &b->m, &b->problem))
        return;
    if (!uuid_equal(&b->m.uuid, &b->uuid))
        err_set(&b->problem, EBADMSG, "%s: field \"uuid\" differs from the file's name", file);
    else if (strcmp(b->m.disk, d->name) != 0)
        log_info("%s/%s: made as a backup of disk '%s'", d->path, file, b->m.disk);
    if (b->problem)
        manifest_free(&b->m);
}

static int by_sequence(const void *pa, const void *pb)
{
    const struct backup *a = pa, *b = pb;
    if (!a->problem != !b->problem)
        return a->problem ? -1 : 1;
    if (a->m.sequence != b->m.sequence)
        return a->m.sequence < b->m.sequence ? -1 : 1;
    return memcmp(a->uuid.v, b->uuid.v, UUID_LEN);
}

/* Call fn for each file of ours in the folder. */
static bool each_file(struct disk_repo *d,
                      bool (*fn)(struct disk_repo *, const char *, const struct uuid *,
                                 const char *, bool, void *, struct err **),
                      void *arg, struct err **errp)
{
    /* A descriptor of its own, because closedir closes it. */
    int fd = openat(d->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        err_set_errno(errp, errno, "%s", d->path);
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = true;
    struct dirent *e;
    errno = 0;
    while (ok && (e = readdir(dir))) {
        struct uuid u;
        char ext[16];
        bool tmp;
        if (split_file(e->d_name, &u, ext, sizeof(ext), &tmp))
            ok = fn(d, e->d_name, &u, ext, tmp, arg, errp);
        errno = 0;
    }
    if (ok && errno)
        ok = err_set_errno(errp, errno, "%s: reading the directory", d->path);
    closedir(dir);
    return ok;
}

static bool scan_file(struct disk_repo *d, const char *name, const struct uuid *u, const char *ext,
                      bool tmp, void *arg, struct err **errp)
{
    return tmp || strcmp(ext, MANIFEST_EXT) != 0 || add_entry(d, u, errp);
}

bool disk_scan(struct disk_repo *d, struct err **errp)
{
    free_entries(d);
    if (!digest_init(errp) || !each_file(d, scan_file, NULL, errp))
        return false;
    for (size_t i = 0; i < d->n; i++)
        load_entry(d, &d->v[i]);
    if (d->n > 0)
        qsort(d->v, d->n, sizeof(d->v[0]), by_sequence);
    for (size_t i = 1; i < d->n; i++)
        if (!d->v[i - 1].problem && d->v[i - 1].m.sequence == d->v[i].m.sequence)
            return err_set(errp, EBADMSG, "%s: two backups have sequence number %" PRIu64, d->path,
                           d->v[i].m.sequence);
    return true;
}

static bool is_wanted(const struct disk_repo *d, const struct uuid *u)
{
    /* A damaged manifest may name a parent that nobody else does: then keep everything. */
    if (disk_damaged(d))
        return true;
    for (size_t i = 0; i < d->n; i++) {
        const struct backup *b = &d->v[i];
        if (uuid_equal(&b->uuid, u))
            return true;
        if (!b->problem && b->m.has_parent && uuid_equal(&b->m.parent, u))
            return true;
    }
    return false;
}

static void clean_remove(struct disk_repo *d, const char *name, unsigned *gone)
{
    if (unlinkat(d->dir_fd, name, 0) == 0) {
        log_info("%s/%s: removed, left by a run that was interrupted", d->path, name);
        (*gone)++;
    }
}

static bool clean_file(struct disk_repo *d, const char *name, const struct uuid *u, const char *ext,
                       bool tmp, void *arg, struct err **errp)
{
    char manifest[REPO_NAME_MAX];
    repo_file(manifest, u, MANIFEST_EXT, true);
    if (tmp ? strcmp(name, manifest) == 0 : is_wanted(d, u))
        return true;
    if (tmp || faccessat(d->dir_fd, manifest, F_OK, 0) == 0)
        clean_remove(d, name, arg);
    else if (strcmp(ext, LAYER_EXT) == 0)
        log_warn("%s/%s: has no manifest; if that was lost, the layer may still hold a backup, and "
                 "stays until you remove it",
                 d->path, name);
    return true;
}

static bool clean_manifest(struct disk_repo *d, const char *name, const struct uuid *u,
                           const char *ext, bool tmp, void *arg, struct err **errp)
{
    if (tmp && strcmp(ext, MANIFEST_EXT) == 0)
        clean_remove(d, name, arg);
    return true;
}

unsigned disk_clean(struct disk_repo *d)
{
    unsigned gone = 0;
    AUTO_ERR struct err *e = NULL;
    /* The manifests last: by them the other files are known. */
    if (!each_file(d, clean_file, &gone, &e) || !each_file(d, clean_manifest, &gone, &e))
        log_warn("%s", err_msg(e));
    return gone;
}

struct lost {
    void (*fn)(void *arg, const char *name);
    void *arg;
};

static bool lost_file(struct disk_repo *d, const char *name, const struct uuid *u, const char *ext,
                      bool tmp, void *arg, struct err **errp)
{
    const struct lost *l = arg;
    char waiting[REPO_NAME_MAX], published[REPO_NAME_MAX];
    if (tmp || strcmp(ext, LAYER_EXT) != 0)
        return true;
    /* In the order in which a run at work makes and takes these names. */
    repo_file(waiting, u, MANIFEST_EXT, true);
    repo_file(published, u, MANIFEST_EXT, false);
    if (faccessat(d->dir_fd, waiting, F_OK, 0) < 0 && errno == ENOENT &&
        faccessat(d->dir_fd, published, F_OK, 0) < 0 && errno == ENOENT &&
        faccessat(d->dir_fd, name, F_OK, 0) == 0)
        l->fn(l->arg, name);
    return true;
}

bool disk_each_lost(struct disk_repo *d, void (*fn)(void *arg, const char *name), void *arg,
                    struct err **errp)
{
    struct lost l = {.fn = fn, .arg = arg};
    return each_file(d, lost_file, &l, errp);
}
