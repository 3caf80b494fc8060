/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blockdev-backup, alone and as an action of transactions: which combinations of sync and bitmap
 * mode make sense, and what is wrong with the others in QEMU's words.
 */
#include <errno.h>
#include <string.h>

#include "block/node_bitmap.h"
#include "control/action.h"
#include "control/backup.h"
#include "control/blockdev.h"
#include "qcow2/qcow2.h"

static const char *const sync_names[] = {"top", "full", "none", "incremental", "bitmap", NULL};
static const char *const mode_names[] = {"on-success", "never", "always", NULL};

static const struct qtype q_sync = {.kind = Q_ENUM, .name = "MirrorSyncMode", .values = sync_names};
static const struct qtype q_mode = {.kind = Q_ENUM, .name = "BitmapSyncMode", .values = mode_names};
const struct qtype q_blockdev_backup = {
    .kind = Q_STRUCT,
    .name = "BlockdevBackup",
    .member =
        Q_MEMBERS({"job-id", &q_str, true}, {"device", &q_str, false}, {"sync", &q_sync, false},
                  {"speed", &q_int, true}, {"bitmap", &q_str, true}, {"bitmap-mode", &q_mode, true},
                  {"compress", &q_bool, true}, {"on-source-error", &q_on_error, true},
                  {"on-target-error", &q_on_error, true}, {"auto-finalize", &q_bool, true},
                  {"auto-dismiss", &q_bool, true}, {"target", &q_str, false})};

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

static bool make_wish(struct control *c, const json_t *args, struct backup_wish *w,
                      struct err **errp)
{
    const char *source = arg_str(args, "device"), *id = arg_str(args, "job-id");

    w->source = blockdev_find(c, source, true, errp);
    w->target = w->source ? blockdev_find(c, arg_str(args, "target"), true, errp) : NULL;
    if (!w->target)
        return false;
    w->job_id = id ? id : source;
    w->sync = sync_of(arg_str(args, "sync"));
    w->on_source = on_error_of(args, "on-source-error");
    w->on_target = on_error_of(args, "on-target-error");
    w->compress = arg_bool(args, "compress", false);
    w->auto_finalize = arg_bool(args, "auto-finalize", true);
    w->auto_dismiss = arg_bool(args, "auto-dismiss", true);
    return wish_bitmap(args, w, errp) && check_nodes(w, errp) && speed_of(args, &w->speed, errp);
}

static bool prepare_backup(struct control *c, struct action *a, struct err **errp)
{
    struct backup_wish w = {0};

    if (!make_wish(c, a->data, &w, errp))
        return false;
    a->job = backup_new(c, &w, errp);
    if (a->job && a->group)
        job_txn_join(a->job, a->group);
    return a->job;
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
    {0},
};

static bool run_backup(struct call *call, struct err **errp)
{
    return action_run(call, &backup_action_kinds[0], errp);
}

const struct command backup_commands[] = {
    {"blockdev-backup", &q_blockdev_backup, NULL, run_backup, false},
    {0},
};
