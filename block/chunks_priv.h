/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A sparse array of bytes in memory, made of chunks of equal size that clones share until one of
 * them writes. Bytes never written read as zeros. The ground of the mem and sim leaves.
 */
#ifndef BLOCK_CHUNKS_PRIV_H
#define BLOCK_CHUNKS_PRIV_H

#include <stdbool.h>
#include <stdint.h>

struct chunk;
struct chunk_slot {
    uint64_t index;
    struct chunk *chunk; /* NULL: empty slot */
};

struct chunks { /* open addressing by index; cap is 0 or a power of two */
    uint32_t chunk_size;
    uint64_t n, cap;
    struct chunk_slot *slot;
};

/* chunks_init: chunk_size is a power of two. Allocates nothing. */
void chunks_init(struct chunks *c, uint32_t chunk_size);
void chunks_free(struct chunks *c);
/* chunks_clone: dst (not initialised) gets src's content without copying it. False without memory.
 */
bool chunks_clone(struct chunks *dst, const struct chunks *src);

void chunks_read(const struct chunks *c, uint64_t off, void *buf, uint64_t len);
/* chunks_write, chunks_zero: false without memory, then the range may be changed in part. */
bool chunks_write(struct chunks *c, uint64_t off, const void *buf, uint64_t len);
bool chunks_zero(struct chunks *c, uint64_t off, uint64_t len);
/* chunks_run: length (at most len) of the run at off that is all held or all not; *held says. */
uint64_t chunks_run(const struct chunks *c, uint64_t off, uint64_t len, bool *held);
/* chunks_hash: of the content: equal contents hash equal, however they came about. Cached a chunk.
 */
uint64_t chunks_hash(const struct chunks *c);

#endif
