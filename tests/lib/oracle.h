/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a guest disk may hold, sector by sector, after failures and power cuts.
 *
 * Every change of the disk is told to the oracle when it is issued and when it ends. A sector of
 * 512 bytes may then hold
 *   - seen live: any value that no later acknowledged write has replaced;
 *   - after a power cut: any value that no later durable write has replaced.
 * "Later" means: issued after the other had ended. So a write in flight, one that failed and two at
 * the same time leave more than one legal value; anything else is "third content": another
 * address's data, metadata, stale clusters. A discard allows zeros and forbids nothing.
 *
 * Two clocks: ticks order what the test does; moments are those of the simulated disk (sim_seq) and
 * say what had happened when the power was cut.
 */
#ifndef TESTS_LIB_ORACLE_H
#define TESTS_LIB_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define SECTOR 512

struct oracle;
struct oracle_op;

/* oracle_new: a disk of size bytes, all zeros and durable, that may grow to max_size (multiples of
 * 512). Aborts without memory, as all functions here do. */
struct oracle *oracle_new(uint64_t size, uint64_t max_size);
void oracle_free(struct oracle *o);

enum oracle_kind {
    ORACLE_WRITE,
    ORACLE_ZERO,
    ORACLE_DISCARD, /* the part made of whole sectors may read as zeros */
};

/* oracle_begin: a change of [off, off + len) is about to be issued. data: WRITE: len bytes, copied.
 * now: sim_seq. No other change of a sector that it covers only in part may be in flight. */
struct oracle_op *oracle_begin(struct oracle *o, enum oracle_kind kind, uint64_t off, uint64_t len,
                               const void *data, uint64_t now);
/* oracle_end: it returned. durable: it was FUA. */
void oracle_end(struct oracle *o, struct oracle_op *op, bool ok, bool durable, uint64_t now);

/* oracle_tick: the present place in the order of events; a flush and a read note it first. */
uint64_t oracle_tick(struct oracle *o);
/* oracle_flushed: a flush issued at tick `since` succeeded. */
void oracle_flushed(struct oracle *o, uint64_t since, uint64_t now);

/* oracle_resize_*: the same for the size of the disk (growing only; one at a time). */
void oracle_resize_begin(struct oracle *o, uint64_t size, uint64_t now);
void oracle_resize_end(struct oracle *o, bool ok, uint64_t now);

/* How to judge. */
struct oracle_view {
    uint64_t at;    /* 0: live; else the moment of the power cut */
    uint64_t since; /* live: a read issued at this tick: only what was acknowledged before replaces,
                       and it may see parts of several values; 0: nothing is in flight any more */
};

#define ORACLE_TEXT_LEN 512

/* oracle_judge: is buf, read from off (multiple of 512), legal? Else text (ORACLE_TEXT_LEN bytes)
 * says which sector is not, and what it looks like. */
bool oracle_judge(const struct oracle *o, const struct oracle_view *view, uint64_t off,
                  const void *buf, uint64_t len, char *text);
bool oracle_judge_size(const struct oracle *o, const struct oracle_view *view, uint64_t size);
/* oracle_size: as the guest knows it now. */
uint64_t oracle_size(const struct oracle *o);

#endif
