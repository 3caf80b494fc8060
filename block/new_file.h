/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making a file so that whoever finds its name finds all of it, also after a crash.
 */
#ifndef BLOCK_NEW_FILE_H
#define BLOCK_NEW_FILE_H

#include <stdbool.h>

#include "base/err.h"

struct node;

/* Writes the content into an empty, growable node, and flushes it. Yields. */
typedef bool new_file_fn(struct node *file, void *arg, struct err **errp);

enum new_file_flags {
    NEW_FILE_OVERWRITE = 1, /* replace what is there */
    NEW_FILE_UNSAFE = 2,    /* flush nothing: after a power cut there may be anything */
    NEW_FILE_DIRECT = 4,    /* O_DIRECT */
};

/* new_file_make: a file at path with what fill writes: made under a temporary name beside it,
 * renamed, folder synced. EEXIST if path exists, unless NEW_FILE_OVERWRITE; then it must be a
 * regular file that nobody uses (EBUSY), and it stays as it was if anything fails. Yields. */
bool new_file_make(const char *path, unsigned flags, new_file_fn *fill, void *arg,
                   struct err **errp);

#endif
