/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A large sparse bit array.
 *
 * A radix tree with fan-out 64 over leaves of 8192 bits. A subtree without a set bit does not exist
 * (NULL); a subtree whose bits are all set is one marker (ALL_ONES). So both an untouched disk and
 * a wholly dirty one cost a few bytes, and what a workload touches costs 1032 bytes per 8192 bits,
 * less once there is a lot of it (hbits_packed.c). The alternative, summary levels over one flat
 * array (as QEMU's HBitmap has them), costs memory by the size of the disk: 2 GiB for 1 PiB at 64
 * KiB.
 *
 * Invariants:
 *  - levels depends on n_bits alone, so trees of equal size have equal shape;
 *  - bits past n_bits are clear in leaves, and a node's capacity is what lies before n_bits: a
 *    subtree that straddles the end may be ALL_ONES;
 *  - no node has count 0, and one that becomes full is replaced by ALL_ONES. (Only growth leaves
 *    full nodes at the old end, if it fails halfway.)
 */
#include "bitmap/hbits_priv.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "base/mem.h"

struct hnode hbits_all_ones;

static size_t hnode_size(unsigned level)
{
    const struct hnode *n = NULL;

    return offsetof(struct hnode, word) + (level ? sizeof(n->slot) : sizeof(n->word));
}

struct hnode *hnode_new(struct hbits *b, unsigned level)
{
    struct hnode *n = mem_zalloc(hnode_size(level));

    if (n)
        b->memory += hnode_size(level);
    return n;
}

void hnode_free(struct hbits *b, struct hnode *n, unsigned level)
{
    b->memory -= hnode_size(level);
    mem_free(n);
}

void subtree_free(struct hbits *b, struct hnode *n, unsigned level)
{
    if (is_packed(n))
        packed_free(b, n);
    if (!is_node(n))
        return;
    if (level > 0)
        for (unsigned i = 0; i < FAN_OUT; i++)
            subtree_free(b, n->slot[i], level - 1);
    hnode_free(b, n, level);
}

static void leaf_fill(struct hnode *leaf, uint64_t base, uint64_t first, uint64_t end, bool value)
{
    for (uint64_t at = round_down(first, 64); at < end; at += 64) {
        uint64_t *word = &leaf->word[(at - base) / 64];
        uint64_t mask = word_mask(at, first, end);

        leaf->count -= __builtin_popcountll(*word & mask);
        if (value) {
            *word |= mask;
            leaf->count += __builtin_popcountll(mask);
        } else {
            *word &= ~mask;
        }
    }
}

int place_open(struct hbits *b, const struct place *p)
{
    uint64_t end = place_end(b, p->level, p->base);
    struct hnode *n;

    if (is_node(*p->slot))
        return 0;
    n = hnode_new(b, p->level);
    if (!n)
        return -ENOMEM;
    if (is_packed(*p->slot)) {
        packed_words(*p->slot, n->word);
        n->count = packed_count(*p->slot);
        packed_free(b, *p->slot);
    } else if (*p->slot == ALL_ONES) {
        if (p->level == 0) {
            leaf_fill(n, p->base, p->base, end, true);
        } else {
            unsigned used = child_index(p->level, p->base, end - 1) + 1;

            for (unsigned i = 0; i < used; i++)
                n->slot[i] = ALL_ONES;
            n->count = end - p->base;
        }
    }
    *p->slot = n;
    return 0;
}

void place_settle(struct hbits *b, const struct place *p)
{
    struct hnode *n = *p->slot;

    if (!is_node(n))
        return;
    if (n->count == 0) {
        subtree_free(b, n, p->level);
        *p->slot = NULL;
    } else if (n->count == place_end(b, p->level, p->base) - p->base) {
        subtree_free(b, n, p->level);
        *p->slot = ALL_ONES;
    } else if (p->level == 0 && b->memory > b->pack_above) {
        packed_make(b, p->slot); /* or it stays as it is */
    }
}

int place_fill(struct hbits *b, const struct place *p, uint64_t first, uint64_t end, bool value)
{
    uint64_t own_end = place_end(b, p->level, p->base);
    struct hnode *uniform = value ? ALL_ONES : NULL;
    int ret;

    if (*p->slot == uniform)
        return 0;
    if (first <= p->base && end >= own_end) {
        subtree_free(b, *p->slot, p->level);
        *p->slot = uniform;
        return 0;
    }
    ret = place_open(b, p);
    if (ret < 0)
        return ret;

    first = max_u64(first, p->base);
    end = min_u64(end, own_end);
    if (p->level == 0) {
        leaf_fill(*p->slot, p->base, first, end, value);
    } else {
        unsigned last = child_index(p->level, p->base, end - 1);

        for (unsigned i = child_index(p->level, p->base, first); i <= last && ret == 0; i++) {
            struct place c = child_place(p, i);
            uint64_t before = place_count(b, &c);

            ret = place_fill(b, &c, first, end, value);
            (*p->slot)->count += place_count(b, &c) - before;
        }
    }
    place_settle(b, p);
    return ret;
}

/* True if [first, last] lies in one leaf or uniform subtree and is set. The hot path: most writes
 * of a running guest hit what is dirty already. */
static bool range_is_set(const struct hbits *b, uint64_t first, uint64_t last)
{
    const struct hnode *n = b->root;
    unsigned shift = level_shift(b->levels);

    if ((first ^ last) >> LEAF_SHIFT)
        return n == ALL_ONES;
    while (shift > LEAF_SHIFT) {
        if (!is_node(n))
            return n == ALL_ONES;
        shift -= NODE_SHIFT;
        n = n->slot[(first >> shift) & (FAN_OUT - 1)];
    }
    if (is_packed(n)) {
        unsigned from = first & LEAF_MASK, end = (last & LEAF_MASK) + 1;

        return packed_seek(n, from, end, true) == end;
    }
    if (!is_node(n))
        return n == ALL_ONES;
    for (uint64_t at = round_down(first, 64); at <= last; at += 64) {
        uint64_t mask = word_mask(at, first, last + 1);

        if ((n->word[(at / 64) & (LEAF_WORDS - 1)] & mask) != mask)
            return false;
    }
    return true;
}

struct hbits *hbits_new(uint64_t n_bits)
{
    struct hbits *b;

    assert(n_bits <= MAX_BITS);
    b = mem_new(struct hbits);
    if (!b)
        return NULL;
    b->n_bits = n_bits;
    b->levels = levels_for(n_bits);
    b->pack_above = HBITS_PACK_ABOVE;
    return b;
}

void hbits_free(struct hbits *b)
{
    if (!b)
        return;
    subtree_free(b, b->root, b->levels);
    mem_free(b);
}

uint64_t hbits_size(const struct hbits *b)
{
    return b->n_bits;
}

uint64_t hbits_count(const struct hbits *b)
{
    return b->count;
}

uint64_t hbits_memory(const struct hbits *b)
{
    return sizeof(*b) + b->memory;
}

void hbits_pack_above(struct hbits *b, uint64_t bytes)
{
    b->pack_above = bytes;
}

static int fill(struct hbits *b, uint64_t first, uint64_t n, bool value)
{
    struct place root = root_place(b);
    int ret;

    assert(first <= b->n_bits && n <= b->n_bits - first);
    if (n == 0)
        return 0;
    ret = place_fill(b, &root, first, first + n, value);
    b->count = place_count(b, &root);
    return ret;
}

int hbits_set(struct hbits *b, uint64_t first, uint64_t n)
{
    if (n > 0 && range_is_set(b, first, first + n - 1))
        return 0;
    return fill(b, first, n, true);
}

int hbits_clear(struct hbits *b, uint64_t first, uint64_t n)
{
    return fill(b, first, n, false);
}

bool hbits_test(const struct hbits *b, uint64_t bit)
{
    assert(bit < b->n_bits);
    return range_is_set(b, bit, bit);
}

bool hbits_test_all(const struct hbits *b, uint64_t first, uint64_t n)
{
    bool value;

    assert(n > 0 && first < b->n_bits && n <= b->n_bits - first);
    if ((first ^ (first + n - 1)) >> LEAF_SHIFT == 0)
        return range_is_set(b, first, first + n - 1);
    return hbits_next(b, first, &value) >= first + n && value;
}

/* The first bit of the leaf at or after `from` whose value is not `value`, or end. */
static uint64_t leaf_seek(const struct hnode *leaf, uint64_t base, uint64_t from, uint64_t end,
                          bool value)
{
    for (uint64_t at = round_down(from, 64); at < end; at += 64) {
        uint64_t word = leaf->word[(at - base) / 64];
        uint64_t hit = (value ? ~word : word) & word_mask(at, from, end);

        if (hit)
            return at + __builtin_ctzll(hit);
    }
    return end;
}

/* The first bit at or after `from` in the subtree whose value is not `value`, or the subtree's end.
 */
static uint64_t seek(const struct hbits *b, const struct hnode *n, unsigned level, uint64_t base,
                     uint64_t from, bool value)
{
    uint64_t end = place_end(b, level, base);

    if (is_packed(n))
        return base + packed_seek(n, (unsigned)(from - base), (unsigned)(end - base), value);
    if (!is_node(n))
        return (n == ALL_ONES) == value ? end : from;
    if (level == 0)
        return leaf_seek(n, base, from, end, value);
    while (from < end) {
        unsigned i = child_index(level, base, from);
        uint64_t child_base = base + ((uint64_t)i << level_shift(level - 1));
        uint64_t child_end = place_end(b, level - 1, child_base);
        uint64_t at = seek(b, n->slot[i], level - 1, child_base, from, value);

        if (at < child_end)
            return at;
        from = child_end;
    }
    return end;
}

/* The leaf that has its words and holds this bit, or NULL. */
static const struct hnode *leaf_with_words(const struct hbits *b, uint64_t bit)
{
    const struct hnode *n = b->root;

    for (unsigned shift = level_shift(b->levels); shift > LEAF_SHIFT;
         n = n->slot[(bit >> shift) & (FAN_OUT - 1)]) {
        if (!is_node(n))
            return NULL;
        shift -= NODE_SHIFT;
    }
    return is_node(n) ? n : NULL;
}

/* Most runs of a bitmap that has many end in the word that they begin in, or the next: they are
 * found with one way down the tree, which is what a list of them costs. */
uint64_t hbits_next(const struct hbits *b, uint64_t from, bool *value)
{
    const struct hnode *leaf = leaf_with_words(b, from);

    if (leaf) {
        uint64_t base = from & ~(uint64_t)LEAF_MASK, end = min_u64(base + LEAF_MASK + 1, b->n_bits);
        unsigned w = (unsigned)(from & LEAF_MASK) / 64, shift = from % 64;
        uint64_t word = leaf->word[w] >> shift;

        *value = word & 1;
        uint64_t hit = *value ? ~word << shift : word << shift;
        uint64_t at = hit ? round_down(from, 64) + (unsigned)__builtin_ctzll(hit)
                          : leaf_seek(leaf, base, round_down(from, 64) + 64, end, *value);
        if (at < end)
            return at;
        return seek(b, b->root, b->levels, 0, base + LEAF_MASK + 1, *value);
    }
    *value = hbits_test(b, from);
    return seek(b, b->root, b->levels, 0, from, *value);
}
