/* SPDX-License-Identifier: BSD-3-Clause
 *
 * File I/O that takes the shortest way: what the page cache holds is copied at once, without
 * yielding; the rest goes through the reactor.
 *
 * Why: a 4 KiB read that hits the page cache costs less as preadv2(RWF_NOWAIT) than as one entry of
 * an io_uring batch, and the coroutine need not be suspended. Buffered writes are copied at once as
 * well: several file systems (ext4 for one) hand every buffered io_uring write to a kernel thread,
 * which costs a multiple of the copy.
 */
#ifndef IO_FILE_IO_H
#define IO_FILE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct io_file {
    int fd;
    bool direct;       /* O_DIRECT: always through the reactor */
    bool in_memory;    /* tmpfs: no transfer can wait for a device */
    bool nowait_reads; /* preadv2(RWF_NOWAIT) is understood */
};

/* io_file_init: look at what fd is. direct: it was opened with O_DIRECT. */
void io_file_init(struct io_file *f, int fd, bool direct);

/* As io_pread and io_pwrite: 0 or more bytes (maybe short), or -errno. May yield. */
ssize_t io_file_pread(struct io_file *f, void *buf, size_t len, uint64_t file_off);
ssize_t io_file_pwrite(struct io_file *f, const void *buf, size_t len, uint64_t file_off);

#endif
