/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Opening an image that was not closed cleanly: its refcounts were written lazily and may be wrong.
 * For reading they do not matter. For writing they are repaired first; nothing is written before
 * all that could refuse the image has been asked. Source: qcow2.txt, "incompatible_features".
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "qcow2/qcow2_priv.h"
#include "qcow2/repair.h"

bool qc_dirty_repair(struct node *file, struct err **errp)
{
    const struct qc_repair_opts repair = {.fix = QC_FIX_ALL};
    struct qc_repair_report r;
    log_warn("%s: the image was not closed cleanly; its refcounts are repaired", file->name);
    if (!qc_repair(file, &repair, &r, errp))
        return err_prefix(errp,
                          "the image was not closed cleanly (incompatible_features bit 0), and "
                          "its repair failed: ");
    if (r.left.corruptions)
        return err_set(
            errp, EIO,
            "the image was not closed cleanly (incompatible_features bit 0), and %" PRIu64
            " errors cannot be repaired; it can be opened read-only",
            r.left.corruptions);
    log_warn("%s: repaired: %" PRIu64 " corruptions, %" PRIu64 " leaked clusters", file->name,
             r.corruptions_fixed, r.leaks_fixed);
    return true;
}
