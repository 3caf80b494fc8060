/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A hash table of pages, each with its bytes and one bit a byte. Zeros take a page too: what is
 * large is not meant to be held here. A page of which nothing is held is freed.
 */
#include "faults/pages.h"

#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"

#define PAGE ((uint64_t)4096)
#define WORDS (PAGE / 64)
#define SIZE_FIRST 64

struct page {
    uint64_t index;
    uint64_t held[WORDS];
    uint8_t data[PAGE];
};

static struct page **slot_of(struct page **slot, size_t size, uint64_t index)
{
    size_t i = rng_hash(index) & (size - 1);

    while (slot[i] && slot[i]->index != index)
        i = (i + 1) & (size - 1);
    return &slot[i];
}

static struct page *find(const struct pages *p, uint64_t index)
{
    return p->n ? *slot_of(p->slot, p->size, index) : NULL;
}

static bool make_room(struct pages *p)
{
    size_t size = p->size ? p->size * 2 : SIZE_FIRST;
    struct page **slot;

    if ((p->n + 1) * 2 <= p->size)
        return true;
    slot = mem_array(size, sizeof(slot[0]));
    if (!slot)
        return false;
    for (size_t i = 0; i < p->size; i++)
        if (p->slot[i])
            *slot_of(slot, size, p->slot[i]->index) = p->slot[i];
    mem_free(p->slot);
    p->slot = slot;
    p->size = size;
    return true;
}

static struct page *own(struct pages *p, uint64_t index)
{
    struct page *page = find(p, index);

    if (page || !make_room(p))
        return page;
    page = mem_new(struct page);
    if (!page)
        return NULL;
    page->index = index;
    *slot_of(p->slot, p->size, index) = page;
    p->n++;
    return page;
}

/* Free the page in *gap and close the gap in its probe sequence. */
static void drop_page(struct pages *p, struct page **gap)
{
    size_t mask = p->size - 1, hole = (size_t)(gap - p->slot);

    mem_free(*gap);
    *gap = NULL;
    p->n--;
    for (size_t i = (hole + 1) & mask; p->slot[i]; i = (i + 1) & mask) {
        size_t home = rng_hash(p->slot[i]->index) & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            p->slot[hole] = p->slot[i];
            p->slot[i] = NULL;
            hole = i;
        }
    }
}

/* Bits [from, to) of word w. */
static uint64_t word_bits(unsigned w, uint64_t from, uint64_t to)
{
    uint64_t lo = max_u64(from, (uint64_t)w * 64), hi = min_u64(to, (uint64_t)w * 64 + 64);

    if (lo >= hi)
        return 0;
    return (hi - lo == 64 ? UINT64_MAX : ((UINT64_C(1) << (hi - lo)) - 1)) << (lo % 64);
}

static void mark(struct page *page, uint64_t from, uint64_t to, bool held)
{
    for (unsigned w = from / 64; w < WORDS && (uint64_t)w * 64 < to; w++) {
        uint64_t bits = word_bits(w, from, to);

        page->held[w] = held ? page->held[w] | bits : page->held[w] & ~bits;
    }
}

bool pages_write(struct pages *p, uint64_t off, const void *buf, uint64_t len)
{
    const uint8_t *src = buf;

    while (len) {
        uint64_t in = off % PAGE, now = min_u64(len, PAGE - in);
        struct page *page = own(p, off / PAGE);

        if (!page)
            return false;
        if (src)
            memcpy(page->data + in, src, now);
        else
            memset(page->data + in, 0, now);
        mark(page, in, in + now, true);
        src = src ? src + now : NULL;
        off += now;
        len -= now;
    }
    return true;
}

bool pages_reserve(struct pages *p, uint64_t off, uint64_t len)
{
    for (uint64_t i = off / PAGE; len && i <= (off + len - 1) / PAGE; i++)
        if (!own(p, i))
            return false;
    return true;
}

static bool is_empty(const struct page *page)
{
    return bytes_are_zero(page->held, sizeof(page->held));
}

void pages_drop(struct pages *p, uint64_t off, uint64_t len)
{
    while (len && p->n) {
        uint64_t in = off % PAGE, now = min_u64(len, PAGE - in);
        struct page **at = slot_of(p->slot, p->size, off / PAGE);

        if (*at) {
            mark(*at, in, in + now, false);
            if (is_empty(*at))
                drop_page(p, at);
        }
        off += now;
        len -= now;
    }
}

/* Length of the run of equal bits at `in`, at most up to `end`. */
static uint64_t run_in(const struct page *page, uint64_t in, uint64_t end, bool *held)
{
    uint64_t at = in;

    *held = page->held[in / 64] >> in % 64 & 1;
    while (at < end) {
        uint64_t word = page->held[at / 64] >> at % 64;
        uint64_t other = *held ? ~word : word;
        uint64_t same = other ? (uint64_t)__builtin_ctzll(other) : 64;

        /* Bits that were shifted in are zeros: they end a run of held ones too early at most. */
        same = min_u64(same, 64 - at % 64);
        at += same;
        if (same == 0 || at % 64 != 0)
            break;
    }
    return min_u64(at, end) - in;
}

void pages_patch(const struct pages *p, uint64_t off, void *buf, uint64_t len)
{
    uint8_t *dst = buf;

    while (len && p->n) {
        uint64_t in = off % PAGE, now = min_u64(len, PAGE - in);
        const struct page *page = find(p, off / PAGE);

        for (uint64_t at = in; page && at < in + now;) {
            bool held;
            uint64_t run = run_in(page, at, in + now, &held);

            if (held)
                memcpy(dst + (at - in), page->data + at, run);
            at += run;
        }
        dst += now;
        off += now;
        len -= now;
    }
}

uint64_t pages_run(const struct pages *p, uint64_t off, uint64_t len, bool *held)
{
    uint64_t done = 0;

    *held = false;
    if (p->n == 0)
        return len;
    while (done < len) {
        uint64_t in = (off + done) % PAGE, now = min_u64(len - done, PAGE - in);
        const struct page *page = find(p, (off + done) / PAGE);
        bool here = false;
        uint64_t run = page ? run_in(page, in, in + now, &here) : now;

        if (done == 0)
            *held = here;
        else if (here != *held)
            break;
        done += run;
        if (run < now)
            break;
    }
    return done;
}

uint64_t pages_bytes(const struct pages *p)
{
    return p->n * sizeof(struct page) + p->size * sizeof(p->slot[0]);
}

void pages_free(struct pages *p)
{
    for (size_t i = 0; i < p->size; i++)
        mem_free(p->slot[i]);
    mem_free(p->slot);
    *p = (struct pages){0};
}
