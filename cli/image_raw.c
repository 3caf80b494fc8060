/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Preallocating raw images, for create, convert and resize.
 */
#include <errno.h>

#include "cli/image.h"

int image_raw_preallocate(struct node *n, uint64_t from, uint64_t end, enum qc_preallocation mode)
{
    if (from >= end || mode == QC_PREALLOC_OFF)
        return 0;
    if (mode == QC_PREALLOC_FALLOC)
        return node_zero(n, from, end - from, 0);
    return mode == QC_PREALLOC_FULL ? node_write_zeros(n, from, end - from) : -ENOTSUP;
}

bool image_raw_judge(const struct image_opts *o, struct err **errp)
{
    if (o->has_qcow2_opts)
        return err_set(errp, EINVAL, "-o: a raw image has a size and a preallocation only");
    return o->qc.preallocation != QC_PREALLOC_METADATA ||
           err_set(errp, EINVAL, "-o preallocation: a raw image has no metadata");
}
