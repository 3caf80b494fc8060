/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Transactions: several changes at one moment, or none.
 *
 * While all nodes are drained no guest writes, so that what the actions do happens at one point in
 * time, and putting content back loses nothing. A commit does only what could not be undone; should
 * one fail all the same (an image that cannot be written), the error says that the rest was done.
 */
#include "control/action.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "control/blockdev.h"

static const struct qtype q_abort = {.kind = Q_STRUCT, .name = "Abort"};
static const struct qtype q_abort_wrapper = {
    .kind = Q_STRUCT, .name = "AbortWrapper", .member = Q_MEMBERS({"data", &q_abort, false})};

static bool prepare_abort(struct control *c, struct action *a, struct err **errp)
{
    return err_set(errp, ECANCELED, "Transaction aborted using Abort action");
}

static const struct action_kind abort_kind = {.name = "abort", .prepare = prepare_abort};

#define WRAPPER(var, title, inner)                                                                 \
    static const struct qtype var = {                                                              \
        .kind = Q_STRUCT, .name = title, .member = Q_MEMBERS({"data", &inner, false})}
WRAPPER(w_add, "BlockDirtyBitmapAddWrapper", q_dirty_add);
WRAPPER(w_bitmap, "BlockDirtyBitmapWrapper", q_dirty);
WRAPPER(w_merge, "BlockDirtyBitmapMergeWrapper", q_dirty_merge);
WRAPPER(w_backup, "BlockdevBackupWrapper", q_blockdev_backup);
WRAPPER(w_drive_backup, "DriveBackupWrapper", q_drive_backup);
WRAPPER(w_snapshot, "BlockdevSnapshotWrapper", q_snapshot);
WRAPPER(w_snapshot_sync, "BlockdevSnapshotSyncWrapper", q_snapshot_sync);

static const struct qtype q_action_kind = {
    .kind = Q_ENUM,
    .name = "TransactionActionKind",
    .values = Q_NAMES("abort", "block-dirty-bitmap-add", "block-dirty-bitmap-remove",
                      "block-dirty-bitmap-clear", "block-dirty-bitmap-enable",
                      "block-dirty-bitmap-disable", "block-dirty-bitmap-merge", "blockdev-backup",
                      "blockdev-snapshot", "blockdev-snapshot-sync", "drive-backup")};
static const struct qtype q_action = {
    .kind = Q_UNION,
    .name = "TransactionAction",
    .member = Q_MEMBERS({"type", &q_action_kind, false}),
    .tag = "type",
    .variant = (const struct qvariant[]){{"abort", &q_abort_wrapper},
                                         {"block-dirty-bitmap-add", &w_add},
                                         {"block-dirty-bitmap-remove", &w_bitmap},
                                         {"block-dirty-bitmap-clear", &w_bitmap},
                                         {"block-dirty-bitmap-enable", &w_bitmap},
                                         {"block-dirty-bitmap-disable", &w_bitmap},
                                         {"block-dirty-bitmap-merge", &w_merge},
                                         {"blockdev-backup", &w_backup},
                                         {"blockdev-snapshot", &w_snapshot},
                                         {"blockdev-snapshot-sync", &w_snapshot_sync},
                                         {"drive-backup", &w_drive_backup},
                                         {0}}};
static const struct qtype q_actions = {
    .kind = Q_LIST, .name = "TransactionActionList", .element = &q_action};
static const struct qtype q_completion = {
    .kind = Q_ENUM, .name = "ActionCompletionMode", .values = Q_NAMES("individual", "grouped")};
static const struct qtype q_properties = {.kind = Q_STRUCT,
                                          .name = "TransactionProperties",
                                          .member =
                                              Q_MEMBERS({"completion-mode", &q_completion, true})};
static const struct qtype transaction_args = {
    .kind = Q_STRUCT,
    .name = "transaction-arg",
    .member = Q_MEMBERS({"actions", &q_actions, false}, {"properties", &q_properties, true})};

static const struct action_kind *kind_by_name(const char *name)
{
    static const struct action_kind *const tables[] = {bitmap_action_kinds, backup_action_kinds,
                                                       snapshot_action_kinds};

    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        for (const struct action_kind *k = tables[i]; k->name; k++) {
            if (strcmp(k->name, name) == 0)
                return k;
        }
    }
    return &abort_kind;
}

/* The node that an action is about; it is complained of where it is missing when the action is
 * prepared. */
static struct graph_node *node_of(const struct control *c, const struct action *a)
{
    const char *name = a->kind->node_key ? arg_str(a->data, a->kind->node_key) : NULL;

    return name ? graph_find(&c->graph, name) : NULL;
}

static void drain_all(struct control *c, struct action *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        v[i].node = node_of(c, &v[i]);
        if (v[i].node)
            graph_mark(v[i].node, v[i].kind->moves_users);
    }
    graph_drain_begin(&c->graph);
}

static bool prepare_all(struct control *c, struct action *v, size_t n, struct err **errp)
{
    size_t done = 0;

    while (done < n && v[done].kind->prepare(c, &v[done], errp))
        done++;
    if (done == n)
        return true;
    while (done-- > 0) {
        if (v[done].kind->undo)
            v[done].kind->undo(c, &v[done]);
    }
    return false;
}

static bool commit_all(struct control *c, struct action *v, size_t n, struct err **errp)
{
    struct err *first = NULL;

    for (size_t i = 0; i < n; i++) {
        struct err *e = NULL;

        if (v[i].kind->commit && !v[i].kind->commit(c, &v[i], &e)) {
            log_error("%s", err_msg(e));
            if (!first)
                first = steal(e);
            err_free(e);
        }
    }
    if (!first)
        return true;
    if (n > 1)
        err_prefix(&first, "The other actions were carried out, but: ");
    return err_move(errp, first);
}

/* What lies below a snapshot is to be safe; while it is drained nobody can flush it. */
static bool flush_all(struct control *c, struct action *v, size_t n, struct err **errp)
{
    for (size_t i = 0; i < n; i++) {
        const struct graph_node *node = v[i].kind->moves_users ? node_of(c, &v[i]) : NULL;
        int ret = node && !node->read_only ? node_flush(node->node) : 0;

        if (ret < 0)
            return err_set(errp, -ret, "An IO error has occurred");
    }
    return true;
}

bool actions_run(struct control *c, struct action *v, size_t n, struct err **errp)
{
    bool ok;

    if (!flush_all(c, v, n, errp))
        return false;
    drain_all(c, v, n);
    ok = prepare_all(c, v, n, errp) && commit_all(c, v, n, errp);
    graph_drain_end(&c->graph);
    for (size_t i = 0; i < n; i++)
        bitmap_free(v[i].saved);
    return ok;
}

bool action_run(struct call *call, const struct action_kind *kind, struct err **errp)
{
    struct action a = {.kind = kind, .data = call->args};

    return actions_run(call->ctl, &a, 1, errp);
}

/* Make the jobs of all actions one group, if the client wants that. */
static bool make_group(const json_t *args, struct action *v, size_t n, struct job_txn **group,
                       struct err **errp)
{
    const char *mode = arg_str(arg_get(args, "properties"), "completion-mode");

    if (!mode || strcmp(mode, "grouped") != 0)
        return true;
    *group = job_txn_new();
    if (!*group)
        return err_set(errp, ENOMEM, "out of memory for a transaction");
    for (size_t i = 0; i < n; i++) {
        if (!v[i].kind->groups)
            return err_set(errp, EINVAL,
                           "Action '%s' does not support Transaction property completion-mode = %s",
                           v[i].kind->name, mode);
        v[i].group = *group;
    }
    return true;
}

static bool run_transaction(struct call *call, struct err **errp)
{
    const json_t *list = arg_get(call->args, "actions");
    size_t n = json_array_size(list), i;
    AUTO_FREE struct action *v = mem_array(n + 1, sizeof(*v));
    struct job_txn *group = NULL;
    json_t *item;
    bool ok;

    if (!v)
        return err_set(errp, ENOMEM, "out of memory for a transaction");
    json_array_foreach(list, i, item)
    {
        v[i].kind = kind_by_name(arg_str(item, "type"));
        v[i].data = arg_get(item, "data");
    }
    ok = make_group(call->args, v, n, &group, errp) && actions_run(call->ctl, v, n, errp);
    job_txn_release(group);
    return ok;
}

const struct command transaction_commands[] = {
    {"transaction", &transaction_args, NULL, run_transaction, false},
    {0},
};
