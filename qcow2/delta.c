/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changes of refcounts by host cluster, in pages that exist only where something changes. 32 MiB
 * hold those of 16 Mi clusters, 1 TiB of clusters of 64 KiB; the bound is twice that.
 */
#include "qcow2/delta.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

#define QC_DELTA_PAGES 2048
#define LIMIT 32000

bool qc_delta_init(struct qc_delta *d, uint64_t n)
{
    d->n_page = n / QC_DELTA_PAGE + 1;
    d->page = mem_array(d->n_page, sizeof(*d->page));
    return d->page != NULL;
}

void qc_delta_free(struct qc_delta *d)
{
    for (uint64_t i = 0; d->page && i < d->n_page; i++)
        mem_free(d->page[i]);
    mem_free(d->page);
    *d = (struct qc_delta){0};
}

int qc_delta_add(struct qc_delta *d, uint64_t cluster, int by)
{
    int16_t **p = &d->page[cluster / QC_DELTA_PAGE];
    if (!*p) {
        if (d->used == QC_DELTA_PAGES)
            return -EAGAIN;
        *p = mem_array(QC_DELTA_PAGE, sizeof(**p));
        if (!*p)
            return -ENOMEM;
        d->used++;
    }
    int16_t *at = &(*p)[cluster % QC_DELTA_PAGE];
    if (*at == LIMIT || *at == -LIMIT)
        return -EAGAIN;
    *at = (int16_t)(*at + by);
    return 0;
}

void qc_delta_clear(struct qc_delta *d)
{
    for (uint64_t i = 0; i < d->n_page; i++) {
        mem_free(d->page[i]);
        d->page[i] = NULL;
    }
    d->used = 0;
}

bool qc_bits_init(struct qc_bits *b, uint64_t n)
{
    b->n = n;
    b->word = mem_array(n / 64 + 1, sizeof(*b->word));
    return b->word != NULL;
}

void qc_bits_free(struct qc_bits *b)
{
    mem_free(b->word);
    *b = (struct qc_bits){0};
}

uint64_t qc_bits_next(const struct qc_bits *b, uint64_t i)
{
    while (i < b->n) {
        uint64_t rest = b->word[i / 64] >> (i % 64);
        if (rest) {
            i += (uint64_t)__builtin_ctzll(rest);
            break;
        }
        i = (i / 64 + 1) * 64;
    }
    return i < b->n ? i : b->n;
}
