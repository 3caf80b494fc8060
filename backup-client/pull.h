/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The copy engine of a backup: many workers, each taking the next piece of the plan through read,
 * hash and write; their results reach the hash file in the disk's order.
 */
#ifndef BACKUP_CLIENT_PULL_H
#define BACKUP_CLIENT_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "backup-client/hashes.h"
#include "backup-client/plan.h"
#include "backup-client/progress.h"
#include "backup-client/source.h"
#include "base/err.h"
#include "block/node.h"

#define PULL_REQUEST_MAX (1024 * 1024)
#define PULL_REQUEST_DEFAULT (256 * 1024)
#define PULL_DEPTH_MAX 64

struct pull_opts {
    struct source *source;
    struct plan *plan;
    struct node *layer;
    struct hash_writer *hashes;
    struct progress *progress;
    bool explicit_zeros;       /* an increment: zeros must hide what the parent has */
    unsigned workers;          /* requests in flight at most, over all connections */
    uint32_t request;          /* bytes a request, a multiple of the block */
    const volatile bool *stop; /* set to end early with ECANCELED */
};

struct pull_result {
    uint64_t read_bytes; /* asked from the source */
    uint64_t data_bytes; /* stored as data */
    uint64_t zero_bytes; /* stored as explicit zeros */
};

/* pull_run: until the plan's end or the first error. Memory: workers x request. Yields. */
bool pull_run(const struct pull_opts *o, struct pull_result *out, struct err **errp);

#endif
