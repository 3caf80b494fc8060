/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking an image: does what its tables refer to agree with its refcounts?
 */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct node;

struct qc_check_opts {
    /* found: called for each finding (several clusters in a row with the same one are one). leak:
     * space is wasted, but data are safe; else corruption. NULL: nobody wants to know. */
    void (*found)(void *arg, bool leak, const char *text);
    /* progress: called now and then; done of all units of work. May be NULL. */
    void (*progress)(void *arg, uint64_t done, uint64_t all);
    void *arg;
};

struct qc_check_report {
    uint64_t corruptions; /* entries or clusters that are wrong: data are lost or may become so */
    uint64_t leaks;       /* clusters whose refcount is too high */
    uint64_t total_clusters;                           /* of the guest disk */
    uint64_t allocated_clusters;                       /* of these, in the active image */
    uint64_t fragmented_clusters, compressed_clusters; /* of the allocated ones */
    uint64_t image_end_offset; /* bytes: the end of the last host cluster in use */
};

/* qc_check: judge the image in file, without opening it, its backing or its data file, and without
 * writing. Counts as `qemu-img check` does. False and *errp: it could not be checked (an I/O error,
 * no memory, a header that cannot be read or names what is not supported). Holds a byte or two
 * for each cluster of the file that is in use, and the refcount table. Yields. */
bool qc_check(struct node *file, const struct qc_check_opts *opts, struct qc_check_report *r,
              struct err **errp);

#endif
