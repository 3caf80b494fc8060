/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Between the packing of compressed clusters and the writing of them.
 */
#ifndef QCOW2_ZIP_PRIV_H
#define QCOW2_ZIP_PRIV_H

#include "qcow2/qcow2_priv.h"

#define QC_ZIP_BATCH 64 /* clusters */

/* Neighbouring clusters that are packed together. */
struct qc_zip_batch {
    struct qc *q;
    uint64_t cluster;   /* bytes */
    uint64_t guest_off; /* of the first */
    unsigned n;         /* at most QC_ZIP_BATCH */
    const uint8_t *src; /* n whole clusters */
    uint8_t *packed;    /* room for as much: cluster i begins at i * cluster */
    size_t *len;        /* of each, packed; 0: it does not get smaller */
};

/* qc_zip_pack: fill packed and len. 0 or -ENOMEM. Yields. */
int qc_zip_pack(struct qc_zip_batch *b);

#endif
