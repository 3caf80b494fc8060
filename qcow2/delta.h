/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changes of refcounts, collected before they are applied: tables refer to clusters in any order,
 * refcount blocks want to be changed from one end to the other.
 */
#ifndef QCOW2_DELTA_H
#define QCOW2_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QC_DELTA_PAGE 16384 /* clusters */

/* By host cluster number. Bounded: full at QC_DELTA_PAGES pages, or when a number saturates. */
struct qc_delta {
    int16_t **page;
    uint64_t n_page;
    size_t used; /* pages that exist */
};

/* qc_delta_init: for clusters below n. False without memory. */
bool qc_delta_init(struct qc_delta *d, uint64_t n);
void qc_delta_free(struct qc_delta *d);
/* qc_delta_add: by is 1 or -1. -EAGAIN: apply and clear first; -ENOMEM. */
int qc_delta_add(struct qc_delta *d, uint64_t cluster, int by);
void qc_delta_clear(struct qc_delta *d);

/* A set of cluster numbers below n. */
struct qc_bits {
    uint64_t *word;
    uint64_t n;
};

bool qc_bits_init(struct qc_bits *b, uint64_t n);
void qc_bits_free(struct qc_bits *b);

static inline bool qc_bits_get(const struct qc_bits *b, uint64_t i)
{
    return i < b->n && (b->word[i / 64] >> (i % 64) & 1);
}

static inline void qc_bits_put(struct qc_bits *b, uint64_t i, bool on)
{
    uint64_t bit = UINT64_C(1) << (i % 64);
    b->word[i / 64] = on ? b->word[i / 64] | bit : b->word[i / 64] & ~bit;
}

/* qc_bits_next: the first member that is at least i; b->n if there is none. */
uint64_t qc_bits_next(const struct qc_bits *b, uint64_t i);

#endif
