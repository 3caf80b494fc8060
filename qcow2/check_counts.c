/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Counters for host clusters: 15 bits each, in pages that exist where something is in use, so that
 * a sparse file costs what its content does. The few counters that overflow (compressed clusters,
 * or a hostile image) go on in a hash table.
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
    for (size_t i = 0; c->page && i < c->n_pages; i++)
        mem_free(c->page[i]);
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

static uint16_t *counter(struct qcc_counts *c, uint64_t cluster)
{
    uint16_t **page = &c->page[cluster / QCC_PAGE];
    if (!*page)
        *page = mem_array(QCC_PAGE, sizeof(**page));
    return *page ? &(*page)[cluster % QCC_PAGE] : NULL;
}

int qcc_counts_add(struct qcc_counts *c, uint64_t cluster, uint64_t n)
{
    uint16_t *v = counter(c, cluster);
    if (!v)
        return -ENOMEM;
    uint64_t room = QCC_MANY - (*v & QCC_MANY);
    uint64_t more = n > room ? n - room : 0;
    *v = (uint16_t)(*v + (n - more));
    return more ? over_add(c, cluster, more) : 0;
}

int qcc_counts_set_one(struct qcc_counts *c, uint64_t cluster)
{
    uint16_t *v = counter(c, cluster);
    if (!v)
        return -ENOMEM;
    *v |= QCC_ONE;
    return 0;
}
