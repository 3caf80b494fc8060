/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What changes the whole of an hbits tree: joining two, and following the size of the array.
 */
#include <assert.h>
#include <errno.h>

#include "bitmap/hbits_priv.h"

/* The leaf at p |= word. */
static int leaf_or(struct hbits *dst, const struct place *p, const uint64_t *word)
{
    int ret = place_open(dst, p);
    struct hnode *n = *p->slot;

    if (ret < 0)
        return ret;
    for (unsigned i = 0; i < LEAF_WORDS; i++) {
        n->count += (unsigned)__builtin_popcountll(word[i] & ~n->word[i]);
        n->word[i] |= word[i];
    }
    place_settle(dst, p);
    return 0;
}

static int packed_or(struct hbits *dst, const struct place *p, const struct hnode *src)
{
    uint64_t word[LEAF_WORDS] = {0};
    int ret = 0;

    if (!*p->slot)
        return packed_copy(dst, p->slot, src);
    if (is_packed(*p->slot))
        ret = packed_join(dst, p->slot, src, (unsigned)(place_end(dst, 0, p->base) - p->base));
    if (ret != 0)
        return ret < 0 ? ret : 0;
    packed_words(src, word);
    return leaf_or(dst, p, word);
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
    if (is_packed(src))
        return packed_or(dst, p, src);
    if (p->level == 0)
        return leaf_or(dst, p, src->word);
    ret = place_open(dst, p);
    if (ret < 0)
        return ret;
    for (unsigned i = 0; i < FAN_OUT && ret == 0; i++) {
        struct hnode *n = *p->slot;

        if (src->slot[i]) {
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

/* The empty place = x | y. */
static int place_union(struct hbits *dst, const struct place *p, const struct hnode *x,
                       const struct hnode *y)
{
    int ret = 0;

    if (x && y && is_packed(x) && is_packed(y)) {
        ret = packed_union(dst, p->slot, x, y, (unsigned)(place_end(dst, 0, p->base) - p->base));
        if (ret != 0)
            return ret < 0 ? ret : 0;
    }
    if (p->level == 0 || !is_node(x) || !is_node(y)) {
        ret = place_or(dst, p, x);
        return ret < 0 ? ret : place_or(dst, p, y);
    }
    ret = place_open(dst, p);
    for (unsigned i = 0; i < FAN_OUT && ret == 0; i++) {
        struct place c = child_place(p, i);

        ret = place_union(dst, &c, x->slot[i], y->slot[i]);
        (*p->slot)->count += place_count(dst, &c);
    }
    if (ret == 0)
        place_settle(dst, p);
    return ret;
}

struct hbits *hbits_union(const struct hbits *a, const struct hbits *b)
{
    struct hbits *joined = hbits_new(a->n_bits);
    struct place root;

    assert(a->n_bits == b->n_bits);
    if (!joined)
        return NULL;
    root = root_place(joined);
    if (place_union(joined, &root, a->root, b->root) < 0) {
        hbits_free(joined);
        return NULL;
    }
    joined->count = place_count(joined, &root);
    return joined;
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
            for (unsigned i = 0; i < LEAF_WORDS; i++) {
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
    if (is_packed(*p.slot)) {
        packed_trim(*p.slot, (unsigned)(n_bits - p.base));
        if (packed_count(*p.slot) == 0) {
            packed_free(b, *p.slot);
            *p.slot = NULL;
        }
    }
    /* Only nodes on the path lost bits. */
    while (depth-- > 0) {
        struct hnode *n = *path[depth].slot;

        n->count = 0;
        for (unsigned i = 0; i < (path[depth].level ? FAN_OUT : LEAF_WORDS); i++) {
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
            hnode_free(b, old, b->levels);
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
            struct hnode *top = hnode_new(b, b->levels + 1);

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
    ret = value ? hbits_set(b, old, n_bits - old) : 0;
    if (ret < 0)
        shrink(b, old);
    return ret;
}
