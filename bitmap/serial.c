/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bitmaps as bytes: what is stored in images.
 *
 * Works on leaves of the tree, so that saving and loading cost about what copying the bytes
 * does. What is clear in the bytes costs no memory in the tree.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "bitmap/bitmap_priv.h"
#include "bitmap/hbits_priv.h"

#define PIECE_WORDS (HBITS_PIECE / 64)
#define PIECE_BYTES (HBITS_PIECE / 8)

_Static_assert(LEAF_WORDS % PIECE_WORDS == 0, "a leaf is made of whole pieces");

/* The leaf that holds bit `at`; or NULL, ALL_ONES, or a packed one. */
static const struct hnode *leaf_at(const struct hbits *b, uint64_t at)
{
    const struct hnode *n = b->root;

    for (unsigned level = b->levels; level > 0 && is_node(n); level--)
        n = n->slot[(at >> level_shift(level - 1)) & (FAN_OUT - 1)];
    return n;
}

/* The words of a piece begin in its leaf here. */
static unsigned first_word(uint64_t at)
{
    return (unsigned)(at & LEAF_MASK) / 64;
}

/* Word number i of the piece at `at`, without what lies past the end. */
static uint64_t cut(const struct hbits *b, uint64_t at, unsigned i, uint64_t word)
{
    uint64_t word_at = at + i * UINT64_C(64);

    if (word_at + 64 <= b->n_bits)
        return word;
    return word_at < b->n_bits ? word & word_mask(word_at, word_at, b->n_bits) : 0;
}

static void put_piece(const struct hbits *b, uint64_t at, uint8_t *out)
{
    const struct hnode *leaf = at < b->n_bits ? leaf_at(b, at) : NULL;
    uint64_t unpacked[LEAF_WORDS] = {0};
    const uint64_t *word = unpacked;

    if (!leaf) {
        memset(out, 0, PIECE_BYTES);
        return;
    }
    if (is_packed(leaf))
        packed_words(leaf, unpacked);
    else if (leaf != ALL_ONES)
        word = leaf->word;
    for (unsigned i = 0; i < PIECE_WORDS; i++)
        put_le64(out + i * 8,
                 cut(b, at, i, leaf == ALL_ONES ? UINT64_MAX : word[first_word(at) + i]));
}

void hbits_save(const struct hbits *b, uint64_t first, uint64_t n, uint8_t *out)
{
    assert(first % HBITS_PIECE == 0 && n % HBITS_PIECE == 0);
    for (uint64_t done = 0; done < n; done += HBITS_PIECE)
        put_piece(b, first + done, out + done / 8);
}

/* Join the piece that begins at bit `at` into the subtree. */
static int join_piece(struct hbits *b, const struct place *p, uint64_t at, const uint64_t *word)
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
        uint64_t *to = n->word + first_word(at);

        for (unsigned i = 0; i < PIECE_WORDS; i++) {
            n->count += (unsigned)__builtin_popcountll(word[i] & ~to[i]);
            to[i] |= word[i];
        }
    } else {
        struct place c = child_place(p, child_index(p->level, p->base, at));
        uint64_t before = place_count(b, &c);

        ret = join_piece(b, &c, at, word);
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
        uint64_t word[PIECE_WORDS], any = 0;

        for (unsigned i = 0; i < PIECE_WORDS; i++) {
            word[i] = cut(b, at, i, get_le64(bytes + i * 8));
            any |= word[i];
        }
        if (any)
            ret = join_piece(b, &root, at, word);
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
