/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How large an image would become.
 */
#ifndef QCOW2_MEASURE_H
#define QCOW2_MEASURE_H

#include "qcow2/inspect.h"
#include "qcow2/qcow2.h"

struct qc_measured { /* bytes */
    uint64_t required;
    uint64_t fully_allocated;
};

/* qc_measure: the file of an image made with opts, which are validated as by qc_create: holding
 * what src (NULL: nothing, opts->size) does, and with every cluster allocated. The numbers are
 * those of `qemu-img measure`: an upper bound, for all L2 tables are counted. With a backing file
 * all of src counts, since it is not known what of it is there. Yields. */
bool qc_measure(struct node *src, const struct qc_create_opts *opts, struct qc_measured *out,
                struct err **errp);
/* qc_measure_bitmaps: what the usable stored bitmaps of an image need in one with other clusters.
 */
uint64_t qc_measure_bitmaps(const struct qc_image_info *info, uint32_t cluster_size);

#endif
