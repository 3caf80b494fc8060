/* SPDX-License-Identifier: BSD-3-Clause
 *
 * copy-before-write and snapshot-access: thin nodes around one view of the engine in cbw.c.
 *
 *     snapshot-access --child--> copy-before-write --child--> file, target
 *           |                       |       |
 *           +------> view <---------+     engine --child--> file
 *
 * Changes go through the engine, which can refuse them; it also guards the file, so that a change
 * past the filter finds what it destroys kept, too. The view and the engine are nobody's child: a
 * client never sees them.
 */
#include "filters/snapshot.h"

#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "filters/filters_priv.h"

#define UNIT_MIN (64 * KiB)

struct copy_before_write {
    struct node *engine, *view;
};

static int copy_before_write_submit(struct node *n, struct req *r)
{
    struct copy_before_write *s = n->state;
    bool changes =
        r->op == REQ_WRITE || r->op == REQ_ZERO || r->op == REQ_DISCARD || r->op == REQ_TRUNCATE;

    return node_submit(changes ? s->engine : n->child[0], r);
}

static void copy_before_write_close(struct node *n)
{
    struct copy_before_write *s = n->state;

    if (s->view) {
        cbw_unguard(s->engine);
        cbw_wait(s->engine);
    }
    node_unref(s->view);
    node_unref(s->engine);
}

const struct driver copy_before_write_driver = {
    .name = "copy-before-write",
    .state_size = sizeof(struct copy_before_write),
    .is_filter = true,
    .submit = copy_before_write_submit,
    .close = copy_before_write_close,
    .fua_ops = ALL_FUA,
};

/* What is clean in the bitmap is no part of the snapshot. */
static bool restrict_view(struct node *view, const struct bitmap *only, struct err **errp)
{
    bool dirty;

    for (uint64_t off = 0, end; off < only->size; off = end) {
        end = bitmap_next(only, off, &dirty);
        if (!dirty && cbw_view_deny(view, off, end - off) < 0)
            return err_set(errp, ENOMEM, "no memory for a snapshot of \"%s\"", view->name);
    }
    return true;
}

/* The moment of the snapshot. The file is drained. */
static bool begin(struct copy_before_write *s, const struct copy_before_write_opts *o,
                  struct err **errp)
{
    struct cbw_view_opts view = {
        .cluster = (uint32_t)max_u64(UNIT_MIN, o->target->limits.cluster),
        .scratch_limit = UINT64_MAX,
        .scratch_fd = -1,
        .scratch = o->target,
        .must_keep = o->fail_writes,
    };

    s->engine = cbw_open(node_ref(o->file), errp);
    if (!s->engine) {
        node_unref(o->file);
        return false;
    }
    cbw_set_timeout(s->engine, o->timeout_ns);
    s->view = cbw_view_open(s->engine, &view, errp);
    if (!s->view)
        return false;
    cbw_guard(s->engine);
    return !o->only || restrict_view(s->view, o->only, errp);
}

struct node *copy_before_write_open(const struct copy_before_write_opts *o, struct err **errp)
{
    struct node *n;
    bool ok;

    if (o->only && o->only->size != o->file->size) {
        err_set(errp, EINVAL,
                "Bitmaps are of different sizes (destination size is %" PRIu64
                ", source size is %" PRIu64 ") and can't be merged",
                o->file->size, o->only->size);
        return NULL;
    }
    n = node_over(&copy_before_write_driver, o->file, errp);
    if (!n)
        return NULL;
    ok = node_attach(n, o->target, errp);
    if (ok) {
        node_drain_begin(o->file);
        ok = begin(n->state, o, errp);
        node_drain_end(o->file);
    }
    if (ok)
        return n;
    node_abandon(n); /* closes what had begun; the caller keeps both nodes */
    return NULL;
}

/* --- snapshot-access --- */

struct snapshot_access {
    struct node *view;
};

static int snapshot_access_submit(struct node *n, struct req *r)
{
    struct snapshot_access *s = n->state;

    if (r->op == REQ_DISCARD)
        return cbw_view_release(s->view, r->off, r->len);
    if (r->op != REQ_READ && r->op != REQ_STATUS)
        return r->op == REQ_FLUSH ? 0 : -ENOTSUP;
    return node_submit(s->view, r);
}

static void snapshot_access_close(struct node *n)
{
    node_unref(((struct snapshot_access *)n->state)->view);
}

const struct driver snapshot_access_driver = {
    .name = "snapshot-access",
    .state_size = sizeof(struct snapshot_access),
    .submit = snapshot_access_submit,
    .close = snapshot_access_close,
};

static struct node *show(struct node *view, struct node *child, struct err **errp)
{
    struct node *n = node_over(&snapshot_access_driver, child, errp);

    if (!n)
        return NULL;
    ((struct snapshot_access *)n->state)->view = node_ref(view);
    n->size = view->size;
    n->limits.cluster = view->limits.cluster;
    return n;
}

struct node *snapshot_access_open(struct node *cbw, struct err **errp)
{
    if (cbw->drv == &copy_before_write_driver)
        return show(((struct copy_before_write *)cbw->state)->view, cbw, errp);
    err_set(errp, EINVAL, "'%s' has no snapshot: it is no copy-before-write node", cbw->name);
    return NULL;
}

struct node *snapshot_show(struct node *view, struct err **errp)
{
    struct node *n = show(view, node_ref(view), errp);

    if (!n)
        node_unref(view);
    return n;
}
