/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Moving what an overlay holds into an image below it.
 *
 * The overlay hides what is written below it, so that the chain reads the same at every moment: the
 * base is filled, made durable, and only then is the overlay emptied, in one step.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "block/copy.h"
#include "qcow2/map.h"
#include "qcow2/qcow2.h"
#include "qcow2/rebase.h"

#define RAW_UNIT 4096

struct commit {
    const struct qc_commit_opts *o;
    struct node *top, *base;
};

/* What lies above the base is copied; what it or a layer below it holds is there already. Zeros
 * (also where a layer in between is too short to have anything) only if base reads otherwise. */
static int commit_map(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    const struct commit *c = arg;
    struct qc_extent x;
    int r = qc_map(c->top, off, len, &x);
    *got = x.length;
    *kind = x.depth >= c->o->depth ? COPY_SKIP : COPY_DATA;
    if (r < 0 || *kind == COPY_SKIP || x.data)
        return r;
    r = qc_map(c->base, off, x.length, &x);
    *got = x.length;
    *kind = x.zero ? COPY_SKIP : COPY_ZERO;
    return r;
}

static void commit_progress(void *arg, uint64_t done, uint64_t all)
{
    const struct commit *c = arg;
    if (c->o->progress)
        c->o->progress(c->o->arg, done, all);
}

static bool copy_down(struct commit *c, struct err **errp)
{
    static const struct copy_ops ops = {.map = commit_map, .progress = commit_progress};
    uint64_t unit = c->base->limits.cluster ? c->base->limits.zero_align : RAW_UNIT;
    const struct copy_opts co = {.src = c->top,
                                 .dst = c->base,
                                 .len = c->top->size,
                                 .unit = unit,
                                 .zero_unit = unit,
                                 .rate = c->o->rate,
                                 .ops = &ops,
                                 .arg = c};
    struct copy_result at;
    int r = copy_run(&co, &at);
    if (c->o->moved)
        *c->o->moved = (struct qc_moved){at.data_bytes, at.zero_bytes};
    if (r < 0)
        return err_set_errno(errp, -r, "cannot %s %" PRIu64 " bytes at %" PRIu64 " of %s",
                             at.reading ? "read" : "write", at.len, at.off,
                             at.reading ? c->top->name : c->base->name);
    r = node_flush(c->base);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot flush", c->base->name);
}

/* A base that is too short grows first: its new space reads as zeros, as it does from above. */
static bool grow_base(struct commit *c, struct err **errp)
{
    if (c->base->size >= c->top->size)
        return true;
    int r = node_truncate(c->base, c->top->size);
    if (r == 0)
        r = node_flush(c->base);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot make it %" PRIu64 " bytes long",
                                   c->base->name, c->top->size);
}

/* Snapshots of the top, and of what lies between, read from the base. */
static bool check_layers(struct commit *c, struct err **errp)
{
    struct node *n = c->top;
    for (unsigned i = 0; i < c->o->depth; i++) {
        unsigned snapshots = qc_n_snapshots(n);
        if (snapshots)
            return err_set(errp, ENOTSUP,
                           "%s: its %u internal snapshots read from the backing file, too, and "
                           "would change: delete them first",
                           n->name, snapshots);
        struct node *below = qc_backing_node(n);
        if (!below || (i + 1 < c->o->depth && below->drv != &qcow2_driver))
            return err_set(errp, EINVAL, "%s has no backing file to commit to", n->name);
        n = below;
    }
    c->base = n;
    return true;
}

bool qc_commit(struct node *top, const struct qc_commit_opts *opts, struct err **errp)
{
    struct commit c = {.o = opts, .top = top};
    if (!check_layers(&c, errp) || !grow_base(&c, errp) || !copy_down(&c, errp))
        return false;
    return !opts->empty || qc_make_empty(top, errp);
}
