/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Counters for host clusters, in pages that exist where something is in use, so that a sparse file
 * costs what its content does. Nearly all clusters of nearly all images have no reference or one,
 * so a page is three planes of bits: "the refcount on disk is one", and a counter of two bits. Runs
 * of clusters are then counted and compared 64 at a time. A page with a count over 3 (snapshots,
 * compressed clusters) gets 15 bits for each; the few counters that overflow even that (a hostile
 * image) go on in a hash table.
 */
#include <errno.h>

#include "qcow2/check_priv.h"

bool qcc_counts_init(struct qcc_counts *c, uint64_t clusters)
{
    *c = (struct qcc_counts){.n_pages = clusters / QCC_PAGE + 1};
    c->page = mem_array(c->n_pages, sizeof(*c->page));
    return c->page != NULL;
}

void qcc_counts_free(struct qcc_counts *c)
{
    for (size_t i = 0; c->page && i < c->n_pages; i++) {
        mem_free(c->page[i].word);
        mem_free(c->page[i].wide);
    }
    mem_free(c->page);
    mem_free(c->over);
    *c = (struct qcc_counts){0};
}

static struct qcc_over *over_slot(struct qcc_over *v, size_t cap, uint64_t cluster)
{
    size_t i = (size_t)((cluster * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (cap - 1);
    while (v[i].cluster_1 && v[i].cluster_1 != cluster + 1)
        i = (i + 1) & (cap - 1);
    return &v[i];
}

static int over_add(struct qcc_counts *c, uint64_t cluster, uint64_t n)
{
    if (c->over_n * 2 >= c->over_cap) {
        size_t cap = c->over_cap ? c->over_cap * 2 : 64;
        struct qcc_over *v = mem_array(cap, sizeof(*v));
        if (!v)
            return -ENOMEM;
        for (size_t i = 0; i < c->over_cap; i++)
            if (c->over[i].cluster_1)
                *over_slot(v, cap, c->over[i].cluster_1 - 1) = c->over[i];
        mem_free(c->over);
        c->over = v;
        c->over_cap = cap;
    }
    struct qcc_over *o = over_slot(c->over, c->over_cap, cluster);
    c->over_n += !o->cluster_1;
    o->cluster_1 = cluster + 1;
    o->more += n;
    return 0;
}

uint64_t qcc_counts_over(const struct qcc_counts *c, uint64_t cluster)
{
    return c->over ? over_slot(c->over, c->over_cap, cluster)->more : 0;
}

static int page_widen(struct qcc_page *p)
{
    uint16_t *wide = mem_alloc(QCC_PAGE * sizeof(*wide));
    if (!wide)
        return -ENOMEM;
    for (size_t i = 0; i < QCC_PAGE; i++)
        wide[i] = qcc_word_get(&p->word[i / 64], i % 64);
    mem_free(p->word);
    p->word = NULL;
    p->wide = wide;
    return 0;
}

static struct qcc_page *page_of(struct qcc_counts *c, uint64_t cluster)
{
    struct qcc_page *p = &c->page[cluster / QCC_PAGE];
    if (!p->word && !p->wide)
        p->word = mem_array(QCC_PAGE / 64, sizeof(*p->word));
    return p->word || p->wide ? p : NULL;
}

int qcc_counts_add(struct qcc_counts *c, uint64_t cluster, uint64_t n)
{
    struct qcc_page *p = page_of(c, cluster);
    if (!p)
        return -ENOMEM;
    if (p->word) {
        struct qcc_word *w = &p->word[cluster % QCC_PAGE / 64];
        unsigned bit = cluster % 64;
        uint64_t v = (w->lo >> bit & 1) + 2 * (w->hi >> bit & 1);
        if (n <= QCC_NARROW_MAX - v) {
            uint64_t sum = v + n, mask = UINT64_C(1) << bit;
            w->lo = (w->lo & ~mask) | (sum & 1) << bit;
            w->hi = (w->hi & ~mask) | (sum >> 1) << bit;
            return 0;
        }
        if (page_widen(p) < 0)
            return -ENOMEM;
    }
    uint16_t *v = &p->wide[cluster % QCC_PAGE];
    uint64_t room = QCC_MANY - (*v & QCC_MANY);
    uint64_t more = n > room ? n - room : 0;
    *v = (uint16_t)(*v + (n - more));
    return more ? over_add(c, cluster, more) : 0;
}

/* The bits of a word's clusters [from, from + n). */
static uint64_t bits_of(unsigned from, uint64_t n)
{
    return (n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << from;
}

int qcc_counts_add_run(struct qcc_counts *c, uint64_t first, uint64_t len, uint64_t n)
{
    while (len) {
        struct qcc_page *p = page_of(c, first);
        unsigned from = first % 64;
        uint64_t part = min_u64(len, 64 - from), mask = bits_of(from, part);
        struct qcc_word *w = p && p->word ? &p->word[first % QCC_PAGE / 64] : NULL;
        if (!p)
            return -ENOMEM;
        if (w && n == 1 && !(w->lo & w->hi & mask)) {
            w->hi ^= w->lo & mask; /* the carries */
            w->lo ^= mask;
        } else {
            for (uint64_t k = 0; k < part; k++) {
                int r = qcc_counts_add(c, first + k, n);
                if (r < 0)
                    return r;
            }
        }
        first += part;
        len -= part;
    }
    return 0;
}

void qcc_counts_drop(struct qcc_counts *c, uint64_t cluster)
{
    struct qcc_page *p = &c->page[cluster / QCC_PAGE];
    if (qcc_counts_over(c, cluster)) {
        over_slot(c->over, c->over_cap, cluster)->more--;
    } else if (p->word) {
        struct qcc_word *w = &p->word[cluster % QCC_PAGE / 64];
        uint64_t mask = UINT64_C(1) << cluster % 64;
        if (!((w->lo | w->hi) & mask))
            return;
        w->hi ^= ~w->lo & mask; /* the borrow */
        w->lo ^= mask;
    } else if (p->wide && (p->wide[cluster % QCC_PAGE] & QCC_MANY)) {
        p->wide[cluster % QCC_PAGE]--;
    }
}

int qcc_counts_set_ones(struct qcc_counts *c, uint64_t first, uint64_t ones)
{
    if (!ones)
        return 0;
    struct qcc_page *p = page_of(c, first);
    if (!p)
        return -ENOMEM;
    if (p->word) {
        p->word[first % QCC_PAGE / 64].one |= ones;
        return 0;
    }
    for (unsigned i = 0; i < 64; i++)
        if (ones >> i & 1)
            p->wide[first % QCC_PAGE + i] |= QCC_ONE;
    return 0;
}

bool qcc_counts_all_ones(const struct qcc_counts *c, uint64_t first, uint64_t len)
{
    while (len) {
        const struct qcc_page *p = &c->page[first / QCC_PAGE];
        unsigned from = first % 64;
        uint64_t part = min_u64(len, 64 - from), mask = bits_of(from, part);
        if (p->word) {
            if (~p->word[first % QCC_PAGE / 64].one & mask)
                return false;
        } else {
            for (uint64_t k = 0; k < part; k++)
                if (!(qcc_counts_raw(c, first + k) & QCC_ONE))
                    return false;
        }
        first += part;
        len -= part;
    }
    return true;
}
