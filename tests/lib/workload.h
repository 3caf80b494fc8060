/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Seeded workloads on a qcow2 image on a simulated disk, each change told to an oracle.
 *
 * A workload is a row of a table (workload_table.c). Its fibers are coroutines that draw their
 * operations from the seed and run at the same time; the latency of the simulated disk interleaves
 * them. The same row, seed and failure give the same run, to the last I/O.
 */
#ifndef TESTS_LIB_WORKLOAD_H
#define TESTS_LIB_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "block/sim.h"
#include "qcow2/qcow2.h"
#include "tests/lib/oracle.h"

enum load_op {
    LOAD_WRITE,
    LOAD_WRITE_FUA,
    LOAD_ZERO,
    LOAD_ZERO_UNMAP,
    LOAD_ZERO_FUA,
    LOAD_DISCARD,
    LOAD_FLUSH,
    LOAD_READ,
    LOAD_RESIZE,
    LOAD_WRITE_PACKED, /* whole clusters, compressed */
    LOAD_BITMAP,       /* a stored bitmap is added or removed */
    LOAD_SNAPSHOT,     /* make one */
    LOAD_UNSNAPSHOT,   /* delete one */
    LOAD_REVERT,       /* apply one */
    LOAD_EMPTY,
    LOAD_OP_COUNT
};

struct workload {
    const char *name, *what;
    uint32_t version, cluster_size, refcount_bits;
    uint64_t size, max_size;       /* of the guest disk; bytes; max_size 0: it does not grow */
    uint64_t hot_off, hot_len;     /* most operations go here; the rest anywhere */
    uint64_t unit;                 /* offsets and lengths are multiples of this */
    uint64_t max_len;              /* longest operation */
    uint64_t l2_cache_bytes;       /* 0: default */
    uint64_t refcount_cache_bytes; /* 0: default */
    unsigned fibers, ops;          /* operations of each fiber */
    unsigned short_ops;            /* the same when every crash state is rebuilt */
    uint64_t prefill;              /* begin with so many bytes of data */
    bool shared;                   /* whose clusters look shared (16-bit refcounts) */
    bool packed;                   /* what it begins with is compressed */
    bool data_file;                /* the data is on the second part of the simulated disk */
    bool data_raw;                 /* as a raw image */
    bool extended_l2;              /* with subclusters */
    bool overlap;                  /* changes of the same sectors may be in flight together */
    bool sequential;               /* writes go one behind the other */
    bool bitmaps;                  /* it begins with a clear stored bitmap */
    int64_t latency_ns;            /* of the slowest I/O; 0: all is instantaneous */
    uint8_t weight[LOAD_OP_COUNT];
};

extern const struct workload workloads[];
extern const unsigned n_workloads;
/* workload_find: NULL if there is none of this name. */
const struct workload *workload_find(const char *name);

#define LOAD_MAX_BITMAPS 24
#define LOAD_BITMAP_GRANULARITY 512

/* A stored bitmap of a run; moments are sim_seq's. */
struct load_bitmap {
    char name[16];
    bool since_start;  /* clear when the run began */
    uint64_t added;    /* when it was known to be there; 0: it may not be */
    uint64_t removing; /* when its removal began; 0: never */
};

#define LOAD_TEXT_LEN (ORACLE_TEXT_LEN + 128)

#define LOAD_SNAPS 6

/* A snapshot that a run has made, or tried to; moments are sim_seq's. */
struct load_snap {
    char name[32];
    bool known;    /* its content is */
    uint8_t *data; /* size bytes */
    uint64_t size;
    uint64_t made;  /* when it was there for sure; 0: it is not known to be */
    uint64_t going; /* from when on it may be gone; 0: never */
};

struct load_run {
    /* In. */
    const struct workload *w;
    uint64_t seed;
    bool short_run;
    bool partial;          /* a write that fails may leave its sectors unstable, till rewritten */
    bool sticky_flush;     /* once the disk has failed a request, no flush may succeed */
    uint64_t mem_nth;      /* > 0: the allocation that fails, counted from before the opening */
    bool mem_sticky;       /* and all after it */
    struct sim_disk *disk; /* from load_create */
    struct oracle *oracle; /* from load_oracle */

    /* Out. */
    bool opened;
    bool flushed; /* the last flush, after all operations, succeeded */
    bool done;    /* it came to its end (else it hangs) */
    unsigned ok_ops, failed_ops;
    struct load_bitmap maps[LOAD_MAX_BITMAPS];
    unsigned n_maps;
    struct load_snap snap[LOAD_SNAPS]; /* free with load_snaps_free */
    unsigned n_snaps;
    bool mem_fired;              /* an allocation was refused */
    char problem[LOAD_TEXT_LEN]; /* "" = nothing wrong */
};

/* load_create: a disk with a new image for w, durable, its log empty. NULL on failure. Outside
 * coroutines, on a REACTOR_SIM reactor. load_oracle: what it holds: the content of load_fill with
 * key 0 as far as w->prefill says, and zeros. */
struct sim_disk *load_create(const struct workload *w);
struct oracle *load_oracle(const struct workload *w);
/* load_open: qc_open of the image on d, with its second part as the data file if it has one.
 * Yields. */
struct node *load_open(struct sim_disk *d, const struct qc_open_opts *opts, struct err **errp);
/* load_create_opts: what the image of w is made with. */
struct qc_create_opts load_create_opts(const struct workload *w);
/* load_run: open the image, run all fibers, flush, close. Returns when nothing is left to run; if
 * run->done is then false, something waits for ever. Outside coroutines, on a REACTOR_SIM reactor.
 */
void load_run(struct load_run *run);
void load_snaps_free(struct load_run *run);
/* load_fill: content that no other (key, offset) has. */
void load_fill(uint8_t *buf, uint64_t len, uint64_t key, uint64_t off);
/* load_fill_soft: the same, but it can be compressed: words are repeated within 64 bytes. */
void load_fill_soft(uint8_t *buf, uint64_t len, uint64_t key, uint64_t off);

#endif
