/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Insides of the file leaf, shared by its files and its test.
 */
#ifndef BLOCK_FILE_PRIV_H
#define BLOCK_FILE_PRIV_H

#include <sys/types.h>

#include "block/file.h"
#include "io/file_io.h"

struct file_state {
    int fd_plus_1;      /* so that a zeroed state has no file */
    int lock_fd_plus_1; /* who holds the image lock, if not that one; else 0 */
    bool locked;        /* the image lock was taken */
    bool can_write;     /* the descriptor was opened for writing, too */
    struct io_file io;
    bool is_device;
    bool no_flush;
    bool no_discard, no_zero; /* the file system cannot: found out once */
    int flush_error;          /* -errno of the first flush that failed; stays */
    int (*sync)(int fd);      /* io_fdatasync, or a test's */
};

static inline int file_fd(const struct node *n)
{
    return ((const struct file_state *)n->state)->fd_plus_1 - 1;
}

/* file_status: REQ_STATUS, for regular files by SEEK_DATA and SEEK_HOLE. Yields. */
int file_status(struct node *n, const struct req *r);

/* file_probe_align: what direct I/O on fd asks of offsets and of memory, in bytes. */
void file_probe_align(int fd, uint32_t *off_align, uint32_t *mem_align);

/* file_lock: take QEMU's image lock on fd. name is for the message. Released with fd at the latest.
 * Taken again on the same fd it becomes a writer's; if that fails it is what it was before.
 * file_lock_read: it becomes a reader's. file_unlock: release it now. */
bool file_lock(int fd, const char *name, bool writer, struct err **errp);
void file_lock_read(int fd);
void file_unlock(int fd);

/* file_set_read_only: as in struct driver. */
bool file_set_read_only(struct node *n, bool read_only, struct err **errp);

#endif
