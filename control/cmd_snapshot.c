/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blockdev-snapshot and blockdev-snapshot-sync, alone and as actions of transactions: an empty
 * overlay takes the place of a node, which becomes its backing image.
 *
 * Exports and parents of the node go on with the overlay without noticing. Bitmaps stay with the
 * node. What was written until then is flushed before; the node is read-only afterwards.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/action.h"
#include "control/blockdev.h"
#include "qcow2/qcow2.h"

const struct qtype q_snapshot = {
    .kind = Q_STRUCT,
    .name = "BlockdevSnapshot",
    .member = Q_MEMBERS({"node", &q_str, false}, {"overlay", &q_str, false})};
const struct qtype q_new_image_mode = {
    .kind = Q_ENUM, .name = "NewImageMode", .values = Q_NAMES("existing", "absolute-paths")};
const struct qtype q_snapshot_sync = {
    .kind = Q_STRUCT,
    .name = "BlockdevSnapshotSync",
    .member = Q_MEMBERS({"device", &q_str, true}, {"node-name", &q_str, true},
                        {"snapshot-file", &q_str, false}, {"snapshot-node-name", &q_str, true},
                        {"format", &q_str, true}, {"mode", &q_new_image_mode, true})};

/* --- The overlay's place --- */

static bool check_overlay(const struct graph_node *overlay, struct err **errp)
{
    if (overlay->users)
        return err_set(errp, EBUSY, "The overlay is already in use");
    if (overlay->node->drv->is_filter && strcmp(overlay->driver, "raw") != 0)
        return err_set(errp, EINVAL, "Filters cannot be used as overlays");
    if (graph_backing(overlay))
        return err_set(errp, EINVAL, "The overlay already has a backing image");
    if (overlay->node->drv != &qcow2_driver)
        return err_set(errp, ENOTSUP, "The overlay does not support backing images");
    return true;
}

static void take_away(struct control *c, struct graph_node *overlay, struct graph_node *old)
{
    qc_use_backing(overlay->node, NULL, NULL);
    graph_unlink(&c->graph, overlay, old);
}

static bool put_over(struct control *c, struct action *a, struct err **errp)
{
    struct graph *g = &c->graph;

    graph_drain_add(a->overlay);
    if (!check_overlay(a->overlay, errp) ||
        !graph_link(g, a->overlay, a->node, "backing", ROLE_BACKING, errp))
        return false;
    if (qc_use_backing(a->overlay->node, a->node->node, errp) &&
        graph_replace(g, a->node, a->overlay, a->overlay, errp))
        return true;
    take_away(c, a->overlay, a->node);
    return false;
}

static void undo_snapshot(struct control *c, struct action *a)
{
    if (!graph_replace(&c->graph, a->overlay, a->node, NULL, NULL))
        return; /* cannot be: it was like that a moment ago, and nobody else has come */
    take_away(c, a->overlay, a->node);
}

static bool commit_snapshot(struct control *c, struct action *a, struct err **errp)
{
    struct err *e = NULL;

    if (!graph_set_read_only(&c->graph, a->node, true, &e))
        log_warn("node '%s' below the snapshot: %s", a->node->name, err_msg(e));
    err_free(e);
    return true;
}

/* --- blockdev-snapshot --- */

static bool prepare_snapshot(struct control *c, struct action *a, struct err **errp)
{
    if (!blockdev_find(c, arg_str(a->data, "node"), true, errp))
        return false;
    if (!graph_check_free(a->node, errp))
        return false;
    a->overlay = blockdev_find(c, arg_str(a->data, "overlay"), true, errp);
    return a->overlay && put_over(c, a, errp);
}

/* --- blockdev-snapshot-sync --- */

static bool check_sync(struct control *c, const struct action *a, const char *format,
                       struct err **errp)
{
    const char *name = arg_str(a->data, "snapshot-node-name");

    if (!a->node)
        return err_set(errp, ENOENT, "Cannot find device='%s' nor node-name='%s'",
                       arg_has(a->data, "device") ? arg_str(a->data, "device") : "",
                       arg_has(a->data, "node-name") ? arg_str(a->data, "node-name") : "");
    if (!graph_check_free(a->node, errp))
        return false;
    if (!name)
        return err_set(errp, EINVAL, "New overlay node-name missing");
    if (graph_find(&c->graph, name))
        return err_set(errp, EEXIST, "New overlay node-name already in use");
    return strcmp(format, "qcow2") == 0 ||
           err_set(errp, ENOTSUP, "Format '%s' cannot be an overlay's, only qcow2 can", format);
}

static bool make_image(struct control *c, const struct action *a, const char *path,
                       struct err **errp)
{
    struct qc_create_opts co = {.size = a->node->node->size};
    AUTO_FREE char *backing = NULL;
    const char *mode = arg_str(a->data, "mode");

    if (mode && strcmp(mode, "existing") == 0)
        return true;
    if (!blockdev_backing_name(a->node, &backing, &co.backing_format, errp))
        return false;
    co.backing_name = backing;
    return qc_create_file(path, &co, true, errp);
}

static json_t *overlay_options(const struct action *a, const char *path)
{
    static const char *const same[] = {"cache", "discard", "detect-zeroes"};
    json_t *o = json_pack("{s:s,s:s,s:b,s:{s:s,s:s},s:n}", "driver", "qcow2", "node-name",
                          arg_str(a->data, "snapshot-node-name"), "read-only", a->node->read_only,
                          "file", "driver", "file", "filename", path, "backing");

    for (unsigned i = 0; i < 3; i++) {
        if (arg_has(a->node->options, same[i]))
            json_object_set(o, same[i], arg_get(a->node->options, same[i]));
    }
    return o;
}

static bool prepare_sync(struct control *c, struct action *a, struct err **errp)
{
    const char *format = arg_has(a->data, "format") ? arg_str(a->data, "format") : "qcow2";
    AUTO_FREE char *path = NULL;
    json_t *options;

    if (!check_sync(c, a, format, errp))
        return false;
    path = path_allow(c, arg_str(a->data, "snapshot-file"), errp);
    if (!path || !make_image(c, a, path, errp))
        return false;
    options = overlay_options(a, path);
    if (!options)
        return err_set(errp, ENOMEM, "out of memory for an overlay");
    a->overlay = blockdev_open(c, options, true, NULL, ROLE_USER, errp);
    json_decref(options);
    if (a->overlay && put_over(c, a, errp))
        return true;
    if (a->overlay)
        graph_drop(&c->graph, a->overlay);
    return false;
}

static void undo_sync(struct control *c, struct action *a)
{
    undo_snapshot(c, a);
    graph_drop(&c->graph, a->overlay);
}

const struct action_kind snapshot_action_kinds[] = {
    {.name = "blockdev-snapshot",
     .data = &q_snapshot,
     .node_key = "node",
     .moves_users = true,
     .prepare = prepare_snapshot,
     .undo = undo_snapshot,
     .commit = commit_snapshot},
    {.name = "blockdev-snapshot-sync",
     .data = &q_snapshot_sync,
     .node_key = "node-name",
     .moves_users = true,
     .prepare = prepare_sync,
     .undo = undo_sync,
     .commit = commit_snapshot},
    {0},
};

static bool run_snapshot(struct call *call, struct err **errp)
{
    return action_run(call, &snapshot_action_kinds[0], errp);
}

static bool run_sync(struct call *call, struct err **errp)
{
    return action_run(call, &snapshot_action_kinds[1], errp);
}

const struct command snapshot_commands[] = {
    {"blockdev-snapshot", &q_snapshot, NULL, run_snapshot, false},
    {"blockdev-snapshot-sync", &q_snapshot_sync, NULL, run_sync, false},
    {0},
};
