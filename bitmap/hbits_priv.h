/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The tree behind hbits, for the files that work on it. Its rules are in hbits.c.
 */
#ifndef BITMAP_HBITS_PRIV_H
#define BITMAP_HBITS_PRIV_H

#include "base/bytes.h"
#include "bitmap/hbits.h"

#define LEAF_SHIFT 13
#define LEAF_WORDS 128
#define LEAF_MASK ((1u << LEAF_SHIFT) - 1)
#define NODE_SHIFT 6
#define FAN_OUT 64
#define MAX_BITS (UINT64_C(1) << 60)
#define PACKED_MAX 512 /* bytes: a leaf that takes more is not packed */

/* A leaf uses word, a node above it slot (and is allocated only that large). */
struct hnode {
    uint64_t count; /* set bits below */
    union {
        uint64_t word[LEAF_WORDS];
        struct hnode *slot[FAN_OUT];
    };
};

/* The subtree whose bits are all set: an address that is never read. */
extern struct hnode hbits_all_ones;
#define ALL_ONES (&hbits_all_ones)

struct hbits {
    uint64_t n_bits;
    uint64_t count;
    unsigned levels; /* of nodes above the leaves */
    struct hnode *root;
    uint64_t memory;     /* bytes of nodes and packed leaves */
    uint64_t pack_above; /* memory from which on leaves are packed */
};

/* A place in the tree: the slot of a subtree, and which bits the subtree holds. */
struct place {
    struct hnode **slot;
    unsigned level; /* 0 = leaf */
    uint64_t base;  /* its first bit */
};

/* A packed leaf is neither NULL nor ALL_ONES nor a node (hbits_packed.c). */
static inline bool is_packed(const struct hnode *n)
{
    return (uintptr_t)n & 1;
}

static inline bool is_node(const struct hnode *n)
{
    return n && n != ALL_ONES && !is_packed(n);
}

/* packed_make: pack the leaf in *slot. False: it has too many bits, or there is no memory. */
bool packed_make(struct hbits *b, struct hnode **slot);
void packed_free(struct hbits *b, struct hnode *n);
uint64_t packed_count(const struct hnode *n);
/* packed_words: set its bits in word[LEAF_WORDS]. */
void packed_words(const struct hnode *n, uint64_t *word);
/* packed_copy: n into the empty slot, or -ENOMEM. */
int packed_copy(struct hbits *b, struct hnode **slot, const struct hnode *n);
/* packed_join: the packed leaf in *slot |= n, as one that is packed, too. 1; 0, with nothing
 * changed: it would have too many bits, or all that are there (`capacity`); or -ENOMEM. */
int packed_join(struct hbits *b, struct hnode **slot, const struct hnode *n, unsigned capacity);
/* packed_union: the empty slot = x | y, packed like both of them. As packed_join. */
int packed_union(struct hbits *b, struct hnode **slot, const struct hnode *x, const struct hnode *y,
                 unsigned capacity);
/* packed_seek: the first bit in [from, end) whose value is not `value`, or end; within the leaf. */
unsigned packed_seek(const struct hnode *n, unsigned from, unsigned end, bool value);
/* packed_trim: drop bits from `end` on. Needs no memory. It may be empty then. */
void packed_trim(struct hnode *n, unsigned end);

static inline unsigned level_shift(unsigned level)
{
    return LEAF_SHIFT + NODE_SHIFT * level;
}

static inline unsigned levels_for(uint64_t n_bits)
{
    unsigned levels = 0;

    while (n_bits > UINT64_C(1) << level_shift(levels))
        levels++;
    return levels;
}

/* The end of the subtree at base, cut to the size of the array. */
static inline uint64_t place_end(const struct hbits *b, unsigned level, uint64_t base)
{
    return min_u64(base + (UINT64_C(1) << level_shift(level)), b->n_bits);
}

static inline struct place root_place(struct hbits *b)
{
    return (struct place){&b->root, b->levels, 0};
}

static inline struct place child_place(const struct place *p, unsigned i)
{
    unsigned level = p->level - 1;

    return (struct place){&(*p->slot)->slot[i], level,
                          p->base + ((uint64_t)i << level_shift(level))};
}

static inline unsigned child_index(unsigned level, uint64_t base, uint64_t bit)
{
    return (bit - base) >> level_shift(level - 1);
}

static inline uint64_t place_count(const struct hbits *b, const struct place *p)
{
    if (*p->slot == ALL_ONES)
        return place_end(b, p->level, p->base) - p->base;
    if (is_packed(*p->slot))
        return packed_count(*p->slot);
    return *p->slot ? (*p->slot)->count : 0;
}

/* Mask of the bits of word w (of a leaf at base) that lie in [first, end). */
static inline uint64_t word_mask(uint64_t word_base, uint64_t first, uint64_t end)
{
    unsigned lo = first > word_base ? first - word_base : 0;
    unsigned hi = min_u64(end - word_base, 64);

    return (~UINT64_C(0) << lo) & (~UINT64_C(0) >> (64 - hi));
}

/* place_open: replace NULL or ALL_ONES by a node that says the same. -ENOMEM: nothing changed. */
int place_open(struct hbits *b, const struct place *p);
/* place_settle: drop the node again if it says no more than NULL or ALL_ONES would. */
void place_settle(struct hbits *b, const struct place *p);
/* place_fill: set or clear [first, end), which intersects the subtree. Without memory a part is
 * left as it was; counts are right in any case. */
int place_fill(struct hbits *b, const struct place *p, uint64_t first, uint64_t end, bool value);
struct hnode *hnode_new(struct hbits *b, unsigned level);
void hnode_free(struct hbits *b, struct hnode *n, unsigned level);
/* subtree_free: n of that level, with all below it; NULL and ALL_ONES are allowed. */
void subtree_free(struct hbits *b, struct hnode *n, unsigned level);

#endif
