/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Moving data along a backing chain. What is read from the chain stays the same at every moment,
 * whatever fails.
 */
#ifndef QCOW2_REBASE_H
#define QCOW2_REBASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct node;

struct qc_moved { /* what was written where it was missing */
    uint64_t data_bytes, zero_bytes;
};

typedef void qc_progress_fn(void *arg, uint64_t done, uint64_t all);

struct qc_rebase_opts {
    struct node *backing;      /* the new one, open; NULL: none */
    const char *name, *format; /* of it, for the header */
    bool compressed;           /* what is copied */
    qc_progress_fn *progress;  /* NULL allowed */
    void *arg;
    struct qc_moved *moved; /* set, unless NULL */
};

/* qc_rebase: copy into the image what it reads from its backing file and would not read from the
 * new one, make that durable, then change the header (qc_set_backing). ENOTSUP: internal snapshots,
 * which would change. The node still has its old backing file: close it afterwards. Yields. */
bool qc_rebase(struct node *image, const struct qc_rebase_opts *opts, struct err **errp);

struct qc_commit_opts {
    unsigned depth; /* commit into the image so many layers below, which is open for writing */
    uint64_t rate;  /* bytes a second; 0: no limit */
    bool empty;     /* top afterwards; only for depth 1 */
    qc_progress_fn *progress;
    void *arg;
    struct qc_moved *moved; /* set, unless NULL */
};

/* qc_commit: copy what the layers above the base hold into it, growing it if it is too short, make
 * that durable, then empty top (qc_make_empty). ENOTSUP: snapshots in those layers; EINVAL: there
 * is no such layer. Yields. */
bool qc_commit(struct node *top, const struct qc_commit_opts *opts, struct err **errp);

#endif
