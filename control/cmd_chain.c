/* SPDX-License-Identifier: BSD-3-Clause
 *
 * block-commit and block-stream: which images they mean, and what is wrong with them in QEMU's
 * words.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "control/blockdev.h"
#include "control/chain.h"
#include "qcow2/qcow2.h"

#define JOB_MEMBERS                                                                                \
    {"speed", &q_int, true}, {"on-error", &q_on_error, true}, {"auto-finalize", &q_bool, true},    \
    {                                                                                              \
        "auto-dismiss", &q_bool, true                                                              \
    }
static const struct qtype commit_args = {
    .kind = Q_STRUCT,
    .name = "block-commit-arg",
    .member =
        Q_MEMBERS({"job-id", &q_str, true}, {"device", &q_str, false}, {"base-node", &q_str, true},
                  {"base", &q_str, true}, {"top-node", &q_str, true}, {"top", &q_str, true},
                  {"backing-file", &q_str, true}, JOB_MEMBERS)};
static const struct qtype stream_args = {
    .kind = Q_STRUCT,
    .name = "block-stream-arg",
    .member = Q_MEMBERS({"job-id", &q_str, true}, {"device", &q_str, false}, {"base", &q_str, true},
                        {"base-node", &q_str, true}, {"backing-file", &q_str, true},
                        {"bottom", &q_str, true}, JOB_MEMBERS)};

static bool common(const struct call *call, struct chain_wish *w, struct err **errp)
{
    const char *id = arg_str(call->args, "job-id");

    w->ctl = call->ctl;
    w->job_id = id ? id : arg_str(call->args, "device");
    w->backing_file = arg_str(call->args, "backing-file");
    w->on_error = on_error_of(call->args, "on-error");
    w->auto_finalize = arg_bool(call->args, "auto-finalize", true);
    w->auto_dismiss = arg_bool(call->args, "auto-dismiss", true);
    return speed_of(call->args, &w->speed, errp);
}

/* No job may work on the chain from n to base. */
static bool check_chain(const struct graph_node *n, const struct graph_node *base,
                        struct err **errp)
{
    for (; n; n = n == base ? NULL : graph_below(n)) {
        if (!graph_check_jobless(n, errp))
            return false;
    }
    return true;
}

/* --- block-commit --- */

static bool find_root(struct call *call, struct graph_node **root, struct err **errp)
{
    const char *device = arg_str(call->args, "device");

    *root = graph_find(&call->ctl->graph, device);
    if (!*root)
        return err_set(errp, QMP_DEVICE_NOT_FOUND, "Device '%s' not found", device);
    for (const struct graph_edge *e = (*root)->users; e; e = e->next_user) {
        if (e->parent)
            return err_set(errp, EINVAL, "Need a root block node");
    }
    return graph_check_jobless(*root, errp);
}

static bool find_top(struct call *call, const struct graph_node *root, struct chain_wish *w,
                     struct err **errp)
{
    const char *node = arg_str(call->args, "top-node"), *file = arg_str(call->args, "top");

    w->top = (struct graph_node *)root;
    if (node && file)
        return err_set(errp, EINVAL, "'top-node' and 'top' are mutually exclusive");
    if (node) {
        w->top = blockdev_find(call->ctl, node, false, errp);
        if (w->top && !chain_has(root, w->top))
            return err_set(errp, EINVAL, "'%s' is not in this backing file chain", node);
        return w->top;
    }
    if (!file)
        return true;
    char *own = blockdev_filename(root);
    if (!own || strcmp(own, file) != 0)
        w->top = chain_find_file(root, file);
    mem_free(own);
    return w->top || err_set(errp, ENOENT, "Top image file %s not found", file);
}

static bool find_base(struct call *call, struct chain_wish *w, struct err **errp)
{
    const char *node = arg_str(call->args, "base-node"), *file = arg_str(call->args, "base");

    if (node && file)
        return err_set(errp, EINVAL, "'base-node' and 'base' are mutually exclusive");
    if (node) {
        w->base = blockdev_find(call->ctl, node, false, errp);
        if (w->base && !chain_has(w->top, w->base))
            return err_set(errp, EINVAL, "'%s' is not in this backing file chain", node);
        return w->base;
    }
    if (file) {
        w->base = chain_find_file(w->top, file);
        return w->base || err_set(errp, ENOENT, "Can't find '%s' in the backing chain", file);
    }
    for (struct graph_node *n = w->top; n; n = graph_backing(n))
        w->base = n;
    return true;
}

/* Who writes to top, or would show its content from somewhere else? */
static bool find_overlay(const struct graph_node *root, struct chain_wish *w, struct err **errp)
{
    struct graph_node *n = graph_unfiltered((struct graph_node *)root);

    if (w->top == n) {
        if (w->backing_file)
            return err_set(errp, EINVAL, "'backing-file' specified, but 'top' is the active layer");
        return true;
    }
    while (graph_backing(n) && graph_unfiltered(graph_backing(n)) != w->top &&
           graph_backing(n) != w->top)
        n = graph_unfiltered(graph_backing(n));
    w->overlay = n;
    return graph_check_jobless(n, errp);
}

static bool check_images(const struct chain_wish *w, struct err **errp)
{
    for (const struct graph_node *n = w->top; n != w->base; n = graph_below(n)) {
        if (n->node->drv == &qcow2_driver && qc_n_snapshots(n->node) > 0)
            return err_set(errp, ENOTSUP,
                           "Node '%s' has internal snapshots, which read from what lies below it, "
                           "too, and would change: delete them first",
                           n->name);
    }
    return true;
}

static bool run_commit(struct call *call, struct err **errp)
{
    struct chain_wish w = {0};
    struct graph_node *root = NULL;

    if (!common(call, &w, errp) || !find_root(call, &root, errp) ||
        !find_top(call, root, &w, errp) || !find_base(call, &w, errp) ||
        !check_chain(w.top, w.base, errp))
        return false;
    if (w.top == w.base)
        return err_set(errp, EINVAL, "cannot commit an image into itself");
    w.top = graph_unfiltered(w.top);
    if (!chain_has(w.top, w.base) || w.top == w.base)
        return err_set(errp, EINVAL, "cannot commit an image into itself");
    return find_overlay(root, &w, errp) && check_images(&w, errp) && commit_start(&w, errp);
}

/* --- block-stream --- */

static bool check_exclusive(const json_t *args, const char *a, const char *b, struct err **errp)
{
    return !arg_has(args, a) || !arg_has(args, b) ||
           err_set(errp, EINVAL, "'%s' and '%s' cannot be specified at the same time", a, b);
}

static bool find_bottom(struct call *call, struct chain_wish *w, struct err **errp)
{
    const char *name = arg_str(call->args, "bottom");
    struct graph_node *n = blockdev_find(call->ctl, name, false, errp);

    if (!n)
        return false;
    if (graph_unfiltered(n) != n)
        return err_set(errp, EINVAL, "Node '%s' is a filter, use a non-filter node as 'bottom'",
                       name);
    if (!chain_has(w->top, n))
        return err_set(errp, EINVAL, "Node '%s' is not in a chain starting from '%s'", name,
                       arg_str(call->args, "device"));
    w->base = graph_backing(n);
    return true;
}

static bool find_stream_base(struct call *call, struct chain_wish *w, struct err **errp)
{
    const char *file = arg_str(call->args, "base"), *node = arg_str(call->args, "base-node");

    if (arg_has(call->args, "bottom"))
        return find_bottom(call, w, errp);
    if (file) {
        w->base = chain_find_file(w->top, file);
        return w->base || err_set(errp, ENOENT, "Can't find '%s' in the backing chain", file);
    }
    if (!node)
        return true;
    w->base = blockdev_find(call->ctl, node, false, errp);
    if (w->base && (w->base == w->top || !chain_has(w->top, w->base)))
        return err_set(errp, EINVAL, "Node '%s' is not a backing image of '%s'", node,
                       arg_str(call->args, "device"));
    return w->base;
}

static bool run_stream(struct call *call, struct err **errp)
{
    struct chain_wish w = {0};

    if (!common(call, &w, errp) || !check_exclusive(call->args, "base", "base-node", errp) ||
        !check_exclusive(call->args, "base", "bottom", errp) ||
        !check_exclusive(call->args, "bottom", "base-node", errp))
        return false;
    w.top = blockdev_find(call->ctl, arg_str(call->args, "device"), true, errp);
    if (!w.top || !find_stream_base(call, &w, errp) || !check_chain(w.top, w.base, errp))
        return false;
    if (!w.base && w.backing_file)
        return err_set(errp, EINVAL, "backing file specified, but streaming the entire chain");
    w.top = graph_unfiltered(w.top);
    if (w.top == w.base || w.top->node->drv != &qcow2_driver)
        return err_set(errp, ENOTSUP, "Node '%s' is no image that could take over what lies below",
                       w.top->name);
    return stream_start(&w, errp);
}

const struct command chain_commands[] = {
    {"block-commit", &commit_args, NULL, run_commit, false},
    {"block-stream", &stream_args, NULL, run_stream, false},
    {0},
};
