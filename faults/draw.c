/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Draws: random numbers that belong to a request and not to a moment.
 *
 * A generator would give its numbers in the order of arrival, and that order is the clients' and
 * the kernel's. A hash of what is asked gives the same answer whenever it is asked. Only for the
 * second request of the same range must it differ, so these are counted: by a hash table of their
 * hashes. Two different requests with one hash of 64 bits would share a count; that harms nobody.
 */
#include "base/mem.h"
#include "base/rng.h"
#include "faults/fault_priv.h"

#define SIZE_FIRST 64
#define SIZE_MAX_SLOTS (1u << 16) /* 1 MiB for each fault that draws */

struct draw_slot {
    uint64_t key; /* 0: free */
    uint64_t met;
};

static struct draw_slot *slot_of(struct draw_slot *slot, size_t size, uint64_t key)
{
    size_t i = key & (size - 1);

    while (slot[i].key != 0 && slot[i].key != key)
        i = (i + 1) & (size - 1);
    return &slot[i];
}

/* At most half of the slots are used, so that a search always ends at a free one. */
static bool make_room(struct draws *t)
{
    size_t size = t->size ? t->size * 2 : SIZE_FIRST;
    struct draw_slot *slot;

    if (t->used * 2 < t->size)
        return true;
    slot = size <= SIZE_MAX_SLOTS ? mem_array(size, sizeof(slot[0])) : NULL;
    if (!slot)
        return false;
    for (size_t i = 0; i < t->size; i++)
        if (t->slot[i].key != 0)
            *slot_of(slot, size, t->slot[i].key) = t->slot[i];
    mem_free(t->slot);
    t->slot = slot;
    t->size = size;
    return true;
}

static uint64_t count_met(struct draws *t, uint64_t key)
{
    struct draw_slot *s = t->size ? slot_of(t->slot, t->size, key) : NULL;

    if (!s || s->key == 0) {
        if (!make_room(t))
            return 0;
        s = slot_of(t->slot, t->size, key);
        s->key = key;
        t->used++;
    }
    return s->met++;
}

uint64_t draw_next(struct draws *t, uint64_t seed, uint64_t id, const struct fault_req *q)
{
    uint64_t h = rng_hash(rng_hash(q->off + 1) ^ (q->len << 3) ^ q->op);

    return rng_hash(rng_hash(rng_hash(seed) ^ id) ^ h ^ rng_hash(count_met(t, h ? h : 1)));
}

void draws_free(struct draws *t)
{
    mem_free(t->slot);
    *t = (struct draws){0};
}

uint64_t draw_below(uint64_t draw, unsigned purpose, uint64_t n)
{
    /* The high half of a product: even, and without a division. */
    return (uint64_t)(((unsigned __int128)rng_hash(draw ^ rng_hash(purpose)) * n) >> 64);
}

bool draw_hits(uint64_t draw, unsigned purpose, double p)
{
    return (double)(rng_hash(draw ^ rng_hash(purpose)) >> 11) * 0x1p-53 < p;
}

uint64_t draw_text(const char *text)
{
    uint64_t h = 0;

    for (; *text; text++)
        h = rng_hash(h ^ (unsigned char)*text);
    return h;
}
