/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sparse memory: a hash table from chunk index to a reference-counted chunk.
 *
 * Crash exploration clones a disk thousands of times a second, changes a few sectors and hashes the
 * result. So a clone copies pointers only, a write copies one shared chunk, and each chunk keeps
 * its hash until it is written to. Counts are plain: a chunk never leaves its thread.
 */
#include "block/chunks_priv.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"

#define FIRST_CAP 16

struct chunk {
    uint32_t refs;
    bool hash_known;
    uint64_t hash; /* 0 = all zeros */
    uint8_t data[] __attribute__((aligned(16)));
};

void chunks_init(struct chunks *c, uint32_t chunk_size)
{
    assert(is_power_of_2(chunk_size) && chunk_size >= sizeof(uint64_t));
    *c = (struct chunks){.chunk_size = chunk_size};
}

static void chunk_unref(struct chunk *ch)
{
    if (ch && --ch->refs == 0)
        mem_free(ch);
}

void chunks_free(struct chunks *c)
{
    for (uint64_t i = 0; i < c->cap; i++)
        chunk_unref(c->slot[i].chunk);
    mem_free(c->slot);
    chunks_init(c, c->chunk_size);
}

bool chunks_clone(struct chunks *dst, const struct chunks *src)
{
    *dst = *src;
    if (!src->cap)
        return true;
    dst->slot = mem_alloc(src->cap * sizeof(*dst->slot));
    if (!dst->slot) {
        chunks_init(dst, src->chunk_size);
        return false;
    }
    memcpy(dst->slot, src->slot, src->cap * sizeof(*dst->slot));
    for (uint64_t i = 0; i < dst->cap; i++) {
        if (dst->slot[i].chunk)
            dst->slot[i].chunk->refs++;
    }
    return true;
}

/* The slot that holds index, or the empty one where it belongs. cap > n always. */
static struct chunk_slot *slot_for(const struct chunks *c, uint64_t index)
{
    uint64_t i = rng_hash(index) & (c->cap - 1);
    while (c->slot[i].chunk && c->slot[i].index != index)
        i = (i + 1) & (c->cap - 1);
    return &c->slot[i];
}

static struct chunk *chunk_find(const struct chunks *c, uint64_t index)
{
    return c->cap ? slot_for(c, index)->chunk : NULL;
}

static bool chunks_grow(struct chunks *c)
{
    struct chunks bigger = *c;
    bigger.cap = c->cap ? 2 * c->cap : FIRST_CAP;
    bigger.slot = mem_array(bigger.cap, sizeof(*bigger.slot));
    if (!bigger.slot)
        return false;
    for (uint64_t i = 0; i < c->cap; i++) {
        if (c->slot[i].chunk)
            *slot_for(&bigger, c->slot[i].index) = c->slot[i];
    }
    mem_free(c->slot);
    *c = bigger;
    return true;
}

/* Empty a slot and close the gap that it leaves in its probe sequence. */
static void chunk_drop(struct chunks *c, struct chunk_slot *gap)
{
    chunk_unref(gap->chunk);
    gap->chunk = NULL;
    c->n--;
    uint64_t mask = c->cap - 1;
    uint64_t hole = (uint64_t)(gap - c->slot);
    for (uint64_t i = (hole + 1) & mask; c->slot[i].chunk; i = (i + 1) & mask) {
        uint64_t home = rng_hash(c->slot[i].index) & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            c->slot[hole] = c->slot[i];
            c->slot[i].chunk = NULL;
            hole = i;
        }
    }
}

/* A chunk that may be written to: made if absent, copied if shared. NULL without memory. fresh:
 * the caller fills all of it. */
static struct chunk *chunk_own(struct chunks *c, uint64_t index, bool fresh)
{
    if (4 * (c->n + 1) > 3 * c->cap && !chunks_grow(c))
        return NULL;
    struct chunk_slot *s = slot_for(c, index);
    struct chunk *old = s->chunk;
    if (!old || old->refs > 1) {
        struct chunk *ch = mem_alloc(sizeof(*ch) + c->chunk_size);
        if (!ch)
            return NULL;
        if (old && !fresh)
            memcpy(ch->data, old->data, c->chunk_size);
        else if (!fresh)
            memset(ch->data, 0, c->chunk_size);
        ch->refs = 1;
        c->n += !old;
        chunk_unref(old);
        *s = (struct chunk_slot){.index = index, .chunk = ch};
    }
    s->chunk->hash_known = false;
    return s->chunk;
}

void chunks_read(const struct chunks *c, uint64_t off, void *buf, uint64_t len)
{
    uint8_t *dst = buf;
    while (len) {
        uint64_t in = off & (c->chunk_size - 1);
        uint64_t now = min_u64(len, c->chunk_size - in);
        const struct chunk *ch = chunk_find(c, off / c->chunk_size);
        if (ch)
            memcpy(dst, ch->data + in, now);
        else
            memset(dst, 0, now);
        dst += now;
        off += now;
        len -= now;
    }
}

bool chunks_write(struct chunks *c, uint64_t off, const void *buf, uint64_t len)
{
    const uint8_t *src = buf;
    while (len) {
        uint64_t in = off & (c->chunk_size - 1);
        uint64_t now = min_u64(len, c->chunk_size - in);
        struct chunk *ch = chunk_own(c, off / c->chunk_size, now == c->chunk_size);
        if (!ch)
            return false;
        memcpy(ch->data + in, src, now);
        src += now;
        off += now;
        len -= now;
    }
    return true;
}

/* Drop what lies wholly in [first, stop): by index or by table, whichever is shorter. */
static void chunks_drop_range(struct chunks *c, uint64_t first, uint64_t stop)
{
    if (stop - first <= c->cap) {
        for (uint64_t i = first; i < stop && c->n; i++) {
            struct chunk_slot *s = slot_for(c, i);
            if (s->chunk)
                chunk_drop(c, s);
        }
        return;
    }
    for (uint64_t i = 0; i < c->cap;) {
        struct chunk_slot *s = &c->slot[i];
        if (s->chunk && s->index >= first && s->index < stop)
            chunk_drop(c, s); /* may have pulled another one into this slot: look again */
        else
            i++;
    }
}

static bool zero_part(struct chunks *c, uint64_t off, uint64_t len)
{
    if (len == 0 || !chunk_find(c, off / c->chunk_size))
        return true;
    struct chunk *ch = chunk_own(c, off / c->chunk_size, false);
    if (!ch)
        return false;
    memset(ch->data + (off & (c->chunk_size - 1)), 0, len);
    return true;
}

bool chunks_zero(struct chunks *c, uint64_t off, uint64_t len)
{
    uint64_t end = off + len;
    uint64_t head = min_u64(len, -off & (c->chunk_size - 1));
    if (!zero_part(c, off, head))
        return false;
    off += head;
    uint64_t tail = (end - off) & (c->chunk_size - 1);
    if (!zero_part(c, end - tail, tail))
        return false;
    chunks_drop_range(c, off / c->chunk_size, (end - tail) / c->chunk_size);
    return true;
}

uint64_t chunks_run(const struct chunks *c, uint64_t off, uint64_t len, bool *held)
{
    uint64_t index = off / c->chunk_size;
    uint64_t run = min_u64(len, c->chunk_size - (off & (c->chunk_size - 1)));
    *held = chunk_find(c, index);
    if (c->n == 0)
        return len;
    while (run < len && !!chunk_find(c, ++index) == *held)
        run += min_u64(len - run, c->chunk_size);
    return run;
}

static uint64_t chunk_hash(struct chunk *ch, uint32_t size)
{
    if (ch->hash_known)
        return ch->hash;
    uint64_t h = 0x9e3779b97f4a7c15, any = 0;
    for (uint32_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t w;
        memcpy(&w, ch->data + i, sizeof(w));
        any |= w;
        h = (h ^ w) * 0x2127599bf4325c37;
        h ^= h >> 29;
    }
    ch->hash = any ? h | 1 : 0;
    ch->hash_known = true;
    return ch->hash;
}

uint64_t chunks_hash(const struct chunks *c)
{
    /* A sum, so that the order of the table does not matter. */
    uint64_t sum = 0;
    for (uint64_t i = 0; i < c->cap; i++) {
        struct chunk *ch = c->slot[i].chunk;
        uint64_t h = ch ? chunk_hash(ch, c->chunk_size) : 0;
        if (h)
            sum += rng_hash(h ^ rng_hash(c->slot[i].index));
    }
    return sum;
}
