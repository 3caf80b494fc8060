/* SPDX-License-Identifier: BSD-3-Clause */
#include "io/file_io.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "io/io.h"

/* Longer transfers are worth another CPU: the reactor hands them to the back end, whose threads
 * copy while it goes on with the sockets. */
#define INLINE_MAX ((size_t)128 << 10)

void io_file_init(struct io_file *f, int fd, bool direct)
{
    struct statfs fs;
    *f = (struct io_file){.fd = fd, .direct = direct, .nowait_reads = !direct};
    f->in_memory = fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

ssize_t io_file_pread(struct io_file *f, void *buf, size_t len, uint64_t file_off)
{
    if (len > INLINE_MAX)
        return io_pread(f->fd, buf, len, file_off);
    ssize_t n = -1;
    if (f->in_memory) {
        n = pread(f->fd, buf, len, (off_t)file_off);
    } else if (f->nowait_reads) {
        struct iovec iov = {buf, len};
        n = preadv2(f->fd, &iov, 1, (off_t)file_off, RWF_NOWAIT);
        if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
            f->nowait_reads = false;
    }
    /* Not cached, or an error: the reactor's way tells for certain. */
    return n >= 0 ? n : io_pread(f->fd, buf, len, file_off);
}

ssize_t io_file_pwrite(struct io_file *f, const void *buf, size_t len, uint64_t file_off)
{
    /* A partial page that is not cached would have to be read from the device first. */
    bool whole_pages = is_aligned(file_off | len, 4096);
    if (!f->direct && len <= INLINE_MAX && (f->in_memory || whole_pages)) {
        ssize_t n = pwrite(f->fd, buf, len, (off_t)file_off);
        if (n >= 0)
            return n;
        if (errno != EINTR && errno != EAGAIN)
            return -errno;
    }
    return io_pwrite(f->fd, buf, len, file_off);
}
