/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What convert, measure, rebase and commit share: opening images, showing progress.
 */
#include "cli/image_copy.h"

#include <errno.h>

#include "block/file.h"
#include "qcow2/qcow2.h"

struct node *image_source_open(const struct image_source *s, struct err **errp)
{
    if (s->snapshot && s->format != FORMAT_QCOW2) {
        err_set(errp, EINVAL, "%s: a raw image has no snapshots", s->path);
        return NULL;
    }
    const struct file_opts fo = {.path = s->path,
                                 .read_only = !s->writable,
                                 .direct = s->direct,
                                 .no_lock = s->no_lock,
                                 .no_flush = s->no_flush};
    struct node *file = image_file_open(&fo, s->rules, errp);
    if (!file || s->format == FORMAT_RAW)
        return file;
    const struct qc_open_opts qo = {.path = s->path,
                                    .backing_dir = s->backing_dir,
                                    .read_only = !s->writable,
                                    .no_backing = s->no_backing,
                                    .snapshot = s->snapshot,
                                    .backing = s->backing,
                                    .writable_backing = s->writable_backing,
                                    .direct = s->direct,
                                    .no_lock = s->no_lock};
    struct node *n = qc_open(file, &qo, errp);
    if (!n)
        node_unref(file);
    return n;
}

void image_meter_show(struct image_meter *m, uint64_t done, uint64_t all)
{
    /* As often as the digits change, and never 100 % before the end: that ends the line. */
    uint64_t now = all ? (uint64_t)(10000.0 * (double)done / (double)all) : 10000;
    if (!m->show || now == m->shown || done >= all)
        return;
    m->shown = now;
    image_progress(done, all);
}
