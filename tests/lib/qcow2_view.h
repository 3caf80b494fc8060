/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What an image says, entry by entry, as far as it can be followed at all: for tests that compare
 * an image, however damaged, before and after a repair. Knows every feature but no rule: it judges
 * nothing, and shares nothing with qcow2/.
 */
#ifndef TESTS_LIB_QCOW2_VIEW_H
#define TESTS_LIB_QCOW2_VIEW_H

#include <stddef.h>

#include "tests/lib/qcow2_check.h"

struct qcv_item {
    uint32_t table;  /* 0: the active image; then the snapshots */
    uint64_t index;  /* of the guest cluster; UINT64_MAX: the snapshot itself */
    uint64_t entry;  /* without what is no content: COPIED, reserved bits, the place of zeros */
    uint64_t bitmap; /* of subclusters */
    uint64_t hash;   /* of the bytes in the file that it refers to; of the snapshot's name */
};

struct qcv {
    struct qcv_item *v;
    size_t n, cap;
    bool readable; /* the header makes sense so far */
};

/* qcv_take: free with qcv_free. Aborts without memory. */
void qcv_take(const struct qck_source *src, struct qcv *view);
void qcv_free(struct qcv *view);
/* qcv_same: NULL, or where they differ (in a static buffer). */
const char *qcv_same(const struct qcv *a, const struct qcv *b);

#endif
