/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The drivers copy-before-write and snapshot-access.
 */
#include <errno.h>
#include <string.h>

#include "bitmap/bitmap.h"
#include "control/blockdev.h"
#include "io/reactor.h"
#include "filters/snapshot.h"

static struct node *open_copy_before_write(struct blockdev_open *o, struct err **errp)
{
    const json_t *named = arg_get(o->options, "bitmap");
    const char *on_error = arg_str(o->options, "on-cbw-error");
    struct copy_before_write_opts co = {
        .file = o->child[0],
        .target = o->child[1],
        .fail_writes = !on_error || strcmp(on_error, "break-guest-write") == 0,
        .timeout_ns = (uint64_t)arg_int(o->options, "cbw-timeout", 0) * NS_PER_S,
    };
    const struct graph_node *file = graph_find_node(&o->ctl->graph, co.file);
    const struct graph_node *target = graph_find_node(&o->ctl->graph, co.target);
    struct node *n;

    if (graph_writes_reach(target, file)) {
        err_set(errp, EINVAL, "What is written to target '%s' would change source '%s'",
                target->name, file->name);
        return NULL;
    }
    if (named) {
        co.only = bitmap_lookup(o->ctl, arg_str(named, "node"), arg_str(named, "name"), errp);
        if (!co.only || !bitmap_check_idle(co.only, errp))
            return NULL;
    }
    node_ref(co.file);
    node_ref(co.target);
    n = copy_before_write_open(&co, errp);
    if (n) {
        n->read_only |= o->read_only;
        return n;
    }
    node_unref(co.file);
    node_unref(co.target);
    return NULL;
}

const struct blockdev_driver blockdev_copy_before_write = {
    .name = "copy-before-write",
    .child = {{"file", "file", ROLE_COPIED, false}, {"target", "target", ROLE_COPY, false}},
    .open = open_copy_before_write,
};

static struct node *open_snapshot_access(struct blockdev_open *o, struct err **errp)
{
    struct node *n = snapshot_access_open(node_ref(o->child[0]), errp);

    if (!n) {
        node_unref(o->child[0]);
        return NULL;
    }
    n->read_only = o->read_only;
    return n;
}

const struct blockdev_driver blockdev_snapshot_access = {
    .name = "snapshot-access",
    .child = {{"file", "file", ROLE_LOOK, false}},
    .open = open_snapshot_access,
};
