/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Small file work that must be done right: opening what may be hostile, writing durably, renaming.
 * These functions block and do not yield.
 */
#ifndef BACKUP_CLIENT_FILES_H
#define BACKUP_CLIENT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* file_open_regular: open a regular file for reading, never following a link or hanging on a FIFO.
 * *size_out (may be NULL): its length. Returns a descriptor or -1. ENOENT: there is none. */
int file_open_regular(int dir_fd, const char *name, uint64_t *size_out, struct err **errp);

/* file_read_small: the whole of a regular file of at most max bytes, as a new NUL-terminated
 * string. */
char *file_read_small(int dir_fd, const char *name, size_t max, size_t *len_out, struct err **errp);

/* file_write_durable: a new file (EEXIST if there is one) with this content, synced. On failure
 * nothing is left. */
bool file_write_durable(int dir_fd, const char *name, const void *p, size_t len, struct err **errp);

/* file_sync: fsync by name; *size_out (may be NULL): its length. */
bool file_sync(int dir_fd, const char *name, uint64_t *size_out, struct err **errp);

/* dir_sync: make the names in a directory durable. path: for messages. */
bool dir_sync(int dir_fd, const char *path, struct err **errp);

/* file_rename: atomically within or between directories. replace false: EEXIST if `to` exists. */
bool file_rename(int from_fd, const char *from, int to_fd, const char *to, bool replace,
                 struct err **errp);

#endif
