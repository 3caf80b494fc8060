/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where a host file has data, asked of the file system with SEEK_DATA and SEEK_HOLE.
 *
 * The answer may need a read of metadata from the disk, so that a worker thread asks. One call
 * tells of a few runs: a status request may be answered in part. A file system that cannot say
 * (and a block device) has data everywhere.
 */
#include <errno.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/file_priv.h"
#include "io/io.h"

#define RUNS_PER_CALL 32

struct seek_job {
    int fd;
    uint64_t off, end;
    unsigned n;
    struct extent run[RUNS_PER_CALL];
};

static void seek_add(struct seek_job *j, uint64_t stop, uint32_t flags)
{
    j->run[j->n++] = (struct extent){.len = stop - j->off, .flags = flags};
    j->off = stop;
}

static int seek_run(void *arg)
{
    struct seek_job *j = arg;
    while (j->off < j->end && j->n + 2 <= RUNS_PER_CALL) {
        off_t data = lseek(j->fd, (off_t)j->off, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            seek_add(j, j->end, EXTENT_HOLE | EXTENT_ZERO);
            break;
        }
        if (data < 0)
            return errno == EIO ? -EIO : -ENOTSUP;
        if ((uint64_t)data > j->off)
            seek_add(j, min_u64((uint64_t)data, j->end), EXTENT_HOLE | EXTENT_ZERO);
        if (j->off == j->end)
            break;
        off_t hole = lseek(j->fd, (off_t)j->off, SEEK_HOLE);
        /* ENXIO, or a hole right here: the file was changed between the two questions. Data is
         * always a safe answer. */
        uint64_t stop = hole > (off_t)j->off ? min_u64((uint64_t)hole, j->end) : j->end;
        seek_add(j, stop, 0);
    }
    return 0;
}

int file_status(struct node *n, const struct req *r)
{
    const struct file_state *f = n->state;
    struct seek_job j = {.fd = file_fd(n), .off = r->off, .end = r->off + r->len};
    if (f->is_device)
        return -ENOTSUP;
    int ret = io_offload(seek_run, &j);
    for (unsigned i = 0; i < j.n && ret >= 0; i++) {
        ret = extents_add(r->ext, j.run[i].len, j.run[i].flags);
        if (ret == 0)
            break; /* full */
    }
    return ret < 0 ? ret : 0;
}
