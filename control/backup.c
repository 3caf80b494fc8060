/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The backup job.
 *
 * The target is the scratch of the view: what the guest is about to overwrite is copied there
 * first, to the place where the job would have put it. So nothing is stored twice, and the map of
 * the view says at any moment which units the target has. Two copies of one unit at a time do no
 * harm: both carry what the disk held at the point in time.
 *
 * A guest's write never fails for a backup's sake. If old data cannot be kept the view is broken
 * and the job fails.
 */
#include "control/backup.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "control/job.h"
#include "qcow2/qcow2.h"

#define UNIT_MIN (64 * KiB)
#define WORKERS 16

struct backup {
    struct copy_job copy; /* first */
    struct point point;
    struct graph_edge *target_use;
    struct node *target;
    uint64_t unit;
    enum backup_sync sync;
    enum backup_bitmap_mode mode;
    bool compress;
    uint64_t left_out; /* bytes of units that need no copy */
};

/* --- What is to be copied --- */

static void leave_out(struct backup *b, uint64_t off, uint64_t end)
{
    uint64_t size = b->point.view->size;

    off = round_up(off, b->unit);
    end = end == size ? end : round_down(end, b->unit);
    if (off < end)
        cbw_view_put(b->point.view, off, end - off);
}

/* A unit is copied if any byte of it is dirty. */
static void leave_out_clean(struct backup *b, const struct bitmap *bitmap)
{
    bool dirty;

    for (uint64_t off = 0, end; off < bitmap->size; off = end) {
        end = bitmap_next(bitmap, off, &dirty);
        if (!dirty)
            leave_out(b, off, end);
    }
}

/* sync=top: what the top image does not hold itself. A guest may write meanwhile: what is copied
 * for that before this comes by is in the target without need, and does no harm. */
static int leave_out_below(struct backup *b)
{
    struct node *n = b->point.use->child->node;
    uint64_t start = 0, off = 0, size = n->size;
    struct extents ext;
    int ret = 0;

    extents_init(&ext, 1);
    while (off < size && ret == 0) {
        ret = job_pause_point(b->copy.job);
        if (ret == 0)
            ret = node_depth(n, off, min_u64(size - off, GiB), &ext);
        if (ret == 0 && ext.n == 0)
            ret = -EIO;
        if (ret < 0)
            break;
        off += ext.v[0].len;
        if (ext.v[0].flags == 1) {
            leave_out(b, start, off - ext.v[0].len);
            start = off;
        }
    }
    if (ret == 0)
        leave_out(b, start, size);
    extents_free(&ext);
    return ret;
}

static void update_progress(struct job *j)
{
    struct backup *b = j->opaque;

    if (b && b->point.view)
        j->done = min_u64(j->total, cbw_view_done(b->point.view) - b->left_out);
}

static void count_work(struct backup *b)
{
    uint64_t size = b->point.view->size;

    b->left_out = cbw_view_done(b->point.view);
    b->copy.job->total = size > b->left_out ? size - b->left_out : 0;
}

/* --- Hooks of the copy engine --- */

static int map(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    struct backup *b = arg;
    struct extents ext;
    bool has;
    int ret;

    *got = min_u64(len, cbw_view_next(b->point.view, off, &has) - off);
    *kind = COPY_SKIP;
    if (has)
        return 0;
    extents_init(&ext, 1);
    ret = node_status(b->point.view, off, min_u64(*got, GiB), &ext);
    if (ret == 0 && ext.n == 0)
        ret = -EIO;
    if (ret == 0) {
        *got = min_u64(*got, ext.v[0].len);
        *kind = ext.v[0].flags & EXTENT_ZERO ? COPY_ZERO : COPY_DATA;
    }
    extents_free(&ext);
    return ret;
}

static void written(void *arg, uint64_t off, uint64_t len)
{
    struct backup *b = arg;

    cbw_view_put(b->point.view, off, len);
    update_progress(b->copy.job);
}

/* What broke the view is why the job fails. */
static enum copy_answer failed(void *arg, bool reading, uint64_t off, uint64_t len, int error)
{
    struct backup *b = arg;
    bool why_reading = reading;
    int why = cbw_view_error(b->point.view, &why_reading);

    if (b->copy.job->cancelled || !cbw_view_broken(b->point.view))
        return copy_job_failed(arg, reading, off, len, error);
    copy_job_report(&b->copy, why_reading, why < 0 ? -why : error);
    return COPY_FAIL;
}

/* --- The job --- */

static int copy_all(struct backup *b)
{
    static const struct copy_ops ops = {.map = map,
                                        .gate = copy_job_gate,
                                        .pace = copy_job_pace,
                                        .written = written,
                                        .failed = failed};
    struct copy_opts o = {
        .src = b->point.view,
        .dst = b->target,
        .len = b->point.view->size,
        .unit = b->unit,
        .zero_unit = b->unit,
        .in_flight = WORKERS,
        .write_flags = b->compress ? REQ_COMPRESSED : 0,
        .whole_reads = true,
        .ops = &ops,
        .arg = b,
    };
    struct copy_result where = {.reading = true};
    int ret = copy_run(&o, &where);

    if (ret < 0 && !b->copy.job->cancelled && !b->copy.failed)
        copy_job_report(&b->copy, where.reading, -ret);
    return ret;
}

/* Durable before anybody hears that it is done. */
static int flush_target(struct backup *b)
{
    int ret;

    while ((ret = node_flush(b->target)) < 0) {
        if (failed(b, false, 0, 0, -ret) == COPY_FAIL)
            return ret;
    }
    return 0;
}

/* sync=none: until it is cancelled, or cannot keep what is overwritten. */
static int keep_old_data(struct backup *b)
{
    struct job *j = b->copy.job;
    bool reading;
    int ret = job_pause_point(j);

    while (ret == 0 && !cbw_view_broken(b->point.view)) {
        co_queue_wait(&j->wake);
        ret = job_pause_point(j);
    }
    if (ret == 0) {
        ret = cbw_view_error(b->point.view, &reading);
        copy_job_report(&b->copy, reading, -ret);
    }
    return ret;
}

static bool backup_run(struct job *j, struct err **errp)
{
    struct backup *b = j->opaque;
    int ret = b->sync == BACKUP_TOP ? leave_out_below(b) : 0;

    if (ret < 0 && !j->cancelled)
        copy_job_report(&b->copy, true, -ret);
    count_work(b);
    if (ret == 0)
        ret = b->sync == BACKUP_NONE ? keep_old_data(b) : copy_all(b);
    if (ret == 0)
        ret = flush_target(b);
    update_progress(j);
    if (ret < 0)
        return copy_job_end(&b->copy, ret, errp);
    j->done = j->total;
    return true;
}

static void backup_commit(struct job *j)
{
    struct backup *b = j->opaque;

    point_settle(&b->point, b->mode != BACKUP_NEVER);
}

/* mode=always after a failure: what is not in the target is dirty besides what was written since.
 */
static void settle_partly(struct backup *b)
{
    struct bitmap *bitmap = b->point.bitmap;
    bool durable = node_flush(b->target) == 0, has;

    if (!durable && b->sync == BACKUP_BITMAP) {
        point_settle(&b->point, false);
        return;
    }
    point_settle(&b->point, true);
    if (!durable)
        bitmap_mark(bitmap, 0, bitmap->size);
    for (uint64_t off = 0, end; off < bitmap->size; off = end) {
        end = cbw_view_next(b->point.view, off, &has);
        if (!has)
            bitmap_mark(bitmap, off, end - off);
    }
}

static void backup_abort(struct job *j)
{
    struct backup *b = j->opaque;

    if (b->point.bitmap && b->mode == BACKUP_ALWAYS)
        settle_partly(b);
    else
        point_settle(&b->point, false);
}

static void backup_clean(struct job *j)
{
    struct backup *b = j->opaque;

    update_progress(j);
    point_free(&b->point);
    if (b->target_use)
        graph_unuse(&b->copy.ctl->graph, b->target_use);
    mem_free(b);
    j->opaque = NULL;
}

const struct job_ops backup_ops = {
    .type = "backup",
    .is_block = true,
    .run = backup_run,
    .commit = backup_commit,
    .abort = backup_abort,
    .clean = backup_clean,
    .set_speed = copy_job_set_speed,
    .update = update_progress,
};

static void on_broken(void *arg)
{
    struct backup *b = arg;

    co_queue_wake_all(&b->copy.job->wake);
}

static bool take_both(struct backup *b, const struct backup_wish *w, struct err **errp)
{
    AUTO_FREE char *user = mem_printf("job '%s'", w->job_id);
    struct cbw_view_opts view = {
        .cluster = (uint32_t)b->unit,
        .scratch_limit = UINT64_MAX,
        .scratch_fd = -1,
        .scratch = b->target,
        .scratch_flags = b->compress ? REQ_COMPRESSED : 0,
        .broken = on_broken,
        .arg = b,
    };

    if (!user)
        return err_set(errp, ENOMEM, "out of memory for a job");
    /* Others may read the target, and write to what lies below it: that may be the source. */
    b->target_use = graph_use(&b->copy.ctl->graph, w->target, user,
                              PERM_WRITE | PERM_CONSISTENT_READ, PERM_ALL & ~PERM_RESIZE, errp);
    if (!b->target_use ||
        !point_take(b->copy.ctl, &b->point, w->source, user, &view, w->bitmap, errp))
        return false;
    b->target_use->stays_as = b->point.use->stays_as = "block job: backup";
    if (b->sync == BACKUP_BITMAP)
        leave_out_clean(b, w->bitmap);
    count_work(b);
    return true;
}

struct job *backup_new(struct control *c, const struct backup_wish *w, struct err **errp)
{
    struct backup *b = mem_new(struct backup);
    struct job *j = b ? job_new(&c->jobs, &backup_ops, w->job_id, b, errp) : NULL;

    if (!b)
        err_set(errp, ENOMEM, "out of memory for a job");
    if (!j) {
        mem_free(b);
        return NULL;
    }
    *b = (struct backup){
        .copy = {.ctl = c, .job = j, .on_read = w->on_source, .on_write = w->on_target},
        .target = w->target->node,
        .unit = max_u64(UNIT_MIN, w->target->node->limits.cluster),
        .sync = w->sync,
        .mode = w->mode,
        .compress = w->compress,
    };
    j->speed = w->speed;
    j->auto_finalize = w->auto_finalize;
    j->auto_dismiss = w->auto_dismiss;
    if (take_both(b, w, errp))
        return j;
    backup_drop(j);
    return NULL;
}

void backup_drop(struct job *j)
{
    struct backup *b = j->opaque;

    point_settle(&b->point, false);
    backup_clean(j);
    job_drop(j);
}
