/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Packed leaves: leaves with few bits, as the distances between them.
 *
 * Bits that are scattered over a huge array cost a whole leaf each, or nearly so. Once a tree is
 * larger than HBITS_PACK_ABOVE, leaves that can be packed are: a byte for a bit, mostly. 1 % of the
 * bits of a disk of 1 PiB (at 64 KiB) then take 250 MiB of heap, which is not far from what they
 * hold in information; unpacked it would be 2.2 GiB. A leaf is unpacked to be changed, which costs
 * some microseconds; smaller trees, that is all of disks of up to 8 TiB, never pay for that.
 *
 * A distance is from the bit before (from -1 for the first): bytes of 0 that stand for 255, then
 * one of 1 to 255. The pointer to a packed leaf has its lowest bit set.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "bitmap/hbits_priv.h"

#define FAR 255

struct packed {
    uint16_t count; /* bits */
    uint16_t len;   /* bytes of gap in use */
    uint16_t room;  /* allocated */
    uint8_t gap[];
};

static struct packed *packed_of(const struct hnode *n)
{
    return (struct packed *)((uintptr_t)n & ~(uintptr_t)1);
}

/* The distances of a leaf's bits; out NULL: only their length. More than max is not looked for. */
static unsigned encode(const struct hnode *leaf, uint8_t *out, unsigned max)
{
    unsigned len = 0;
    int before = -1;

    for (unsigned w = 0; w < LEAF_WORDS && len <= max; w++) {
        for (uint64_t word = leaf->word[w]; word; word &= word - 1) {
            int at = (int)(w * 64) + __builtin_ctzll(word), gap = at - before;

            for (; gap > FAR; gap -= FAR, len++)
                if (out)
                    out[len] = 0;
            if (out)
                out[len] = (uint8_t)gap;
            len++;
            before = at;
        }
    }
    return len;
}

bool packed_make(struct hbits *b, struct hnode **slot)
{
    struct hnode *leaf = *slot;
    unsigned len = leaf->count > PACKED_MAX ? PACKED_MAX + 1 : encode(leaf, NULL, PACKED_MAX);
    struct packed *p = len > PACKED_MAX ? NULL : mem_alloc(sizeof(*p) + len);

    if (!p)
        return false;
    *p = (struct packed){(uint16_t)leaf->count, (uint16_t)len, (uint16_t)len};
    encode(leaf, p->gap, len);
    b->memory += sizeof(*p) + len;
    hnode_free(b, leaf, 0);
    *slot = (struct hnode *)((uintptr_t)p | 1);
    return true;
}

void packed_free(struct hbits *b, struct hnode *n)
{
    struct packed *p = packed_of(n);

    b->memory -= sizeof(*p) + p->room;
    mem_free(p);
}

uint64_t packed_count(const struct hnode *n)
{
    return packed_of(n)->count;
}

void packed_words(const struct hnode *n, uint64_t *word)
{
    const struct packed *p = packed_of(n);
    int at = -1;

    for (unsigned i = 0; i < p->len; i++) {
        at += p->gap[i] ? p->gap[i] : FAR;
        if (p->gap[i])
            word[at / 64] |= UINT64_C(1) << (at % 64);
    }
}

static struct hnode *packed_new(struct hbits *b, const uint8_t *gap, unsigned len, unsigned count)
{
    struct packed *p = mem_alloc(sizeof(*p) + len);

    if (!p)
        return NULL;
    *p = (struct packed){(uint16_t)count, (uint16_t)len, (uint16_t)len};
    memcpy(p->gap, gap, len);
    b->memory += sizeof(*p) + len;
    return (struct hnode *)((uintptr_t)p | 1);
}

int packed_copy(struct hbits *b, struct hnode **slot, const struct hnode *n)
{
    const struct packed *p = packed_of(n);
    struct hnode *copy = packed_new(b, p->gap, p->len, p->count);

    if (!copy)
        return -ENOMEM;
    *slot = copy;
    return 0;
}

/* The places of a leaf's bits, between two that are before and behind all of them. */
struct places {
    unsigned n;
    int16_t at[PACKED_MAX + 2]; /* of the bits: from 1 on */
};

static void decode(const struct packed *p, struct places *out)
{
    int at = -1;
    unsigned n = 0;

    out->at[0] = -1;
    for (unsigned i = 0; i < p->len; i++) {
        at += p->gap[i] ? p->gap[i] : FAR;
        out->at[n + 1] = (int16_t)at;
        n += p->gap[i] != 0;
    }
    out->at[n + 1] = INT16_MAX;
    out->n = n;
}

/* All places in order, those that both have twice; how many. Which of two is next cannot be
 * predicted: no branch depends on it. And each choice waits for the one before: so it is made from
 * both ends at a time, which meet in the middle. */
static unsigned merge(const struct places *x, const struct places *y, int16_t *out)
{
    unsigned n = x->n + y->n;
    const int16_t *a = x->at + 1, *b = y->at + 1, *last_a = x->at + x->n, *last_b = y->at + y->n;

    for (unsigned i = 0; i < n / 2; i++) {
        bool take_a = *a <= *b, take_last_b = *last_b >= *last_a;

        out[i] = take_a ? *a : *b;
        a += take_a;
        b += !take_a;
        out[n - 1 - i] = take_last_b ? *last_b : *last_a;
        last_b -= take_last_b;
        last_a -= !take_last_b;
    }
    if (n % 2)
        out[n / 2] = *a <= *b ? *a : *b;
    return n;
}

/* The distances of the bits of x and y together; room for one byte more than
 * 2 * PACKED_MAX. */
static unsigned join(const struct packed *x, const struct packed *y, uint8_t *out, unsigned *count)
{
    struct places a, b;
    int16_t all[2 * PACKED_MAX];
    unsigned n, len = 0, twice = 0;
    int before = -1;

    decode(x, &a);
    decode(y, &b);
    n = merge(&a, &b, all);
    for (unsigned i = 0; i < n; i++) {
        int gap = all[i] - before;

        for (; __builtin_expect(gap > FAR, false); gap -= FAR)
            out[len++] = 0;
        out[len] = (uint8_t)gap;
        len += gap != 0;
        twice += gap == 0;
        before = all[i];
    }
    *count = n - twice;
    return len;
}

int packed_union(struct hbits *b, struct hnode **slot, const struct hnode *x, const struct hnode *y,
                 unsigned capacity)
{
    uint8_t gap[2 * PACKED_MAX + 1];
    unsigned count, len = join(packed_of(x), packed_of(y), gap, &count);

    if (len > PACKED_MAX || count == capacity)
        return 0;
    *slot = packed_new(b, gap, len, count);
    return *slot ? 1 : -ENOMEM;
}

int packed_join(struct hbits *b, struct hnode **slot, const struct hnode *n, unsigned capacity)
{
    uint8_t gap[2 * PACKED_MAX + 1];
    unsigned count, len = join(packed_of(*slot), packed_of(n), gap, &count);

    if (len > PACKED_MAX || count == capacity)
        return 0;
    if (count == packed_count(*slot)) /* nothing new */
        return 1;

    struct hnode *joined = packed_new(b, gap, len, count);

    if (!joined)
        return -ENOMEM;
    packed_free(b, *slot);
    *slot = joined;
    return 1;
}

unsigned packed_seek(const struct hnode *n, unsigned from, unsigned end, bool value)
{
    const struct packed *p = packed_of(n);
    int at = -1, want = (int)from;

    for (unsigned i = 0; i < p->len; i++) {
        at += p->gap[i] ? p->gap[i] : FAR;
        if (!p->gap[i] || at < want)
            continue;
        if (!value) /* the first set bit */
            return (unsigned)at < end ? (unsigned)at : end;
        if (at > want) /* the first clear one */
            break;
        want++;
    }
    return !value || (unsigned)want > end ? end : (unsigned)want;
}

void packed_trim(struct hnode *n, unsigned end)
{
    struct packed *p = packed_of(n);
    unsigned count = 0, len = 0;
    int at = -1;

    for (unsigned i = 0; i < p->len; i++) {
        at += p->gap[i] ? p->gap[i] : FAR;
        if (at >= (int)end)
            break;
        if (p->gap[i]) {
            count++;
            len = i + 1;
        }
    }
    p->count = (uint16_t)count;
    p->len = (uint16_t)len;
}
