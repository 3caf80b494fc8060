/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blockdev-backup and drive-backup, alone and as actions of transactions: which combinations of
 * sync and bitmap mode make sense, and what is wrong with the others in QEMU's words.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/file.h"
#include "block/node_bitmap.h"
#include "control/action.h"
#include "control/backup.h"
#include "control/blockdev.h"
#include "qcow2/qcow2.h"

static const char *const sync_names[] = {"top", "full", "none", "incremental", "bitmap", NULL};
static const char *const mode_names[] = {"on-success", "never", "always", NULL};

static const struct qtype q_sync = {.kind = Q_ENUM, .name = "MirrorSyncMode", .values = sync_names};
static const struct qtype q_mode = {.kind = Q_ENUM, .name = "BitmapSyncMode", .values = mode_names};
#define BACKUP_MEMBERS                                                                             \
    {"job-id", &q_str, true}, {"device", &q_str, false}, {"sync", &q_sync, false},                 \
        {"speed", &q_int, true}, {"bitmap", &q_str, true}, {"bitmap-mode", &q_mode, true},         \
        {"compress", &q_bool, true}, {"on-source-error", &q_on_error, true},                       \
        {"on-target-error", &q_on_error, true}, {"auto-finalize", &q_bool, true},                  \
        {"auto-dismiss", &q_bool, true},                                                           \
    {                                                                                              \
        "target", &q_str, false                                                                    \
    }
const struct qtype q_blockdev_backup = {
    .kind = Q_STRUCT, .name = "BlockdevBackup", .member = Q_MEMBERS(BACKUP_MEMBERS)};
const struct qtype q_drive_backup = {.kind = Q_STRUCT,
                                     .name = "DriveBackup",
                                     .member = Q_MEMBERS(BACKUP_MEMBERS, {"format", &q_str, true},
                                                         {"mode", &q_new_image_mode, true})};

static enum backup_sync sync_of(const char *name)
{
    if (strcmp(name, "full") == 0)
        return BACKUP_FULL;
    if (strcmp(name, "top") == 0)
        return BACKUP_TOP;
    return strcmp(name, "none") == 0 ? BACKUP_NONE : BACKUP_BITMAP;
}

/* Does the bitmap mode go with the rest? *mode: what it comes to. */
static bool check_mode(const json_t *args, const char **mode, struct err **errp)
{
    const char *sync = arg_str(args, "sync");
    bool incremental = strcmp(sync, "incremental") == 0, given = arg_has(args, "bitmap");

    *mode = arg_str(args, "bitmap-mode");
    if ((incremental || strcmp(sync, "bitmap") == 0) && !given)
        return err_set(errp, EINVAL, "must provide a valid bitmap name for '%s' sync mode", sync);
    if (incremental && *mode && strcmp(*mode, "on-success") != 0)
        return err_set(errp, EINVAL,
                       "Bitmap sync mode must be 'on-success' when using sync mode '%s'", sync);
    if (incremental)
        *mode = "on-success";
    if (!given && *mode)
        return err_set(errp, EINVAL, "Cannot specify bitmap sync mode without a bitmap");
    return true;
}

static bool check_bitmap(const json_t *args, const char *mode, const struct bitmap *b,
                         struct err **errp)
{
    const char *sync = arg_str(args, "sync");

    if (!b)
        return err_set(errp, ENOENT, "Bitmap '%s' could not be found", arg_str(args, "bitmap"));
    if (!mode)
        return err_set(errp, EINVAL, "Bitmap sync mode must be given when providing a bitmap");
    if (!bitmap_check_idle(b, errp))
        return false;
    if (strcmp(sync, "none") == 0)
        return err_set(errp, EINVAL, "sync mode 'none' does not produce meaningful bitmap outputs");
    if (strcmp(mode, "never") == 0 && strcmp(sync, "bitmap") != 0)
        return err_set(errp, EINVAL,
                       "Bitmap sync mode 'never' has no meaningful effect when combined with sync "
                       "mode '%s'",
                       sync);
    /* What is read-only could not be brought up to date when the job ends. */
    return strcmp(mode, "never") == 0 || bitmap_check_writable(b, errp);
}

static bool is_existing(const json_t *args)
{
    const char *mode = arg_str(args, "mode");

    return mode && strcmp(mode, "existing") == 0;
}

static bool wish_bitmap(const json_t *args, struct backup_wish *w, struct err **errp)
{
    const char *mode, *name = arg_str(args, "bitmap");

    if (!check_mode(args, &mode, errp))
        return false;
    if (!name)
        return true;
    w->bitmap = node_bitmap_find(w->source->node, name);
    if (!check_bitmap(args, mode, w->bitmap, errp))
        return false;
    w->mode = strcmp(mode, "on-success") == 0 ? BACKUP_ON_SUCCESS
              : strcmp(mode, "always") == 0   ? BACKUP_ALWAYS
                                              : BACKUP_NEVER;
    return true;
}

static bool check_nodes(const struct backup_wish *w, struct err **errp)
{
    uint64_t size = w->source->node->size;

    if (w->source == w->target)
        return err_set(errp, EINVAL, "Source and target cannot be the same");
    if (graph_writes_reach(w->target, w->source))
        return err_set(errp, EINVAL, "What is written to target '%s' would change source '%s'",
                       w->target->name, w->source->name);
    if (w->compress && w->target->node->drv != &qcow2_driver)
        return err_set(errp, ENOTSUP, "Compression is not supported for this drive %s",
                       w->target->name);
    if (size != w->target->node->size)
        return err_set(errp, EINVAL, "Source and target image have different sizes");
    return graph_check_jobless(w->target, errp);
}

/* All but the target. */
static bool make_wish(struct control *c, const json_t *args, struct backup_wish *w,
                      struct err **errp)
{
    const char *source = arg_str(args, "device"), *id = arg_str(args, "job-id");

    w->source = blockdev_find(c, source, true, errp);
    if (!w->source)
        return false;
    w->job_id = id ? id : source;
    w->sync = sync_of(arg_str(args, "sync"));
    w->on_source = on_error_of(args, "on-source-error");
    w->on_target = on_error_of(args, "on-target-error");
    w->compress = arg_bool(args, "compress", false);
    w->auto_finalize = arg_bool(args, "auto-finalize", true);
    w->auto_dismiss = arg_bool(args, "auto-dismiss", true);
    return speed_of(args, &w->speed, errp);
}

static bool make_job(struct control *c, struct action *a, const struct backup_wish *w,
                     struct err **errp)
{
    a->job = check_nodes(w, errp) ? backup_new(c, w, errp) : NULL;
    if (a->job && a->group)
        job_txn_join(a->job, a->group);
    return a->job;
}

static bool prepare_backup(struct control *c, struct action *a, struct err **errp)
{
    struct backup_wish w = {0};

    if (!make_wish(c, a->data, &w, errp))
        return false;
    w.target = blockdev_find(c, arg_str(a->data, "target"), true, errp);
    return w.target && wish_bitmap(a->data, &w, errp) && make_job(c, a, &w, errp);
}

/* --- drive-backup: the target is a file, made for the job --- */

static const char *format_of(const json_t *args, const struct backup_wish *w)
{
    const char *format = arg_str(args, "format");

    if (format || is_existing(args))
        return format;
    return graph_unfiltered(w->source)->node->drv == &qcow2_driver ? "qcow2" : "raw";
}

static bool check_format(const char *format, struct err **errp)
{
    if (!format)
        return err_set(errp, EINVAL,
                       "Parameter 'format' is missing: the format of an existing file is not "
                       "guessed");
    return strcmp(format, "qcow2") == 0 || strcmp(format, "raw") == 0 ||
           err_set(errp, EINVAL, "Unknown driver '%s'", format);
}

static bool make_raw(const char *path, uint64_t size, struct err **errp)
{
    const struct file_opts fo = {.path = path, .create = true, .truncate = true};
    struct node *n = file_open(&fo, errp);
    int ret = n ? node_truncate(n, size) : 0;

    if (ret < 0)
        err_set_errno(errp, -ret, "Could not resize file '%s'", path);
    node_unref(n);
    return n && ret == 0;
}

/* backing: the node that the new image lies upon, or NULL. */
static bool make_target(const char *path, const char *format, const struct backup_wish *w,
                        const struct graph_node *backing, struct err **errp)
{
    struct qc_create_opts co = {.size = w->source->node->size};
    AUTO_FREE char *name = NULL;

    if (strcmp(format, "raw") == 0)
        return make_raw(path, co.size, errp);
    if (backing && !blockdev_backing_name(backing, &name, &co.backing_format, errp))
        return false;
    co.backing_name = name;
    return qc_create_file(path, &co, true, errp);
}

static bool put_upon(struct control *c, struct graph_node *target, struct graph_node *backing,
                     struct err **errp)
{
    if (!graph_link(&c->graph, target, backing, "backing", ROLE_BACKING, errp))
        return false;
    if (qc_use_backing(target->node, backing->node, errp))
        return true;
    graph_unlink(&c->graph, target, backing);
    return false;
}

static struct graph_node *open_target(struct control *c, const char *path, const char *format,
                                      bool own_backing, struct err **errp)
{
    json_t *o = json_pack("{s:s,s:s,s:s,s:{s:s,s:s}}", "driver", format, "discard", "unmap",
                          "detect-zeroes", "unmap", "file", "driver", "file", "filename", path);
    struct graph_node *n;

    if (!o) {
        err_set(errp, ENOMEM, "out of memory for a target");
        return NULL;
    }
    if (!own_backing && strcmp(format, "qcow2") == 0)
        json_object_set_new(o, "backing", json_null());
    n = blockdev_open(c, o, false, NULL, ROLE_USER, errp);
    json_decref(o);
    return n;
}

/* sync=none reads from the source what was not changed, sync=top from what the source lies upon. */
static struct graph_node *backing_of_target(struct backup_wish *w)
{
    struct graph_node *backing = w->sync == BACKUP_TOP ? graph_backing(w->source) : NULL;

    if (w->sync == BACKUP_TOP && !backing)
        w->sync = BACKUP_FULL;
    return w->sync == BACKUP_NONE ? w->source : backing;
}

static bool prepare_drive(struct control *c, struct action *a, struct err **errp)
{
    const json_t *args = a->data;
    struct backup_wish w = {0};
    struct graph_node *backing;
    const char *format;
    AUTO_FREE char *path = NULL;

    if (!make_wish(c, args, &w, errp) || !wish_bitmap(args, &w, errp))
        return false;
    format = format_of(args, &w);
    backing = backing_of_target(&w);
    path = check_format(format, errp) ? path_allow(c, arg_str(args, "target"), errp) : NULL;
    if (!path || (!is_existing(args) && !make_target(path, format, &w, backing, errp)))
        return false;
    if (strcmp(format, "raw") == 0 || (is_existing(args) && w.sync == BACKUP_TOP))
        backing = NULL; /* it has none, or says itself which */
    w.target = open_target(c, path, format, !backing && is_existing(args), errp);
    if (!w.target)
        return false;
    if ((!backing || put_upon(c, w.target, backing, errp)) && make_job(c, a, &w, errp))
        return true;
    graph_drop(&c->graph, w.target);
    return false;
}

static void undo_backup(struct control *c, struct action *a)
{
    backup_drop(a->job);
}

static bool commit_backup(struct control *c, struct action *a, struct err **errp)
{
    return job_start(a->job, errp);
}

const struct action_kind backup_action_kinds[] = {
    {.name = "blockdev-backup",
     .data = &q_blockdev_backup,
     .node_key = "device",
     .prepare = prepare_backup,
     .undo = undo_backup,
     .commit = commit_backup,
     .groups = true},
    {.name = "drive-backup",
     .data = &q_drive_backup,
     .node_key = "device",
     .prepare = prepare_drive,
     .undo = undo_backup,
     .commit = commit_backup,
     .groups = true},
    {0},
};

static bool run_backup(struct call *call, struct err **errp)
{
    return action_run(call, &backup_action_kinds[0], errp);
}

static bool run_drive(struct call *call, struct err **errp)
{
    return action_run(call, &backup_action_kinds[1], errp);
}

const struct command backup_commands[] = {
    {"blockdev-backup", &q_blockdev_backup, NULL, run_backup, false},
    {"drive-backup", &q_drive_backup, NULL, run_drive, false},
    {0},
};
