/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copying what one node holds to the same place in another: for `image convert` and its relatives,
 * and for backup jobs.
 */
#ifndef BLOCK_COPY_H
#define BLOCK_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "block/node.h"

enum copy_kind {
    COPY_DATA, /* read it and write it */
    COPY_ZERO, /* reads as zeros */
    COPY_SKIP, /* leave the target as it is */
};

enum copy_answer {
    COPY_FAIL,   /* end the copy with this error */
    COPY_RETRY,  /* the hook has waited for as long as it liked: try again */
    COPY_IGNORE, /* a read: zeros instead; a write: go on without it */
};

/* Every hook may be NULL. They may yield unless said otherwise; failed and progress are called by
 * several coroutines in turn. */
struct copy_ops {
    /* map: what to do with src's bytes from off on: set *got (1..len) and *kind. 0 or -errno. NULL:
     * REQ_STATUS of src decides. */
    int (*map)(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind);
    /* baseline: what dst reads from off on (whole units) if nothing is written there. Units that
     * hold that already are left out. 0 or -errno. NULL: everything is written. */
    int (*baseline)(void *arg, uint64_t off, uint8_t *buf, uint64_t len);
    /* gate: called before each piece; a paused job waits in it. < 0: the copy ends with that. */
    int (*gate)(void *arg);
    /* pace: called before data of len bytes is read; it may wait. < 0: the copy ends with that. */
    int (*pace)(void *arg, uint64_t len);
    /* written: dst has what src holds in this range (whole units), or zeros. Does not yield. */
    void (*written)(void *arg, uint64_t off, uint64_t len);
    /* progress: bytes dealt with so far (what is skipped, too), of all. Does not yield. */
    void (*progress)(void *arg, uint64_t done, uint64_t all);
    /* failed: a read or a write failed with -error. A read is tried again in sectors
     * before, unless whole_reads. */
    enum copy_answer (*failed)(void *arg, bool reading, uint64_t off, uint64_t len, int error);
};

struct copy_opts {
    struct node *src, *dst;
    uint64_t off, len; /* bytes; both nodes have them. off is a multiple of unit */
    /* unit: a power of two, 512 to 2 MiB: one of which any byte is COPY_DATA, or in which kinds are
     * mixed, is copied whole. The target's cluster size. 0: 4 KiB. */
    uint64_t unit;
    /* zero_unit: a power of two: data is searched for zeros in pieces of this size, aligned to it.
     * 0: zeros are written like data, holes too. */
    uint64_t zero_unit;
    unsigned in_flight;   /* pieces at a time; 0: 8 */
    uint64_t rate;        /* bytes of data a second; 0: no limit */
    uint32_t write_flags; /* of data: REQ_COMPRESSED (unit is the cluster size then) */
    bool unordered;       /* start writes in any order; else by offset, so that a format allocates
                             in that order. They run side by side in either case */
    bool dst_zero;        /* dst reads as zeros: zeros need not be written */
    bool offload;         /* between two host files: let the kernel copy, share blocks if it can */
    bool whole_reads;     /* failed is told of a piece that cannot be read, not of its sectors */
    const struct copy_ops *ops; /* NULL: none */
    void *arg;
};

struct copy_result {
    bool reading; /* of a copy that failed: else writing */
    uint64_t off, len;
    uint64_t data_bytes, zero_bytes; /* that were written to dst, also before a failure */
};

/* copy_run: do it all; does not flush dst. 0 or -errno of the first failure, of which *result tells
 * (NULL allowed), and of how much was written; every piece that had begun has ended by then.
 * Memory: in_flight buffers of at most 2 MiB. Yields. */
int copy_run(const struct copy_opts *o, struct copy_result *result);

#endif
