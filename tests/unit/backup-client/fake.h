/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backups without disks: a temporary repository whose layers are a few bytes, but whose hash files
 * and manifests are real.
 */
#ifndef TESTS_BACKUP_FAKE_H
#define TESTS_BACKUP_FAKE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "backup-client/manifest.h"
#include "backup-client/repo.h"

#define FAKE_SIZE (64 * BACKUP_BLOCK)

extern char fake_repo[64];

/* fake_setup, fake_teardown: a new empty repository, per test. */
int fake_setup(void **state);
int fake_teardown(void **state);

/* fake_open: the disk "d" of the repository. */
void fake_open(struct disk_repo *d);
/* fake_content: a digest that stands for content number n. */
struct digest fake_content(unsigned n);
/* fake_prepare: layer and hash file under temporary names, and the manifest in *m, for the next
 * backup on parent (NULL: full). The layer lists blocks [first, first + count) with content n. */
void fake_prepare(struct disk_repo *d, const struct backup *parent, uint64_t first, uint64_t count,
                  unsigned n, struct manifest *m);
/* fake_backup: the same, published and scanned; returns its uuid. parent_sequence 0: full. */
struct uuid fake_backup(struct disk_repo *d, uint64_t parent_sequence, uint64_t first,
                        uint64_t count, unsigned n);
/* fake_edit: replace `from` by `to` in the manifest of sequence number n (there must be one), and
 * scan again. */
void fake_edit(struct disk_repo *d, uint64_t n, const char *from, const char *to);
struct backup *fake_find(struct disk_repo *d, uint64_t n);
/* fake_files: how many files of backups the folder has, and how many of them are temporary. */
unsigned fake_files(struct disk_repo *d, unsigned *tmp);

#endif
