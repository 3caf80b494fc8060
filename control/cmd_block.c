/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands about nodes.
 */
#include <errno.h>
#include <string.h>

#include "block/node_bitmap.h"
#include "control/blockdev.h"
#include "qcow2/qcow2.h"

static const struct qtype del_args = {.kind = Q_STRUCT,
                                      .name = "blockdev-del-arg",
                                      .member = Q_MEMBERS({"node-name", &q_str, false})};
static const struct qtype resize_args = {
    .kind = Q_STRUCT,
    .name = "block_resize-arg",
    .member =
        Q_MEMBERS({"device", &q_str, true}, {"node-name", &q_str, true}, {"size", &q_int, false})};

static bool run_add(struct call *call, struct err **errp)
{
    return blockdev_open(call->ctl, call->args, true, NULL, ROLE_USER, errp);
}

static bool run_del(struct call *call, struct err **errp)
{
    return graph_delete(&call->ctl->graph, arg_str(call->args, "node-name"), errp);
}

static bool resize(struct control *c, struct graph_node *n, uint64_t size, struct err **errp)
{
    struct graph_edge *use;
    int ret;

    /* Who reads a node as its backing image counts on its length. */
    if (!graph_check_free(n, errp))
        return false;
    for (const struct bitmap *b = node_bitmap_first(n->node); b; b = b->next) {
        if (!bitmap_check_idle(b, errp))
            return false;
    }
    use = graph_use(&c->graph, n, "block_resize", PERM_RESIZE, PERM_ALL, errp);
    if (!use)
        return false;
    if (n->node->drv == &qcow2_driver) {
        struct qc_truncate_opts shrink = {.shrink = true};
        bool ok = qc_truncate(n->node, size, &shrink, errp);

        graph_unuse(&c->graph, use);
        return ok;
    }
    ret = node_truncate(n->node, size);
    graph_unuse(&c->graph, use);
    if (ret < 0)
        return err_set(errp, -ret, "Could not resize '%s': %s", n->name, strerror(-ret));
    return true;
}

static bool run_resize(struct call *call, struct err **errp)
{
    const char *device = arg_str(call->args, "device");
    const char *name = arg_str(call->args, "node-name");
    int64_t size = arg_int(call->args, "size", 0);
    struct graph_node *n;

    if (device && name)
        return err_set(errp, EINVAL, "'device' and 'node-name' cannot be used at the same time");
    if (device) /* there are none: all nodes are known by their own name */
        return err_set(errp, ENOENT, "Cannot find device='%s' nor node-name=''", device);
    n = blockdev_find(call->ctl, name, false, errp);
    if (!n)
        return false;
    if (size < 0)
        return err_set(errp, EINVAL, "Parameter 'size' expects a >0 size");
    return resize(call->ctl, n, (uint64_t)size, errp);
}

const struct command block_commands[] = {
    {"blockdev-add", &q_blockdev_options, NULL, run_add, false},
    {"blockdev-del", &del_args, NULL, run_del, false},
    {"block_resize", &resize_args, NULL, run_resize, false},
    {0},
};
