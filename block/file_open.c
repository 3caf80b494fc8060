/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Opening a host file: restrict, create, lock, cut, measure, in this order. Nothing is changed in a
 * file before the lock is held, and a file that this call created is removed if it then fails.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"
#include "block/file_priv.h"
#include "io/io.h"

#define CREATE_MODE 0644
/* One I/O call transfers at most 2 GiB less a page; half of it is long enough. */
#define FILE_MAX_LEN (1 * GiB)
#define MAX_DIRECT_ALIGN 4096

static int open_beneath(const struct file_opts *o, int flags, int mode)
{
    struct open_how how = {.flags = (uint64_t)flags,
                           .mode = (uint64_t)mode,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, o->dir_fd, o->path, &how, sizeof(how));
}

static bool open_error(const struct file_opts *o, int code, struct err **errp)
{
    if (o->dir_fd > 0 && code == EXDEV)
        return err_set(errp, EACCES, "\"%s\" leads out of the directory that it must be in",
                       o->path);
    if (o->dir_fd > 0 && code == ENOSYS)
        return err_set(errp, code, "\"%s\": this kernel cannot open files below a directory only",
                       o->path);
    if (o->direct && code == EINVAL)
        return err_set(errp, code, "\"%s\": its file system does not support direct I/O", o->path);
    if (o->create && code == EEXIST)
        return err_set(errp, code, "\"%s\" exists already", o->path);
    return err_set_errno(errp, code, "cannot %s \"%s\"", o->create ? "create" : "open", o->path);
}

static int open_unnamed(const char *path, int flags)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *dir = !slash ? mem_strdup(".") : mem_strndup(path, (size_t)(slash + 1 - path));
    if (dir)
        return open(dir, flags | O_TMPFILE, CREATE_MODE);
    errno = ENOMEM;
    return -1;
}

static bool open_fd(const struct file_opts *o, int *fd, struct err **errp)
{
    /* O_NONBLOCK: a FIFO must be refused, not waited for. */
    int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (o->read_only ? O_RDONLY : O_RDWR);
    if (o->direct)
        flags |= O_DIRECT;
    if (o->create)
        flags |= O_CREAT | (o->truncate ? 0 : O_EXCL);
    int mode = o->create ? CREATE_MODE : 0;
    do {
        *fd = o->unnamed      ? open_unnamed(o->path, flags)
              : o->dir_fd > 0 ? open_beneath(o, flags, mode)
                              : open(o->path, flags, mode);
    } while (*fd < 0 && errno == EINTR);
    return *fd >= 0 || open_error(o, errno, errp);
}

/* Refuse what is no disk, and find the size. */
static bool examine(const struct file_opts *o, int fd, bool *is_device, uint64_t *size,
                    struct err **errp)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_set_errno(errp, errno, "\"%s\"", o->path);
    *is_device = S_ISBLK(st.st_mode);
    if (S_ISDIR(st.st_mode))
        return err_set(errp, EISDIR, "\"%s\" is a directory", o->path);
    if (!*is_device && !S_ISREG(st.st_mode))
        return err_set(errp, EINVAL, "\"%s\" is neither a regular file nor a block device",
                       o->path);
    *size = (uint64_t)st.st_size;
    if (*is_device && ioctl(fd, BLKGETSIZE64, size) != 0)
        return err_set_errno(errp, errno, "\"%s\": cannot find the device's size", o->path);
    /* From here on it must wait like any file: io_uring fails calls on non-blocking ones. */
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) != 0)
        return err_set_errno(errp, errno, "\"%s\"", o->path);
    return true;
}

static bool prepare(const struct file_opts *o, int fd, struct node *n, struct err **errp)
{
    struct file_state *f = n->state;
    if (!examine(o, fd, &f->is_device, &n->size, errp))
        return false;
    f->locked = !o->no_lock;
    f->can_write = !o->read_only;
    if (f->locked && !file_lock(fd, o->path, !o->read_only, errp))
        return false;
    if (o->create && o->truncate && !f->is_device && n->size > 0) {
        if (ftruncate(fd, 0) != 0)
            return err_set_errno(errp, errno, "cannot truncate \"%s\"", o->path);
        n->size = 0;
    }
    f->no_flush = o->no_flush;
    f->sync = io_fdatasync;
    io_file_init(&f->io, fd, o->direct);
    n->read_only = o->read_only;
    n->growable = !f->is_device;
    n->limits.max_len = FILE_MAX_LEN;
    if (o->direct)
        file_probe_align(fd, &n->limits.align, &n->limits.mem_align);
    return true;
}

struct node *file_open(const struct file_opts *o, struct err **errp)
{
    int fd;
    if (!open_fd(o, &fd, errp))
        return NULL;
    struct node *n = node_new(&file_driver, o->path, errp);
    if (n && prepare(o, fd, n, errp)) {
        ((struct file_state *)n->state)->fd_plus_1 = fd + 1;
        return n;
    }
    node_unref(n);
    if (o->create && !o->truncate)
        unlinkat(o->dir_fd > 0 ? o->dir_fd : AT_FDCWD, o->path, 0);
    close(fd);
    return NULL;
}

static bool probe_by_statx(int fd, uint32_t *off_align, uint32_t *mem_align)
{
#ifdef STATX_DIOALIGN
    struct statx sx;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && (sx.stx_mask & STATX_DIOALIGN) &&
        is_power_of_2(sx.stx_dio_offset_align) && is_power_of_2(sx.stx_dio_mem_align)) {
        *off_align = sx.stx_dio_offset_align;
        *mem_align = sx.stx_dio_mem_align;
        return true;
    }
#endif
    return false;
}

void file_probe_align(int fd, uint32_t *off_align, uint32_t *mem_align)
{
    if (probe_by_statx(fd, off_align, mem_align))
        return;
    /* A read that is shorter than the block fails. An empty file cannot be asked that way, and
     * without memory nothing can: the largest is right for all. */
    char *buf = mem_alloc_aligned(2 * MAX_DIRECT_ALIGN, 2 * MAX_DIRECT_ALIGN);
    struct stat st;
    uint32_t align = MAX_DIRECT_ALIGN;
    if (buf && fstat(fd, &st) == 0 && st.st_size > 0) {
        for (align = 512; align < MAX_DIRECT_ALIGN; align *= 2) {
            /* buf + align: aligned to this and to no more. */
            if (pread(fd, buf + align, align, 0) >= 0)
                break;
        }
    }
    mem_free(buf);
    *off_align = *mem_align = align;
}
