/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blockdev-add: from options to nodes. Children are opened first (or found, if they are named),
 * then the edges to them are made, which is where a second writer is refused, and only then the
 * driver opens: it may write from then on. What fails is undone to the last inline child.
 */
#include "control/blockdev.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

static const struct blockdev_driver *const drivers[] = {
    &blockdev_blkdebug,
    &blockdev_file,
    &blockdev_null_aio,
    &blockdev_null_co,
    &blockdev_qcow2,
    &blockdev_raw,
    &blockdev_throttle,
    &blockdev_nbd,
    &blockdev_copy_on_read,
    &blockdev_compress,
    &blockdev_blkverify,
    &blockdev_blklogwrites,
    &blockdev_copy_before_write,
    &blockdev_snapshot_access,
    &blockdev_fault,
};

static const struct blockdev_driver *driver_by_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    }
    return NULL;
}

struct graph_node *blockdev_find(struct control *c, const char *name, bool legacy,
                                 struct err **errp)
{
    struct graph_node *n = name ? graph_find(&c->graph, name) : NULL;

    if (!n)
        err_set(errp, ENOENT, "Cannot find device='%s' nor node-name='%s'",
                legacy && name ? name : "", name ? name : "");
    return n;
}

static void inherit(struct blockdev_open *o, const struct blockdev_open *parent,
                    enum graph_role role)
{
    const json_t *cache = arg_get(o->options, "cache");

    o->read_only =
        arg_bool(o->options, "read-only", parent && (parent->read_only || role == ROLE_BACKING));
    o->auto_read_only = arg_bool(o->options, "auto-read-only", parent && parent->auto_read_only);
    o->direct = arg_bool(cache, "direct", parent && parent->direct);
    o->no_flush = arg_bool(cache, "no-flush", parent && parent->no_flush);
    o->force_share = arg_bool(o->options, "force-share", parent && parent->force_share);
}

static struct graph_node *open_child(struct blockdev_open *o, json_t *ref, enum graph_role role,
                                     struct err **errp)
{
    if (json_is_string(ref))
        return blockdev_find(o->ctl, json_string_value(ref), true, errp);
    return blockdev_open(o->ctl, ref, false, o, role, errp);
}

static bool open_children(struct blockdev_open *o, const struct blockdev_driver *drv,
                          struct graph_node *self, struct err **errp)
{
    for (unsigned i = 0; drv->child[i].key; i++) {
        const struct blockdev_child *def = &drv->child[i];
        json_t *ref = arg_get(o->options, def->key);
        struct graph_node *child;

        o->no_child[i] = json_is_null(ref);
        if (!ref || json_is_null(ref))
            continue;
        child = open_child(o, ref, def->role, errp);
        if (!child)
            return false;
        if (!graph_link(&o->ctl->graph, self, child, def->name, def->role, errp)) {
            if (!child->users && !child->owned)
                graph_drop(&o->ctl->graph, child);
            return false;
        }
        o->child[i] = child->node;
    }
    return true;
}

static void free_options(void *options)
{
    json_decref(options);
}

void blockdev_apply_common(const json_t *options, struct node *n, bool inline_child)
{
    const char *discard = arg_str(options, "discard");
    const char *zeroes = arg_str(options, "detect-zeroes");

    /* As in QEMU: a node that a client adds drops discards unless told to pass them on; what lies
     * below one passes on what it gets. */
    n->ignore_discard = discard ? strcmp(discard, "ignore") == 0 : !inline_child;
    n->detect_zeroes = DETECT_ZEROES_OFF;
    if (zeroes && strcmp(zeroes, "off") != 0)
        n->detect_zeroes = strcmp(zeroes, "unmap") == 0 ? DETECT_ZEROES_UNMAP : DETECT_ZEROES_ON;
}

struct graph_node *blockdev_open(struct control *c, json_t *options, bool owned,
                                 const struct blockdev_open *parent, enum graph_role role,
                                 struct err **errp)
{
    const struct blockdev_driver *drv = driver_by_name(arg_str(options, "driver"));
    const char *name = arg_str(options, "node-name");
    struct blockdev_open o = {.ctl = c, .options = options};
    struct graph_node *self;
    struct node *n;

    if (owned && !name) {
        err_set(errp, EINVAL, "'node-name' must be specified for the root node");
        return NULL;
    }
    inherit(&o, parent, role);
    if (o.force_share && !o.read_only) {
        err_set(errp, EINVAL, "force-share=on can only be used with read-only images");
        return NULL;
    }
    self = graph_reserve(&c->graph, name, drv->name, o.read_only, errp);
    if (!self)
        return NULL;
    self->owned = owned;
    if (!open_children(&o, drv, self, errp) || !(n = drv->open(&o, errp))) {
        graph_drop(&c->graph, self);
        return NULL;
    }
    blockdev_apply_common(options, n, parent != NULL);
    graph_opened(self, n);
    self->read_only = n->read_only;
    self->options = json_incref(options);
    self->free_options = free_options;
    if (graph_register_children(&c->graph, self, errp))
        return self;
    graph_drop(&c->graph, self);
    return NULL;
}

struct node *blockdev_open_over(struct control *c, const struct graph_node *n, struct node *child,
                                struct err **errp)
{
    const struct blockdev_driver *drv = n->options ? driver_by_name(n->driver) : NULL;
    struct blockdev_open o = {.ctl = c, .options = n->options, .child = {child}};

    if (!drv) {
        err_set(errp, ENOTSUP, "Node '%s' cannot be opened a second time", n->name);
        return NULL;
    }
    inherit(&o, NULL, ROLE_FILTER);
    o.read_only = n->read_only;
    for (unsigned i = 1; drv->child[i].key; i++) {
        json_t *ref = arg_get(o.options, drv->child[i].key);

        o.no_child[i] = json_is_null(ref);
        if (ref && !json_is_null(ref) && i < n->node->n_child)
            o.child[i] = n->node->child[i];
    }
    return drv->open(&o, errp);
}
