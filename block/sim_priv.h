/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Insides of the simulated disk, shared by its files.
 */
#ifndef BLOCK_SIM_PRIV_H
#define BLOCK_SIM_PRIV_H

#include "base/rng.h"
#include "block/chunks_priv.h"
#include "block/sim.h"

/* Content of a disk at some moment. */
struct sim_view {
    struct chunks chunks; /* the second part's begin at SIM_SECOND */
    uint64_t size[2];
};
bool sim_view_clone(struct sim_view *dst, const struct sim_view *src);
void sim_view_free(struct sim_view *v);

/* A log entry with what the crash rules need to know about it. */
struct sim_rec {
    struct sim_entry e;
    uint64_t index;      /* its place in the log */
    uint64_t touched;    /* WRITE, ZERO, DISCARD: bytes from off that reach the disk (less than len
                            if it failed, none if it failed outright); TRUNCATE: 1 or 0 */
    uint64_t ended;      /* sequence number of its end, well or not; 0 = in flight */
    uint64_t durable_at; /* sequence number of the event that made it durable; 0 = never */
    bool poisoned;       /* a failed flush covered it: no later flush makes it durable */
};

struct sim_disk {
    struct sim_view base; /* durable when the log began */
    struct sim_view now;
    struct sim_rec **rec; /* in order of issue */
    uint64_t *ended;      /* indexes into rec, in order of their ends */
    uint64_t n, cap, n_ended;
    uint64_t first_open; /* all records before it are durable, poisoned or need no flush */
    uint64_t seq;        /* of the last event */

    unsigned writers[2], readers[2]; /* open nodes of each part */
    unsigned in_flight;

    struct sim_fail fail;
    uint64_t io_count, fail_count; /* since sim_fail_nth: all, and those in fail.op_mask */
    bool fired;

    int64_t min_ns, max_ns;
    struct rng rng;
};

/* sim_disk_from: a disk with v's content, which it takes over also on failure. */
struct sim_disk *sim_disk_from(struct sim_view *v);

/* rec_changes: does it alter the disk (or may it have)? */
bool rec_changes(const struct sim_rec *rec);
/* rec_apply: do to v what rec did. False without memory. */
bool rec_apply(struct sim_view *v, const struct sim_rec *rec);
/* rec_apply_torn: only some of its units, chosen by seed: at least one, and not all, if it has
 * two. */
bool rec_apply_torn(struct sim_view *v, const struct sim_rec *rec, uint64_t seed, uint32_t unit);
bool rec_is_volatile(const struct sim_rec *rec, uint64_t at);

/* log_issue: append a record for r. NULL without memory. log_end: it is over, with result. */
struct sim_rec *log_issue(struct sim_disk *d, const struct req *r, unsigned part);
void log_end(struct sim_disk *d, struct sim_rec *rec, int result);
void log_free(struct sim_disk *d);

/* A moment of power cut, worked out once for the many states that it may leave. */
struct sim_cut {
    struct sim_view settled; /* base and the longest run of durable records after it */
    struct sim_step {
        const struct sim_rec *rec;
        unsigned keep_at; /* its number among the volatile ones, or CUT_DURABLE */
    } * step;             /* the rest, in the order in which they reached the disk */
    unsigned n_steps, n_volatile;
};
#define CUT_DURABLE UINT32_MAX
bool cut_init(struct sim_cut *cut, const struct sim_disk *d, uint64_t at);
void cut_free(struct sim_cut *cut);
/* cut_build: the content for one choice of what survives. False without memory. */
bool cut_build(const struct sim_cut *cut, const struct sim_crash *c, struct sim_view *out);

#endif
