/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A large sparse bit array.
 *
 * A radix tree with fan-out 64 over leaves of 4096 bits. A subtree without a set bit does not exist
 * (NULL); a subtree whose bits are all set is one marker (ALL_ONES). So both an untouched disk and
 * a wholly dirty one cost a few bytes, and what a workload touches costs 520 bytes per 4096 bits.
 * The alternative, summary levels over one flat array (as QEMU's HBitmap has them), costs memory by
 * the size of the disk: 2 GiB for 1 PiB at 64 KiB.
 *
 * Invariants:
 *  - levels depends on n_bits alone, so trees of equal size have equal shape;
 *  - bits past n_bits are clear in leaves, and a node's capacity is what lies before n_bits: a
 * subtree that straddles the end may be ALL_ONES;
 *  - no node has count 0. A node that is full is replaced by ALL_ONES when it becomes so.
 */
#include "bitmap/hbits.h"

#include <assert.h>
#include <errno.h>

#include "base/bytes.h"
#include "base/mem.h"

#define LEAF_SHIFT 12
#define NODE_SHIFT 6
#define FAN_OUT 64
#define MAX_BITS (UINT64_C(1) << 60)

/* A leaf uses word, a node above it slot; both are 64 times 8 bytes. */
struct hnode {
    uint64_t count; /* set bits below */
    union {
        uint64_t word[FAN_OUT];
        struct hnode *slot[FAN_OUT];
    };
};

static struct hnode all_ones_marker;
#define ALL_ONES (&all_ones_marker)

struct hbits {
    uint64_t n_bits;
    uint64_t count;
    unsigned levels; /* of nodes above the leaves */
    struct hnode *root;
    uint64_t nodes; /* allocated */
};

/* A place in the tree: the slot of a subtree, and which bits the subtree holds. */
struct place {
    struct hnode **slot;
    unsigned level; /* 0 = leaf */
    uint64_t base;  /* its first bit */
};

static bool is_node(const struct hnode *n)
{
    return n && n != ALL_ONES;
}

static unsigned level_shift(unsigned level)
{
    return LEAF_SHIFT + NODE_SHIFT * level;
}

static unsigned levels_for(uint64_t n_bits)
{
    unsigned levels = 0;

    while (n_bits > UINT64_C(1) << level_shift(levels))
        levels++;
    return levels;
}

/* The end of the subtree at base, cut to the size of the array. */
static uint64_t place_end(const struct hbits *b, unsigned level, uint64_t base)
{
    return min_u64(base + (UINT64_C(1) << level_shift(level)), b->n_bits);
}

static struct place root_place(struct hbits *b)
{
    return (struct place){&b->root, b->levels, 0};
}

static struct place child_place(const struct place *p, unsigned i)
{
    unsigned level = p->level - 1;

    return (struct place){&(*p->slot)->slot[i], level,
                          p->base + ((uint64_t)i << level_shift(level))};
}

static unsigned child_index(unsigned level, uint64_t base, uint64_t bit)
{
    return (bit - base) >> level_shift(level - 1);
}

static struct hnode *hnode_new(struct hbits *b)
{
    struct hnode *n = mem_new(struct hnode);

    b->nodes += n != NULL;
    return n;
}

static void hnode_free(struct hbits *b, struct hnode *n)
{
    b->nodes--;
    mem_free(n);
}

static void subtree_free(struct hbits *b, struct hnode *n, unsigned level)
{
    if (!is_node(n))
        return;
    if (level > 0)
        for (unsigned i = 0; i < FAN_OUT; i++)
            subtree_free(b, n->slot[i], level - 1);
    hnode_free(b, n);
}

static uint64_t place_count(const struct hbits *b, const struct place *p)
{
    if (*p->slot == ALL_ONES)
        return place_end(b, p->level, p->base) - p->base;
    return *p->slot ? (*p->slot)->count : 0;
}

/* Mask of the bits of word w (of a leaf at base) that lie in [first, end). */
static uint64_t word_mask(uint64_t word_base, uint64_t first, uint64_t end)
{
    unsigned lo = first > word_base ? first - word_base : 0;
    unsigned hi = min_u64(end - word_base, 64);

    return (~UINT64_C(0) << lo) & (~UINT64_C(0) >> (64 - hi));
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

/* Replace NULL or ALL_ONES by a node that says the same. -ENOMEM: nothing changed. */
static int place_open(struct hbits *b, const struct place *p)
{
    uint64_t end = place_end(b, p->level, p->base);
    struct hnode *n;

    if (is_node(*p->slot))
        return 0;
    n = hnode_new(b);
    if (!n)
        return -ENOMEM;
    if (*p->slot == ALL_ONES) {
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

/* Drop the node again if it says no more than NULL or ALL_ONES would. */
static void place_settle(struct hbits *b, const struct place *p)
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
    }
}

/* Set or clear [first, end), which intersects the subtree. Without memory a part is left as it was;
 * counts are right in any case. */
static int place_fill(struct hbits *b, const struct place *p, uint64_t first, uint64_t end,
                      bool value)
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
    if (!is_node(n))
        return n == ALL_ONES;
    for (uint64_t at = round_down(first, 64); at <= last; at += 64) {
        uint64_t mask = word_mask(at, first, last + 1);

        if ((n->word[(at / 64) & (FAN_OUT - 1)] & mask) != mask)
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
    return sizeof(*b) + b->nodes * sizeof(struct hnode);
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

uint64_t hbits_next(const struct hbits *b, uint64_t from, bool *value)
{
    *value = hbits_test(b, from);
    return seek(b, b->root, b->levels, 0, from, *value);
}

static int place_or(struct hbits *dst, const struct place *p, const struct hnode *src)
{
    int ret;

    if (!src || *p->slot == ALL_ONES)
        return 0;
    if (src == ALL_ONES) {
        subtree_free(dst, *p->slot, p->level);
        *p->slot = ALL_ONES;
        return 0;
    }
    ret = place_open(dst, p);
    if (ret < 0)
        return ret;
    for (unsigned i = 0; i < FAN_OUT && ret == 0; i++) {
        struct hnode *n = *p->slot;

        if (p->level == 0) {
            n->count += __builtin_popcountll(src->word[i] & ~n->word[i]);
            n->word[i] |= src->word[i];
        } else if (src->slot[i]) {
            struct place c = child_place(p, i);
            uint64_t before = place_count(dst, &c);

            ret = place_or(dst, &c, src->slot[i]);
            n->count += place_count(dst, &c) - before;
        }
    }
    place_settle(dst, p);
    return ret;
}

int hbits_or(struct hbits *dst, const struct hbits *src)
{
    struct place root = root_place(dst);
    int ret;

    assert(dst->n_bits == src->n_bits);
    ret = place_or(dst, &root, src->root);
    dst->count = place_count(dst, &root);
    return ret;
}

/* Cut to n_bits, fewer than now. Needs no memory: what lies past the new end goes away as whole
 * subtrees, and in the one leaf that straddles it. */
static void shrink(struct hbits *b, uint64_t n_bits)
{
    struct place path[16], p = root_place(b);
    unsigned depth = 0;

    /* With the new size in force ALL_ONES subtrees that straddle the end shrink by themselves. */
    b->n_bits = n_bits;
    while (is_node(*p.slot)) {
        struct hnode *n = *p.slot;
        unsigned keep;

        path[depth++] = p;
        if (p.level == 0) {
            for (unsigned i = 0; i < FAN_OUT; i++) {
                uint64_t at = p.base + i * UINT64_C(64);
                uint64_t mask = n_bits <= at ? 0 : word_mask(at, at, n_bits);

                n->word[i] &= mask;
            }
            break;
        }
        keep = n_bits == p.base ? 0 : child_index(p.level, p.base, n_bits - 1) + 1;
        for (unsigned i = keep; i < FAN_OUT; i++) {
            subtree_free(b, n->slot[i], p.level - 1);
            n->slot[i] = NULL;
        }
        if (keep == 0)
            break;
        p = child_place(&p, keep - 1);
    }
    /* Only nodes on the path lost bits. */
    while (depth-- > 0) {
        struct hnode *n = *path[depth].slot;

        n->count = 0;
        for (unsigned i = 0; i < FAN_OUT; i++) {
            if (path[depth].level == 0) {
                n->count += __builtin_popcountll(n->word[i]);
            } else if (n->slot[i]) {
                struct place c = child_place(&path[depth], i);

                n->count += place_count(b, &c);
            }
        }
        place_settle(b, &path[depth]);
    }
    while (b->levels > levels_for(n_bits)) {
        struct hnode *old = b->root;

        if (is_node(old)) {
            b->root = old->slot[0];
            hnode_free(b, old);
        }
        b->levels--;
    }
    p = root_place(b);
    b->count = place_count(b, &p);
    if (n_bits == 0)
        b->root = NULL;
}

/* Before the array grows, ALL_ONES subtrees that straddle its end must name their bits, or the new
 * bits would count as set too. */
static int open_tail(struct hbits *b)
{
    struct place p = root_place(b);

    while (b->n_bits > 0) {
        uint64_t full_end = p.base + (UINT64_C(1) << level_shift(p.level));
        int ret;

        if (!*p.slot || full_end == b->n_bits)
            return 0;
        ret = place_open(b, &p);
        if (ret < 0 || p.level == 0)
            return ret;
        p = child_place(&p, child_index(p.level, p.base, b->n_bits - 1));
    }
    return 0;
}

int hbits_resize(struct hbits *b, uint64_t n_bits, bool value)
{
    uint64_t old = b->n_bits;
    unsigned levels = levels_for(n_bits);
    int ret;

    assert(n_bits <= MAX_BITS);
    if (n_bits < old)
        shrink(b, n_bits);
    if (n_bits <= old)
        return 0;

    ret = open_tail(b);
    if (ret < 0)
        return ret;
    while (b->levels < levels) {
        if (b->root) {
            struct hnode *top = hnode_new(b);

            if (!top) {
                shrink(b, old); /* takes the levels off again */
                return -ENOMEM;
            }
            top->slot[0] = b->root;
            top->count = b->count;
            b->root = top;
        }
        b->levels++;
    }
    b->n_bits = n_bits;
    ret = value ? fill(b, old, n_bits - old, true) : 0;
    if (ret < 0)
        shrink(b, old);
    return ret;
}
