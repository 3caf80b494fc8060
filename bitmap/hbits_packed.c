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
#include <limits.h>
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

#define NO_BIT INT_MAX

/* Going through the bits of a packed leaf. */
struct walk {
    int at; /* the present bit; NO_BIT: there is none any more */
    const uint8_t *next, *end;
    uint8_t gap[PACKED_MAX + 2]; /* *end and the next are read, too: 0 */
};

/* Behind a byte of 0: the bit that is meant, or the end. */
static int walk_far(struct walk *w, int at)
{
    for (const uint8_t *p = w->next; p <= w->end; p++) {
        at += FAR;
        if (*p) {
            w->next = p + 1;
            return at + *p;
        }
    }
    return NO_BIT;
}

/* To the next bit, if `go`; else stay. No branch but for rare distances: the caller's choice
 * between two leaves cannot be predicted. */
static inline void walk_step(struct walk *w, bool go)
{
    unsigned gap = *w->next;

    w->next += go;
    if (__builtin_expect(go & (gap == 0), false))
        w->at = w->next > w->end ? NO_BIT : walk_far(w, w->at);
    else
        w->at += (int)(gap & -(unsigned)go);
}

static void walk_begin(struct walk *w, const struct packed *p)
{
    memcpy(w->gap, p->gap, p->len);
    w->gap[p->len] = w->gap[p->len + 1] = 0;
    w->next = w->gap;
    w->end = w->gap + p->len;
    w->at = -1;
    walk_step(w, true);
}

/* The distances of the bits of x and y together; room for 2 * PACKED_MAX. */
static unsigned join(const struct packed *x, const struct packed *y, uint8_t *out, unsigned *count)
{
    struct walk a, b;
    int before = -1;
    unsigned len = 0, n = 0;

    walk_begin(&a, x);
    walk_begin(&b, y);
    for (;; n++) {
        int at = a.at < b.at ? a.at : b.at, gap = at - before;

        if (at == NO_BIT)
            break;
        for (; gap > FAR; gap -= FAR)
            out[len++] = 0;
        out[len++] = (uint8_t)gap;
        before = at;
        bool go_a = a.at == at, go_b = b.at == at;

        walk_step(&a, go_a);
        walk_step(&b, go_b);
    }
    *count = n;
    return len;
}

int packed_join(struct hbits *b, struct hnode **slot, const struct hnode *n, unsigned capacity)
{
    uint8_t gap[2 * PACKED_MAX];
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
