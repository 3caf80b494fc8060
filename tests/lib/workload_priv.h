/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files that run workloads share.
 */
#ifndef TESTS_LIB_WORKLOAD_PRIV_H
#define TESTS_LIB_WORKLOAD_PRIV_H

#include "base/rng.h"
#include "io/lock.h"
#include "tests/lib/workload.h"

struct node;

/* A change in flight: others of the same sectors wait for it. */
struct load_busy {
    uint64_t first, end; /* sectors */
    struct load_busy *next;
};

struct load {
    struct load_run *run;
    const struct workload *w;
    struct node *guest;
    struct co_group fibers;
    struct co_queue busy_waiters;
    struct load_busy *busy;
    uint64_t cursor; /* of sequential writes */
    uint64_t key;
    bool resizing, snapping;
};

struct load_extent {
    uint64_t off, len;
};

/* load_must: p, which is not NULL. */
void *load_must(void *p);
void load_problem(struct load *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* load_result: note what an operation returned; true if it succeeded. It may fail only after the
 * disk or an allocation was told to. */
bool load_result(struct load *l, const char *what, const struct load_extent *x, int r);
void load_busy_begin(struct load *l, struct load_busy *b, const struct load_extent *x);
void load_busy_end(struct load *l, struct load_busy *b);

/* workload_snap.c: one of the operations from LOAD_SNAPSHOT on. */
void load_snap_op(struct load *l, struct rng *rng, enum load_op op);

#endif
