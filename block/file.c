/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The host file leaf: requests on an open file. Opening is in file_open.c, the lock in file_lock.c.
 *
 * After a failed fdatasync the kernel may call pages clean that it never wrote, and the next
 * fdatasync succeeds: so the first error stays until the file is opened anew. FUA is left to the
 * dispatcher, which flushes.
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/file_priv.h"
#include "io/io.h"

static int file_read(struct node *n, const struct req *r)
{
    struct file_state *f = n->state;
    char *buf = r->buf;
    uint64_t done = 0;
    while (done < r->len) {
        ssize_t got = io_file_pread(&f->io, buf + done, r->len - done, r->off + done);
        if (got < 0)
            return (int)got;
        done += (uint64_t)got;
        /* The end of the file, also where direct I/O stops within a block. */
        if (got == 0 || !is_aligned(done, n->limits.align))
            break;
    }
    memset(buf + done, 0, r->len - done);
    return 0;
}

static int file_write(struct node *n, const struct req *r)
{
    struct file_state *f = n->state;
    const char *buf = r->buf;
    uint64_t done = 0;
    while (done < r->len) {
        ssize_t put = io_file_pwrite(&f->io, buf + done, r->len - done, r->off + done);
        if (put <= 0)
            return put < 0 ? (int)put : -EIO;
        done += (uint64_t)put;
        n->size = max_u64(n->size, r->off + done);
    }
    return 0;
}

/* fallocate, with *unsupported remembering that it need not be tried again. */
static int file_fallocate(struct node *n, int mode, uint64_t off, uint64_t len, bool *unsupported)
{
    if (*unsupported)
        return -ENOTSUP;
    int ret = io_fallocate(file_fd(n), mode, off, len);
    if (ret == -EOPNOTSUPP || ret == -ENOTSUP || ret == -ENOSYS || ret == -ENODEV) {
        *unsupported = true;
        return -ENOTSUP;
    }
    /* A device refuses ranges that are not whole sectors; writes can do those. */
    if (ret == -EINVAL && ((const struct file_state *)n->state)->is_device)
        return -ENOTSUP;
    return ret < 0 ? ret : 0;
}

static int file_punch(struct node *n, uint64_t off, uint64_t len)
{
    struct file_state *f = n->state;
    return file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len, &f->no_discard);
}

static int file_zero(struct node *n, const struct req *r)
{
    struct file_state *f = n->state;
    uint64_t end = r->off + r->len;
    /* Growing by ftruncate could cut off what another request has appended meanwhile, and a hole
     * cannot grow a file: only what is inside may be punched. */
    bool punch = (r->flags & REQ_MAY_UNMAP) && end <= n->size;
    int ret = punch ? file_punch(n, r->off, r->len) : -ENOTSUP;
    if (ret == -ENOTSUP)
        ret = file_fallocate(n, FALLOC_FL_ZERO_RANGE, r->off, r->len, &f->no_zero);
    if (ret == 0)
        n->size = max_u64(n->size, end);
    return ret;
}

static int file_flush(struct node *n)
{
    struct file_state *f = n->state;
    if (f->no_flush || f->flush_error)
        return f->no_flush ? 0 : f->flush_error;
    int ret = f->sync(file_fd(n));
    if (ret < 0)
        f->flush_error = ret;
    return f->flush_error;
}

struct truncate_job {
    int fd;
    uint64_t size;
};

static int truncate_run(void *arg)
{
    const struct truncate_job *j = arg;
    int ret;
    do {
        ret = ftruncate(j->fd, (off_t)j->size) == 0 ? 0 : -errno;
    } while (ret == -EINTR);
    return ret;
}

static int file_truncate(struct node *n, uint64_t size)
{
    const struct file_state *f = n->state;
    struct truncate_job j = {.fd = file_fd(n), .size = size};
    if (f->is_device)
        return size == n->size ? 0 : -ENOTSUP;
    int ret = io_offload(truncate_run, &j);
    if (ret == 0)
        n->size = size;
    return ret;
}

static int file_submit(struct node *n, struct req *r)
{
    switch (r->op) {
    case REQ_READ:
        return file_read(n, r);
    case REQ_WRITE:
        return file_write(n, r);
    case REQ_ZERO:
        return file_zero(n, r);
    case REQ_DISCARD:
        return file_punch(n, r->off, r->len);
    case REQ_FLUSH:
        return file_flush(n);
    case REQ_STATUS:
        return file_status(n, r);
    case REQ_TRUNCATE:
        return file_truncate(n, r->off);
    default:
        return -ENOTSUP;
    }
}

static void file_close(struct node *n)
{
    const struct file_state *f = n->state;
    if (file_fd(n) < 0)
        return;
    /* The kernel may hold on to the file a little longer, for a request that has just ended. Who
     * hears that we are through must find it free. */
    if (f->lock_fd_plus_1) {
        file_unlock(f->lock_fd_plus_1 - 1);
        close(f->lock_fd_plus_1 - 1);
    }
    file_unlock(file_fd(n));
    close(file_fd(n));
}

const struct driver file_driver = {
    .name = "file",
    .state_size = sizeof(struct file_state),
    .submit = file_submit,
    .close = file_close,
    .set_read_only = file_set_read_only,
};
