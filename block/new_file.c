/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making a new file: without a name, durable, then linked; so that a program that is killed leaves
 * nothing behind. What is replaced needs a name for a moment, since a link replaces nothing; so
 * does, for as long as it takes, a new file where the file system has no unnamed ones.
 */
#include "block/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/rng.h"
#include "block/file_priv.h"
#include "io/io.h"

#define PROC_FD "/proc/self/fd" /* by which a file without a name can be linked */

struct publish {
    const char *tmp, *path, *dir;
    unsigned flags;
    int fd; /* of the unnamed file; -1: its name is tmp */
};

static int link_fd(int fd, const char *path)
{
    char self[40];
    snprintf(self, sizeof(self), PROC_FD "/%d", fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

/* On a worker thread: renaming and syncing a folder may take as long as the disk likes. */
static int publish_file(void *arg)
{
    const struct publish *p = arg;
    bool overwrite = p->flags & NEW_FILE_OVERWRITE;
    int r = 0;
    if (p->fd >= 0)
        r = link_fd(p->fd, overwrite ? p->tmp : p->path);
    if (r == 0 && (p->fd < 0 || overwrite))
        r = renameat2(AT_FDCWD, p->tmp, AT_FDCWD, p->path, overwrite ? 0 : RENAME_NOREPLACE);
    if (r < 0 && p->fd < 0 && errno == EINVAL && !overwrite) {
        /* A file system without RENAME_NOREPLACE: link fails if the name is taken, too. */
        r = link(p->tmp, p->path);
        if (r == 0)
            unlink(p->tmp);
    }
    if (r < 0)
        return -errno;
    if (p->flags & NEW_FILE_UNSAFE)
        return 0;
    AUTO_CLOSE int fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return -errno;
    return 0;
}

static int remove_file(void *arg)
{
    return unlink(arg) < 0 ? -errno : 0;
}

static char *dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_strdup(".");
    return mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* A file that is to be replaced must not be in use: hold its lock until it is. */
static bool guard_old(const char *path, bool overwrite, struct node **old, struct stat *st,
                      struct err **errp)
{
    *old = NULL;
    if (lstat(path, st) < 0)
        return true;
    if (!overwrite)
        return err_set(errp, EEXIST, "%s exists already", path);
    if (!S_ISREG(st->st_mode))
        return err_set(errp, EINVAL, "%s is not a regular file: it will not be replaced", path);
    const struct file_opts fo = {.path = path};
    *old = file_open(&fo, errp);
    return *old != NULL;
}

static struct node *open_new(struct publish *p, bool *named, struct err **errp)
{
    struct file_opts fo = {.path = p->path,
                           .unnamed = true,
                           .direct = p->flags & NEW_FILE_DIRECT,
                           .no_flush = p->flags & NEW_FILE_UNSAFE};
    struct err *e = NULL;
    struct node *file = access(PROC_FD, X_OK) == 0 ? file_open(&fo, &e) : NULL;
    *named = !file;
    if (file)
        return file;
    err_free(e); /* the other way fails for the same reason, or not at all */
    fo.path = p->tmp;
    fo.unnamed = false;
    fo.create = true;
    return file_open(&fo, errp);
}

/* What replaces a file is no more readable than that was, from the first byte on. Who may not give
 * a file away keeps it, for nobody else. */
static bool keep_owner(const struct publish *p, int fd, const struct stat *old, struct err **errp)
{
    mode_t mode = old->st_mode & 0777;
    if (fchown(fd, old->st_uid, old->st_gid) < 0)
        mode &= 0700;
    return fchmod(fd, mode) == 0 ||
           err_set_errno(errp, errno, "cannot give the new file at %s the mode of the old one",
                         p->path);
}

/* old: of the file that is replaced, or NULL. The descriptor that is left in p outlives the node,
 * and its lock. */
static bool fill_new(struct publish *p, const struct stat *old, new_file_fn *fill, void *arg,
                     struct err **errp)
{
    bool named;
    struct node *file = open_new(p, &named, errp);
    if (!file)
        return false;
    bool ok = (!old || keep_owner(p, file_fd(file), old, errp)) && fill(file, arg, errp);
    if (ok && !named && (p->fd = fcntl(file_fd(file), F_DUPFD_CLOEXEC, 0)) < 0)
        ok = err_set_errno(errp, errno, "cannot put the new file at %s", p->path);
    node_unref(file);
    if (!ok && named)
        io_offload(remove_file, (void *)p->tmp);
    return ok;
}

bool new_file_make(const char *path, unsigned flags, new_file_fn *fill, void *arg,
                   struct err **errp)
{
    struct node *old;
    struct stat st;
    AUTO_FREE char *dir = dir_of(path);
    AUTO_FREE char *tmp = mem_printf("%s.tmp%08x", path, (unsigned)rng_entropy());
    if (!dir || !tmp)
        return err_set(errp, ENOMEM, "out of memory");
    if (!guard_old(path, flags & NEW_FILE_OVERWRITE, &old, &st, errp))
        return false;
    struct publish p = {.tmp = tmp, .path = path, .dir = dir, .flags = flags, .fd = -1};
    bool ok = fill_new(&p, old ? &st : NULL, fill, arg, errp);
    if (ok) {
        int r = io_offload(publish_file, &p);
        if (r < 0) {
            io_offload(remove_file, tmp);
            ok = err_set_errno(errp, -r, "cannot put the new file at %s", path);
        }
    }
    if (p.fd >= 0)
        close(p.fd);
    node_unref(old);
    return ok;
}
