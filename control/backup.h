/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The backup job: a point in time of a node, copied into another.
 */
#ifndef CONTROL_BACKUP_H
#define CONTROL_BACKUP_H

#include "control/copy_job.h"
#include "control/point.h"

enum backup_sync { BACKUP_FULL, BACKUP_TOP, BACKUP_NONE, BACKUP_BITMAP };
enum backup_bitmap_mode { BACKUP_ON_SUCCESS, BACKUP_ALWAYS, BACKUP_NEVER };

struct backup_wish {
    const char *job_id;
    struct graph_node *source, *target; /* the source is drained */
    enum backup_sync sync;
    struct bitmap *bitmap; /* idle; NULL: none */
    enum backup_bitmap_mode mode;
    enum on_error on_source, on_target;
    uint64_t speed; /* bytes a second; 0: no limit */
    bool compress, auto_finalize, auto_dismiss;
};

/* backup_new: a job that has its point in time and waits to be started (job_start). */
struct job *backup_new(struct control *c, const struct backup_wish *w, struct err **errp);
/* backup_drop: as if it had never been. The source has been drained ever since. */
void backup_drop(struct job *j);
extern const struct job_ops backup_ops;

#endif
