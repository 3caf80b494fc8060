/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Hash files: the digest of every block that one layer holds. Format: docs/backup.md.
 *
 * A file is a header, runs of blocks in ascending order, and an end record. A run is either
 * data (one digest a block) or zeros (none). Blocks in no run are the parent's, or zeros in a full
 * backup. Writer and reader stream: neither ever holds more than one run of HASH_RUN_MAX digests.
 * These functions block on (small, sequential) file I/O and do not yield.
 */
#ifndef BACKUP_CLIENT_HASHES_H
#define BACKUP_CLIENT_HASHES_H

#include <stdbool.h>
#include <stdint.h>

#include "digest/digest.h"
#include "digest/uuid.h"
#include "base/err.h"

#define HASH_RUN_MAX 2048 /* blocks in one run of data: 64 KiB of digests */

/* --- Writing --- */

struct hash_writer;

/* hash_writer_new: start a file on fd (empty, open for writing, stays the caller's). name: for
 * messages. */
struct hash_writer *hash_writer_new(int fd, const char *name, const struct uuid *uuid,
                                    uint64_t disk_size, struct err **errp);
void hash_writer_free(struct hash_writer *w);
/* Blocks must come in ascending order. */
bool hash_writer_data(struct hash_writer *w, uint64_t block, const struct digest *d,
                      struct err **errp);
bool hash_writer_zeros(struct hash_writer *w, uint64_t block, uint64_t count, struct err **errp);
/* hash_writer_end: write out and fsync; *root is the SHA-256 of the whole file. */
bool hash_writer_end(struct hash_writer *w, struct digest *root, struct err **errp);

/* --- Reading --- */

struct hash_reader;

enum hash_kind {
    HASH_NONE, /* not in this layer */
    HASH_DATA,
    HASH_ZERO,
};

/* hash_reader_open: path relative to dir_fd (AT_FDCWD for none). The header must name this uuid
 * and size. */
struct hash_reader *hash_reader_open(int dir_fd, const char *path, const struct uuid *uuid,
                                     uint64_t disk_size, struct err **errp);
void hash_reader_free(struct hash_reader *r);
/* hash_reader_at: what the layer holds at `block` (ascending from call to call, below the disk's
 * end): *kind, *run (blocks from here on that are alike, at least 1; for HASH_DATA their digests
 * are *digests, valid until the next call). False: I/O error or malformed file. */
bool hash_reader_at(struct hash_reader *r, uint64_t block, enum hash_kind *kind, uint64_t *run,
                    const struct digest **digests, struct err **errp);
/* hash_reader_finish: read to the end, judging everything; *root is the SHA-256 of the file. */
bool hash_reader_finish(struct hash_reader *r, struct digest *root, struct err **errp);

#endif
