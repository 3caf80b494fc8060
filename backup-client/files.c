/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Files and directories: open, read, write, sync, rename.
 */
#include "backup-client/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"

int file_open_regular(int dir_fd, const char *name, uint64_t *size_out, struct err **errp)
{
    struct stat st;
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        err_set_errno(errp, errno, "%s", name);
        return -1;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        err_set(errp, EBADMSG, "%s: not a regular file", name);
        close(fd);
        return -1;
    }
    if (size_out)
        *size_out = (uint64_t)st.st_size;
    return fd;
}

static bool write_all(int fd, const void *p, size_t len)
{
    const char *at = p;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

char *file_read_small(int dir_fd, const char *name, size_t max, size_t *len_out, struct err **errp)
{
    uint64_t size;
    AUTO_CLOSE int fd = file_open_regular(dir_fd, name, &size, errp);
    if (fd < 0)
        return NULL;
    if (size > max) {
        err_set(errp, EBADMSG, "%s: longer than %zu bytes", name, max);
        return NULL;
    }
    AUTO_FREE char *text = mem_alloc((size_t)size + 1);
    if (!text) {
        err_set(errp, ENOMEM, "out of memory");
        return NULL;
    }
    size_t have = 0;
    while (have < size) {
        ssize_t n = read(fd, text + have, (size_t)size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_set_errno(errp, errno, "%s: read", name);
            return NULL;
        }
        if (n == 0)
            break;
        have += (size_t)n;
    }
    text[have] = '\0';
    *len_out = have;
    return steal(text);
}

bool file_write_durable(int dir_fd, const char *name, const void *p, size_t len, struct err **errp)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return err_set_errno(errp, errno, "%s", name);
    bool ok = write_all(fd, p, len) && fsync(fd) == 0;
    int why = errno;
    if (close(fd) < 0 && ok) {
        ok = false;
        why = errno;
    }
    if (ok)
        return true;
    unlinkat(dir_fd, name, 0);
    return err_set_errno(errp, why, "%s: write", name);
}

bool file_sync(int dir_fd, const char *name, uint64_t *size_out, struct err **errp)
{
    AUTO_CLOSE int fd = file_open_regular(dir_fd, name, size_out, errp);
    if (fd < 0)
        return false;
    return fsync(fd) == 0 || err_set_errno(errp, errno, "%s: fsync", name);
}

bool dir_sync(int dir_fd, const char *path, struct err **errp)
{
    return fsync(dir_fd) == 0 || err_set_errno(errp, errno, "%s: fsync of the directory", path);
}

bool file_rename(int from_fd, const char *from, int to_fd, const char *to, bool replace,
                 struct err **errp)
{
    int r = replace ? renameat(from_fd, from, to_fd, to)
                    : renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE);
    /* Some network file systems cannot promise not to replace; a link fails if the name exists. */
    if (r < 0 && !replace && (errno == EINVAL || errno == ENOSYS)) {
        r = linkat(from_fd, from, to_fd, to, 0);
        if (r == 0)
            unlinkat(from_fd, from, 0);
    }
    return r == 0 || err_set_errno(errp, errno, "rename %s to %s", from, to);
}
