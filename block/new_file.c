/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making a new file: under a temporary name beside it, durable, then renamed.
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
#include "block/file.h"
#include "io/io.h"

struct publish {
    const char *tmp, *path, *dir;
    unsigned flags;
};

/* On a worker thread: renaming and syncing a folder may take as long as the disk likes. */
static int publish_file(void *arg)
{
    const struct publish *p = arg;
    bool overwrite = p->flags & NEW_FILE_OVERWRITE;
    int r = renameat2(AT_FDCWD, p->tmp, AT_FDCWD, p->path, overwrite ? 0 : RENAME_NOREPLACE);
    if (r < 0 && errno == EINVAL && !overwrite) {
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
static bool guard_old(const char *path, bool overwrite, struct node **old, struct err **errp)
{
    struct stat st;
    *old = NULL;
    if (lstat(path, &st) < 0)
        return true;
    if (!overwrite)
        return err_set(errp, EEXIST, "%s exists already", path);
    if (!S_ISREG(st.st_mode))
        return err_set(errp, EINVAL, "%s is not a regular file: it will not be replaced", path);
    const struct file_opts fo = {.path = path};
    *old = file_open(&fo, errp);
    return *old != NULL;
}

static bool fill_tmp(const char *tmp, unsigned flags, new_file_fn *fill, void *arg,
                     struct err **errp)
{
    const struct file_opts fo = {.path = tmp,
                                 .create = true,
                                 .direct = flags & NEW_FILE_DIRECT,
                                 .no_flush = flags & NEW_FILE_UNSAFE};
    struct node *file = file_open(&fo, errp);
    if (!file)
        return false;
    bool ok = fill(file, arg, errp);
    node_unref(file);
    if (!ok)
        io_offload(remove_file, (void *)tmp);
    return ok;
}

bool new_file_make(const char *path, unsigned flags, new_file_fn *fill, void *arg,
                   struct err **errp)
{
    struct node *old;
    AUTO_FREE char *dir = dir_of(path);
    AUTO_FREE char *tmp = mem_printf("%s.tmp%08x", path, (unsigned)rng_entropy());
    if (!dir || !tmp)
        return err_set(errp, ENOMEM, "out of memory");
    if (!guard_old(path, flags & NEW_FILE_OVERWRITE, &old, errp))
        return false;
    bool ok = fill_tmp(tmp, flags, fill, arg, errp);
    if (ok) {
        struct publish p = {.tmp = tmp, .path = path, .dir = dir, .flags = flags};
        int r = io_offload(publish_file, &p);
        if (r < 0) {
            io_offload(remove_file, tmp);
            ok = err_set_errno(errp, -r, "cannot put the new file at %s", path);
        }
    }
    node_unref(old);
    return ok;
}
