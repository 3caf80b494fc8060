/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copying from one host file to another inside the kernel. Where the file system can share blocks
 * between files it does, and nothing is copied at all.
 */
#include <errno.h>
#include <unistd.h>

#include "block/file_priv.h"
#include "io/io.h"

struct copy_job {
    int src, dst;
    uint64_t off, len;
};

static int copy_job_run(void *arg)
{
    const struct copy_job *j = arg;
    off_t in = (off_t)j->off, out = in;
    for (uint64_t left = j->len; left;) {
        ssize_t n = copy_file_range(j->src, &in, j->dst, &out, left, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO; /* shorter than it was */
        left -= (uint64_t)n;
    }
    return 0;
}

int file_copy_range(struct node *src, struct node *dst, uint64_t off, uint64_t len)
{
    if (src->drv != &file_driver || dst->drv != &file_driver || dst->read_only)
        return -ENOTSUP;
    if (off + len > src->size || off + len > dst->size)
        return -EINVAL;
    struct copy_job j = {.src = file_fd(src), .dst = file_fd(dst), .off = off, .len = len};
    int r = io_offload(copy_job_run, &j);
    node_still_volatile(dst); /* it was written, although not through the dispatcher */
    return r;
}
