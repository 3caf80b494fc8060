/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The scratch of a view: old data at the offset it had on the disk. A sparse file needs no index
 * that way, and neighbours on the disk are neighbours in the scratch, so that a view is read in
 * long runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "block/mem_disk.h"
#include "filters/cbw_priv.h"
#include "io/io.h"

bool scratch_open(struct scratch *s, int fd, uint64_t size, struct err **errp)
{
    *s = (struct scratch){.fd = fd};
    if (fd >= 0)
        return true;
    s->memory = mem_open(size, errp);
    return s->memory != NULL;
}

void scratch_use(struct scratch *s, struct node *given, uint32_t flags)
{
    *s = (struct scratch){.fd = -1, .given = given, .flags = flags | REQ_ALONE};
    given->track_reads++;
}

void scratch_close(struct scratch *s)
{
    if (s->given)
        s->given->track_reads--;
    if (s->memory)
        node_unref(s->memory);
    else if (s->fd >= 0)
        close(s->fd);
    *s = (struct scratch){.fd = -1};
}

int scratch_read(struct scratch *s, uint64_t off, void *buf, uint64_t len)
{
    if (s->memory || s->given)
        return node_read(s->memory ? s->memory : s->given, off, buf, len);
    while (len > 0) {
        ssize_t n = io_pread(s->fd, buf, len, off);

        if (n <= 0)
            return n < 0 ? n : -EIO; /* somebody has cut the file */
        buf = (char *)buf + n;
        off += n;
        len -= n;
    }
    return 0;
}

int scratch_write(struct scratch *s, uint64_t off, const void *buf, uint64_t len)
{
    if (s->memory || s->given)
        return node_write(s->memory ? s->memory : s->given, off, buf, len, s->flags);
    while (len > 0) {
        ssize_t n = io_pwrite(s->fd, buf, len, off);

        if (n <= 0)
            return n < 0 ? n : -EIO;
        buf = (const char *)buf + n;
        off += n;
        len -= n;
    }
    return 0;
}

int scratch_zero(struct scratch *s, uint64_t off, uint64_t len)
{
    return node_zero(s->given, off, len, REQ_MAY_UNMAP | REQ_ALONE);
}

void scratch_drop(struct scratch *s, uint64_t off, uint64_t len)
{
    if (s->memory || s->given)
        (void)node_discard(s->memory ? s->memory : s->given, off, len);
    else
        (void)io_fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
}
