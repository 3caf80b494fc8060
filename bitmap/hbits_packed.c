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
