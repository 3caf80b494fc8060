/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bitmaps as bytes: what is stored in images.
 *
 * Works on whole leaves of the tree, so that saving and loading cost about what copying the bytes
 * does. What is clear in the bytes costs no memory in the tree.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "bitmap/bitmap_priv.h"
#include "bitmap/hbits_priv.h"

#define LEAF_BYTES (FAN_OUT * 8)

_Static_assert(HBITS_PIECE == LEAF_BYTES * 8, "a piece is a leaf");

/* The leaf that holds bit `at`, NULL or ALL_ONES. */
static const struct hnode *leaf_at(const struct hbits *b, uint64_t at)
{
    const struct hnode *n = b->root;

    for (unsigned level = b->levels; level > 0 && is_node(n); level--)
        n = n->slot[(at >> level_shift(level - 1)) & (FAN_OUT - 1)];
    return n;
}

static void put_leaf(const struct hbits *b, uint64_t at, uint8_t *out)
{
    const struct hnode *leaf = at < b->n_bits ? leaf_at(b, at) : NULL;

    if (!leaf) {
        memset(out, 0, LEAF_BYTES);
        return;
    }
    for (unsigned i = 0; i < FAN_OUT; i++) {
        uint64_t word_at = at + i * UINT64_C(64);
        uint64_t word = leaf == ALL_ONES ? UINT64_MAX : leaf->word[i];

        if (word_at + 64 > b->n_bits)
            word &= word_at < b->n_bits ? word_mask(word_at, word_at, b->n_bits) : 0;
        put_le64(out + i * 8, word);
    }
}

void hbits_save(const struct hbits *b, uint64_t first, uint64_t n, uint8_t *out)
{
    assert(first % HBITS_PIECE == 0 && n % HBITS_PIECE == 0);
    for (uint64_t done = 0; done < n; done += HBITS_PIECE)
        put_leaf(b, first + done, out + done / 8);
}

/* Join a leaf that begins at bit `at` into the subtree. */
static int join_leaf(struct hbits *b, const struct place *p, uint64_t at, const uint64_t *word)
{
    struct hnode *n;
    int ret;

    if (*p->slot == ALL_ONES)
        return 0;
    ret = place_open(b, p);
    if (ret < 0)
        return ret;
    n = *p->slot;
    if (p->level == 0) {
        for (unsigned i = 0; i < FAN_OUT; i++) {
            n->count += (unsigned)__builtin_popcountll(word[i] & ~n->word[i]);
            n->word[i] |= word[i];
        }
    } else {
        struct place c = child_place(p, child_index(p->level, p->base, at));
        uint64_t before = place_count(b, &c);

        ret = join_leaf(b, &c, at, word);
        n->count += place_count(b, &c) - before;
    }
    place_settle(b, p);
    return ret;
}

int hbits_load(struct hbits *b, uint64_t first, uint64_t n, const uint8_t *in)
{
    int ret = 0;

    assert(first % HBITS_PIECE == 0 && n % HBITS_PIECE == 0);
    for (uint64_t at = first; at < first + n && at < b->n_bits && ret == 0; at += HBITS_PIECE) {
        const uint8_t *bytes = in + (at - first) / 8;
        struct place root = root_place(b);
        uint64_t word[FAN_OUT], any = 0;

        for (unsigned i = 0; i < FAN_OUT; i++) {
            uint64_t word_at = at + i * UINT64_C(64);

            word[i] = get_le64(bytes + i * 8);
            if (word_at + 64 > b->n_bits)
                word[i] &= word_at < b->n_bits ? word_mask(word_at, word_at, b->n_bits) : 0;
            any |= word[i];
        }
        if (any)
            ret = join_leaf(b, &root, at, word);
        b->count = place_count(b, &root);
    }
    return ret;
}

uint64_t bitmap_stored_size(uint64_t disk_size, uint32_t granularity)
{
    return div_round_up(div_round_up(disk_size, granularity), 8);
}

enum bitmap_piece bitmap_piece_kind(const struct bitmap *b, uint64_t pos, uint64_t len)
{
    uint64_t size = hbits_size(b->bits), first = pos * 8, end = first + len * 8;
    bool value;

    if (first >= size)
        return BITMAP_PIECE_CLEAR;
    if (hbits_next(b->bits, first, &value) < min_u64(end, size))
        return BITMAP_PIECE_MIXED;
    if (!value)
        return BITMAP_PIECE_CLEAR;
    return end <= size ? BITMAP_PIECE_SET : BITMAP_PIECE_MIXED;
}

void bitmap_save(const struct bitmap *b, uint64_t pos, uint8_t *buf, uint64_t len)
{
    hbits_save(b->bits, pos * 8, len * 8, buf);
}

int bitmap_load(struct bitmap *b, uint64_t pos, const uint8_t *buf, uint64_t len)
{
    return hbits_load(b->bits, pos * 8, len * 8, buf);
}
