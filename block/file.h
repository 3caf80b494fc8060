/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The host file leaf: a regular file or block device.
 */
#ifndef BLOCK_FILE_H
#define BLOCK_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "block/node.h"

extern const struct driver file_driver;

struct file_opts {
    const char *path;
    bool read_only;
    bool direct;   /* O_DIRECT */
    bool no_lock;  /* take no image lock */
    bool no_flush; /* ignore flushes (cache=unsafe) */
    bool create;   /* create; fails if the file exists, unless truncate */
    bool truncate; /* with create: cut an existing file to 0 (after locking it) */
    bool unnamed;  /* create one without a name (O_TMPFILE) in the folder of path, which is for
                      messages only; who has it may link it */
    int dir_fd;    /* resolve path beneath this directory, refusing to leave it
                      (openat2 RESOLVE_BENEATH); 0 or below: no restriction */
};

/* file_open: a node on the file. Takes QEMU-compatible byte-range locks (OFD locks at 100 + perm
 * and 200 + perm): a writer excludes every other user that QEMU would exclude; EBUSY names the
 * file. Flush is fdatasync; a flush that failed stays failed until reopen. Discard and zero use
 * fallocate where the file system can. Growable unless it is a block device. Yields. */
struct node *file_open(const struct file_opts *opts, struct err **errp);

/* file_copy_range: copy bytes of src, a host file, to the same offset of dst, another, in the
 * kernel. Both have the range. -ENOTSUP and what copy_file_range(2) says where that cannot be: copy
 * in another way then; part of the range may be written. Yields. */
int file_copy_range(struct node *src, struct node *dst, uint64_t off, uint64_t len);

#endif
