/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Repairing an image that nobody has open.
 */
#ifndef QCOW2_REPAIR_H
#define QCOW2_REPAIR_H

#include "qcow2/check.h"

enum qc_fix {
    QC_FIX_LEAKS, /* only lower refcounts that are too high */
    QC_FIX_ALL,
};

struct qc_repair_opts {
    struct qc_check_opts check;
    enum qc_fix fix;
    bool dry_run;             /* change nothing: say what a repair would leave */
    void (*again)(void *arg); /* something was repaired, the image is checked again. May be NULL. */
};

struct qc_repair_report {
    struct qc_check_report found; /* by the first check */
    struct qc_check_report left;  /* by the last */
    uint64_t corruptions_fixed, leaks_fixed;
};

/* qc_repair: check the image in file, repair it as far as that is safe, and check it again; with no
 * corruption left, its dirty and its corrupt bit are cleared. Without opening the image, its
 * backing or its data file. What the guest can read is not changed, data clusters are not written
 * to, and new refcount structures and snapshot tables are placed behind everything. A crash at any
 * moment leaves an image with the same content that can be repaired again; see repair.c. False and
 * *errp: an I/O error, no memory, or a header that qc_check does not take; what was repaired until
 * then stays. True does not say that nothing is left: r->left does. Yields. */
bool qc_repair(struct node *file, const struct qc_repair_opts *opts, struct qc_repair_report *r,
               struct err **errp);

#endif
