/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The simulated disk: RAM with a log, failures on demand, and every state that a power cut may
 * leave.
 *
 * A sim_disk outlives the nodes opened on it, as a real disk outlives a process. It logs every
 * write, zero, discard, truncate and flush. Its rules are those of a disk with a volatile cache:
 * a completed flush makes durable what completed before the flush was issued; a FUA write is
 * durable when it completes; everything else survives, vanishes, or tears at the atomic unit.
 * A flush that fails makes nothing durable, and (as a kernel does) what was volatile then may be
 * lost although later flushes succeed.
 *
 * A sim_disk may have a second part, which is opened as a node of its own: another disk, with its
 * own size and its own flushes, in the same log and under the same failures. So a format that keeps
 * its data in one file and its tables in another can be cut at one moment in both.
 *
 * Time is counted in events: every issue and every completion of a logged request has its own
 * sequence number, from 1. A moment `at` means: just before the event of that number; sim_seq is
 * the moment after all that has happened. So a cut can fall while any request is in flight.
 */
#ifndef BLOCK_SIM_H
#define BLOCK_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "block/node.h"

extern const struct driver sim_driver;

struct sim_disk;

struct sim_entry {  /* one line of the log */
    enum req_op op; /* WRITE, ZERO, DISCARD, TRUNCATE, FLUSH */
    enum req_kind kind;
    unsigned part; /* 0; 1: of the second disk */
    uint32_t flags;
    uint64_t off, len;
    const void *data;   /* WRITE: len bytes, owned by the log */
    uint64_t issued;    /* sequence number of its issue */
    uint64_t completed; /* and of its successful end; 0 = failed or in flight */
    int result;         /* 0 or -errno */
};

/* What a crash keeps. Volatile entries (not durable by the rules above) are numbered 0..n-1 in
 * order of issue; each is kept whole, lost, or torn: only some of its units kept. */
struct sim_crash {
    uint64_t at;         /* the power cut comes just before the event of this number */
    const uint8_t *keep; /* one byte a volatile entry: 0 lost, 1 kept, 2 torn */
    uint64_t tear_seed;  /* which units of a torn entry survive */
    uint32_t unit;       /* atomic unit in bytes: 512 or 4096 */
};

/* sim_disk_new: an empty disk; NULL without memory. sim_disk_free: no node may be open. */
struct sim_disk *sim_disk_new(uint64_t size);
void sim_disk_free(struct sim_disk *d);
/* sim_open: a growable node on d. At most one writable at a time. Does not yield. */
struct node *sim_open(struct sim_disk *d, bool read_only, struct err **errp);
/* sim_open_second: the same on the second part. */
struct node *sim_open_second(struct sim_disk *d, bool read_only, struct err **errp);

/* Raw access, outside the log: to fill and inspect the disk. load sets the size too, and empties
 * the second part. For peek, what is beyond SIM_SECOND is the second part's. */
#define SIM_SECOND (UINT64_C(1) << 48)
bool sim_disk_load(struct sim_disk *d, const void *data, uint64_t len);
void sim_disk_peek(const struct sim_disk *d, uint64_t off, void *buf, uint64_t len);
uint64_t sim_disk_size(const struct sim_disk *d);
uint64_t sim_second_size(const struct sim_disk *d);

/* Failures. Every I/O (reads too) counts. sim_fail_nth: the nth from now (1 = next) of the ops in
 * op_mask (bits 1 << op; 0 = all) returns -error without touching the data, or with `partial` after
 * doing the first half of a write (whole sectors of 512 bytes); sticky: so does every one after it.
 * nth 0 switches it off. */
struct sim_fail {
    uint64_t nth;
    int error;
    uint32_t op_mask;
    bool sticky, partial;
};
void sim_fail_nth(struct sim_disk *d, const struct sim_fail *f);
/* sim_io_count: I/Os of any kind since sim_fail_nth was last called. sim_fired: did it fire? */
uint64_t sim_io_count(const struct sim_disk *d);
bool sim_fired(const struct sim_disk *d);

/* sim_set_latency: each I/O takes min..max ns of simulated time, most of them little, drawn from
 * seed (0,0: none, it then does not yield). Lets concurrent requests interleave in seeded orders.
 */
void sim_set_latency(struct sim_disk *d, int64_t min_ns, int64_t max_ns, uint64_t seed);

/* sim_seq: the moment now: what has a smaller sequence number has happened. A test notes it when
 * its flush returns: what that flush covers must be in every state with how->at >= the noted
 * number. */
uint64_t sim_seq(const struct sim_disk *d);

/* The log, in order of issue. sim_log_mark: forget it and take the present content as durable base
 * (nothing may be in flight). Entries stay where they are until the next mark. False without
 * memory, with nothing changed. */
bool sim_log_mark(struct sim_disk *d);
uint64_t sim_log_len(const struct sim_disk *d);
const struct sim_entry *sim_log_at(const struct sim_disk *d, uint64_t i);

/* sim_volatile: how many volatile entries a power cut at `at` finds; fills idx (room for max) with
 * their log indexes in order of issue. */
unsigned sim_volatile(const struct sim_disk *d, uint64_t at, uint64_t *idx, unsigned max);
/* sim_crash_disk: a new disk with the content that the crash leaves; NULL without memory. */
struct sim_disk *sim_crash_disk(const struct sim_disk *d, const struct sim_crash *c);

/* Every legal state within bounds, in a seeded order: all subsets up to 2^max_full_bits volatile
 * entries, else prefixes, drop one, drop two, keep one, pairs and `samples` random subsets, with
 * tears sampled too. Moments between which nothing became durable are one group, visited at its
 * last moment (how->at), where all that can be volatile is; within a group, duplicates (by content
 * hash) are skipped: the same content may be legal early and not late. max_states (0: no bound) is
 * shared out between the groups. fn may write to state, which is freed after it returns; it returns
 * false to stop. how can be given to sim_crash_disk later to rebuild the state. Returns the number
 * of states visited; deterministic in seed. Without memory it stops early: mem_fail_nth must be
 * off.
 */
struct sim_explore {
    uint64_t seed;
    unsigned max_full_bits;
    unsigned samples;
    uint64_t max_states;
    uint32_t unit;
};
typedef bool sim_state_fn(struct sim_disk *state, const struct sim_crash *how, void *arg);
uint64_t sim_explore(const struct sim_disk *d, const struct sim_explore *x, sim_state_fn *fn,
                     void *arg);

#endif
