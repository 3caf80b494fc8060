/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Taking the active mapping away: all of it (an emptied overlay shows its backing file again), or
 * what lies beyond a smaller size.
 *
 * The new tables of the first step lie behind the old ones, which then become free. So a second
 * step makes all tables once more, which moves them forward, and then cuts the file off. It gains
 * space and nothing else, so what fails in it is no failure of the operation.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "qcow2/remake.h"

static void move_forward(struct qc *q)
{
    struct qc_remake m;
    int r = qc_remake_hold(&m, q);
    if (r == 0)
        r = qc_remake_begin(&m, 0);
    m.trim = true;
    if (r == 0)
        r = qc_remake_commit(&m);
    if (r == 0)
        qc_remake_truncate(&m);
    else
        log_warn("%s: the file could not be made smaller: error %d", q->node->name, -r);
    qc_remake_end(&m);
}

static int empty(struct qc *q)
{
    struct qc_remake m;
    AUTO_FREE uint8_t *none = mem_zalloc(max_u64(q->l1_size * 8, 8));
    if (!none)
        return -ENOMEM;
    int r = qc_remake_hold(&m, q);
    if (r == 0)
        r = qc_remake_begin(&m, 0);
    if (r == 0)
        r = qc_remake_refer(&m, q->l1, q->l1_size, 0, -1);
    if (r == 0) {
        m.l1 = none;
        m.trim = m.emptying = m.all_dirty = true;
        m.before_l1 = EV_L1_UPDATE;
        m.before_write = EV_EMPTY_IMAGE_PREPARE;
        r = qc_remake_commit(&m);
    }
    qc_remake_end(&m);
    return r;
}

bool qc_make_empty(struct node *n, struct err **errp)
{
    struct qc *q = n->state;
    if (q->raw_data) /* whose data file is to read as the image does */
        return err_set(errp, ENOTSUP, "%s: an image with a raw data file cannot be emptied",
                       n->name);
    int r = empty(q);
    if (r < 0)
        return err_set_errno(errp, -r, "%s: the image cannot be emptied", n->name);
    move_forward(q);
    return true;
}

bool qc_shrink(struct qc *q, uint64_t size, struct err **errp)
{
    struct qc_remake m;
    uint64_t per_l1 = UINT64_C(1) << q->l1_shift;
    int r = qc_remake_hold(&m, q);
    if (r == 0 && size >= m.size) /* it was the disk's size that came in between */
        r = -EBUSY;
    if (r == 0 && !qc_remake_resize(&m, size, errp)) {
        qc_remake_end(&m);
        return false;
    }
    if (r == 0)
        r = qc_remake_begin(&m, 0);
    if (r == 0) {
        m.cut = round_up(size, q->cluster_size);
        m.l1_size = min_u64(q->l1_size, size / per_l1 + (size % per_l1 != 0));
        m.trim = true;
        m.before_l1 = EV_L1_SHRINK_WRITE_TABLE;
        m.after_switch = EV_L1_SHRINK_FREE_L2_CLUSTERS;
        r = qc_remake_refer(&m, q->l1, q->l1_size, m.cut, -1);
        if (r == 0)
            r = qc_remake_commit(&m);
    }
    qc_remake_end(&m);
    if (r < 0)
        return err_set_errno(errp, -r, "it cannot be shrunk to %" PRIu64 " bytes", size);
    if (q->has_data_file && q->data->size > size && (r = node_truncate(q->data, size)) < 0)
        return err_set_errno(errp, -r, "it has been shrunk to %" PRIu64 " bytes, its data file not",
                             size);
    move_forward(q);
    return true;
}
