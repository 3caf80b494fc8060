/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Counters for host clusters, in pages that exist where something is in use, so that a sparse file
 * costs what its content does. A page has 7 bits for each cluster, and 15 once that is not enough
 * for one of them (many snapshots, many compressed clusters in one). The few counters that overflow
 * even that (a hostile image) go on in a hash table.
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
        mem_free(c->page[i].narrow);
        mem_free(c->page[i].wide);
    }
    mem_free(c->page);
    mem_free(c->over);
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
        wide[i] =
            (uint16_t)((p->narrow[i] & QCC_NARROW_ONE) << 8 | (p->narrow[i] & QCC_NARROW_MAX));
    mem_free(p->narrow);
    p->narrow = NULL;
    p->wide = wide;
    return 0;
}

static struct qcc_page *page_of(struct qcc_counts *c, uint64_t cluster)
{
    struct qcc_page *p = &c->page[cluster / QCC_PAGE];
    if (!p->narrow && !p->wide)
        p->narrow = mem_zalloc(QCC_PAGE);
    return p->narrow || p->wide ? p : NULL;
}

int qcc_counts_add(struct qcc_counts *c, uint64_t cluster, uint64_t n)
{
    struct qcc_page *p = page_of(c, cluster);
    if (!p)
        return -ENOMEM;
    if (p->narrow) {
        uint8_t *v = &p->narrow[cluster % QCC_PAGE];
        if (n <= (uint64_t)(QCC_NARROW_MAX - (*v & QCC_NARROW_MAX))) {
            *v = (uint8_t)(*v + n);
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

int qcc_counts_set_one(struct qcc_counts *c, uint64_t cluster)
{
    struct qcc_page *p = page_of(c, cluster);
    if (!p)
        return -ENOMEM;
    if (p->narrow)
        p->narrow[cluster % QCC_PAGE] |= QCC_NARROW_ONE;
    else
        p->wide[cluster % QCC_PAGE] |= QCC_ONE;
    return 0;
}
