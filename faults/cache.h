/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The model of a disk's volatile write cache: what was written and is not on the medium yet.
 *
 * Writes are recorded in the order in which they were acknowledged. What reads shall find lies in
 * one store of bytes beside them. Who moves a record to the medium (destages it) writes what reads
 * find in its range now and then takes it off: a medium never goes back to an older write.
 * Pure: no I/O.
 */
#ifndef FAULTS_CACHE_H
#define FAULTS_CACHE_H

#include "faults/fault.h"
#include "faults/pages.h"

enum cache_destage {
    DESTAGE_NONE,   /* only when it is full or flushed */
    DESTAGE_FIFO,   /* now and then the oldest */
    DESTAGE_RANDOM, /* now and then any */
    DESTAGE_COUNT
};

struct cache_conf {
    bool on;
    enum fault_layer layer; /* HOST or GUEST */
    uint64_t size;          /* bytes of data that it holds */
    uint32_t unit;          /* what cannot tear: 512 or 4096 */
    enum cache_destage destage;
    bool ignore_flush;
    unsigned states; /* most crash states to tell apart */
    uint64_t seed;
};

#define CACHE_SIZE_MIN (UINT64_C(1) << 20)
#define CACHE_SIZE_MAX (UINT64_C(4) << 30)
#define CACHE_SIZE_DEFAULT (UINT64_C(64) << 20)
#define CACHE_STATES_DEFAULT 1000
#define CACHE_STATES_MAX 100000

struct cache_rec {
    struct cache_rec *next;
    uint64_t number; /* from 1, in the order of the writes */
    uint64_t off, len;
    unsigned kind; /* as fault_req.kind */
    bool zero;     /* zeros, or not needed any more: no data */
    bool durable;  /* was forced to the medium, and stays here for what was written before it */
    uint8_t data[];
};

struct cache {
    struct cache_conf conf;
    struct cache_rec *head, *tail; /* oldest first */
    unsigned n;
    uint64_t bytes; /* of their data; zeros count, too */
    uint64_t number;
    struct pages now; /* what reads find; may hold more than the records */
};

/* cache_put: record a write of buf (NULL: zeros) and show it to reads. 0, or -ENOMEM with nothing
 * changed. */
int cache_put(struct cache *c, uint64_t off, const void *buf, uint64_t len, unsigned kind,
              bool durable);
/* cache_on_medium: rec is on the medium, and its bytes stay visible. It goes, with what is durable
 * behind it, if it is the oldest; else it stays as durable, for what is older. */
void cache_on_medium(struct cache *c, struct cache_rec *rec);
/* cache_pick: what to destage now, by the policy; NULL: nothing. The draw is of the seed and the
 * newest write. */
struct cache_rec *cache_pick(const struct cache *c);
/* cache_full: more is held than it may. */
bool cache_full(const struct cache *c);
/* cache_tidy: let go of bytes that no record needs any more, if there are many or no records. True:
 * some went, so a read of the medium from before may lack them. */
bool cache_tidy(struct cache *c);
/* cache_clear: forget everything. */
void cache_clear(struct cache *c);

/* rules_cache: what the [cache] section says; on is false without one. */
const struct cache_conf *rules_cache(const struct rules *r);
/* rules_need_cache: the fault ("file:line") that needs a [cache]; NULL: none. */
const char *rules_need_cache(const struct rules *r);

#endif
