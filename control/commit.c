/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commit job: what the images above `base` hold, down to and with `top`, moves into base.
 *
 * What reads the chain reads the same at every moment: each image hides what is written below it.
 * Base is durable before any header or node leads past the images in between.
 *
 * If guests write to top, what they change is noted in a bitmap and copied again, until there is
 * nothing left for a moment: then the job is ready. When it is told to complete, whoever uses top
 * is drained, the rest is copied, and all of them use base from then on.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "block/node_bitmap.h"
#include "control/blockdev.h"
#include "control/chain.h"
#include "qcow2/qcow2.h"

#define RAW_UNIT 4096
#define PIECE (1 * MiB)
#define LOOK_NS (100 * NS_PER_MS) /* how often a job that is ready looks for changes */
#define ROUNDS 20                 /* of copying what guests change, before they are stopped */

struct commit {
    struct copy_job copy; /* first */
    struct chain chain;
    struct node *top, *base;
    unsigned images; /* that are moved */
    bool active;
    bool was_read_only; /* base */
    bool started;
    struct bitmap *dirty; /* of an active one: what was written to top and not copied since */
};

static const char in_use[] = "block job: commit";

/* --- What is to be copied --- */

/* What base reads as zeros already is left out. */
static int zeros(struct commit *c, uint64_t off, uint64_t *got, enum copy_kind *kind)
{
    struct extents ext;
    int ret;

    extents_init(&ext, 1);
    ret = node_status(c->base, off, *got, &ext);
    if (ret == 0 && ext.n > 0) {
        *got = min_u64(*got, ext.v[0].len);
        *kind = ext.v[0].flags & EXTENT_ZERO ? COPY_SKIP : COPY_ZERO;
    }
    extents_free(&ext);
    return ret;
}

static int kind_of(struct commit *c, uint64_t off, uint64_t *got, enum copy_kind *kind)
{
    struct extents ext;
    int ret;

    extents_init(&ext, 1);
    ret = node_status(c->top, off, *got, &ext);
    if (ret == 0 && ext.n == 0)
        ret = -EIO;
    if (ret == 0) {
        *got = min_u64(*got, ext.v[0].len);
        *kind = COPY_DATA;
        if (ext.v[0].flags & EXTENT_ZERO)
            ret = zeros(c, off, got, kind);
    }
    extents_free(&ext);
    return ret;
}

/* At first: all that an image above base has. */
static int map_images(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    struct commit *c = arg;
    struct extents ext;
    unsigned depth = 0;
    int ret;

    extents_init(&ext, 1);
    ret = node_depth(c->top, off, min_u64(len, GiB), &ext);
    if (ret == 0 && ext.n == 0)
        ret = -EIO;
    if (ret == 0) {
        *got = min_u64(len, ext.v[0].len);
        depth = ext.v[0].flags;
        *kind = COPY_SKIP;
    }
    extents_free(&ext);
    return ret == 0 && depth > 0 && depth <= c->images ? kind_of(c, off, got, kind) : ret;
}

/* Then: what was written since. It is clean from here on: what comes while it is read is copied
 * once more. */
static int map_dirty(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    struct commit *c = arg;
    bool dirty;

    *got = min_u64(len, bitmap_next(c->dirty, off, &dirty) - off);
    *kind = dirty ? COPY_DATA : COPY_SKIP;
    if (!dirty)
        return 0;
    *got = min_u64(*got, PIECE);
    c->copy.job->total += *got;
    return bitmap_unmark(c->dirty, off, *got);
}

static void progress(void *arg, uint64_t done, uint64_t all)
{
    struct commit *c = arg;

    if (!c->copy.job->ready)
        c->copy.job->done = done;
}

static int copy(struct commit *c, bool all)
{
    const struct copy_ops ops = {.map = all ? map_images : map_dirty,
                                 .gate = copy_job_gate,
                                 .pace = copy_job_pace,
                                 .progress = all ? progress : NULL,
                                 .failed = copy_job_failed};
    uint64_t unit = c->base->limits.cluster ? c->base->limits.zero_align : RAW_UNIT;
    struct copy_opts o = {.src = c->top,
                          .dst = c->base,
                          .len = c->top->size,
                          .unit = unit,
                          .zero_unit = unit,
                          .whole_reads = true,
                          .ops = &ops,
                          .arg = c};
    struct copy_result where = {.reading = true};
    int ret = copy_run(&o, &where);

    if (ret < 0 && !c->copy.job->cancelled && !c->copy.failed)
        copy_job_report(&c->copy, where.reading, -ret);
    return ret;
}

/* --- The job --- */

static bool is_clean(const struct commit *c)
{
    bool dirty;

    return bitmap_next(c->dirty, 0, &dirty) == c->dirty->size && !dirty;
}

static int copy_dirty(struct commit *c)
{
    int ret = copy(c, false);

    c->copy.job->done = c->copy.job->total;
    return ret;
}

static int resize_base(struct commit *c)
{
    struct qc_truncate_opts shrink = {.shrink = true};
    uint64_t size = c->top->size;

    if (c->base->size == size || (c->base->size > size && !c->active))
        return 0;
    if (c->base->size > size && c->base->drv == &qcow2_driver)
        return qc_truncate(c->base, size, &shrink, NULL) ? 0 : -EIO;
    return node_truncate(c->base, size);
}

/* Ready: keep up with what guests write until told what to do. */
static int keep_up(struct commit *c)
{
    struct job *j = c->copy.job;
    int ret = 0;

    job_ready(j);
    while (ret == 0 && !j->complete_asked) {
        job_sleep(j, clock_ns() + LOOK_NS);
        ret = job_pause_point(j);
        if (ret == 0 && !is_clean(c))
            ret = copy_dirty(c);
    }
    return ret;
}

static bool commit_run(struct job *j, struct err **errp)
{
    struct commit *c = j->opaque;
    int ret = resize_base(c);

    c->started = true;
    j->total = c->top->size;
    if (ret < 0)
        copy_job_report(&c->copy, false, -ret);
    else
        ret = copy(c, true);
    if (ret == 0)
        j->done = j->total;
    while (ret == 0 && c->active && !is_clean(c))
        ret = copy_dirty(c);
    if (ret == 0)
        ret = copy_job_flush(&c->copy, c->base);
    if (ret == 0 && c->active)
        ret = keep_up(c);
    return ret == 0 || copy_job_end(&c->copy, ret, errp);
}

/* --- The end of an active one --- */

/* With top drained: the last of it. */
static int copy_rest(struct commit *c)
{
    AUTO_FREE uint8_t *buf = mem_alloc_aligned(PIECE, 4096);
    int ret = buf ? 0 : -ENOMEM;
    bool dirty;

    for (uint64_t off = 0, end; off < c->dirty->size && ret == 0; off = end) {
        end = bitmap_next(c->dirty, off, &dirty);
        if (!dirty)
            continue;
        end = min_u64(end, off + PIECE);
        struct req r = {
            .op = REQ_READ, .flags = REQ_INSIDE, .off = off, .len = end - off, .buf = buf};

        ret = node_submit(c->top, &r);
        if (ret == 0)
            ret = bytes_are_zero(buf, r.len) ? node_zero(c->base, off, r.len, REQ_MAY_UNMAP)
                                             : node_write(c->base, off, buf, r.len, 0);
        if (ret == 0)
            ret = bitmap_unmark(c->dirty, off, r.len);
    }
    return ret < 0 ? ret : node_flush(c->base);
}

/* Edges of the job are in the way of those who are to write. */
static void let_go_of(struct commit *c, const struct graph_node *n)
{
    struct chain *ch = &c->chain;

    for (unsigned i = 0; i < ch->n_use; i++) {
        if (ch->use[i]->child != n)
            continue;
        graph_unuse(&ch->ctl->graph, ch->use[i]);
        ch->use[i] = ch->use[--ch->n_use];
        return;
    }
}

static bool hold_again(struct commit *c, struct graph_node *n, unsigned perm)
{
    return chain_use(&c->chain, n, in_use, c->copy.job, perm, PERM_ALL & ~PERM_RESIZE, NULL);
}

static bool pivot(struct commit *c, struct err **errp)
{
    struct graph *g = &c->chain.ctl->graph;
    struct graph_node *top = c->chain.top, *base = c->chain.base;
    bool ok;
    int ret;

    graph_mark(top, true);
    graph_drain_begin(g);
    ret = copy_rest(c);
    if (ret < 0) {
        graph_drain_end(g);
        return err_set(errp, -ret, "%s", strerror(-ret));
    }
    graph_drain_add(base);
    let_go_of(c, base);
    /* top has no user of the job's now, and must not go before its own have moved. */
    bool owned = top->owned;
    top->owned = true;
    let_go_of(c, top);
    top->owned = owned;
    ok = graph_replace(g, top, base, NULL, errp);
    hold_again(c, top, 0);
    if (!ok)
        hold_again(c, base, PERM_WRITE);
    graph_drain_end(g);
    return ok;
}

static bool finish_active(struct commit *c, struct err **errp)
{
    bool ok;
    int ret = 0;

    for (unsigned i = 0; i < ROUNDS && ret == 0 && !is_clean(c); i++)
        ret = copy_dirty(c);
    if (ret == 0)
        ret = copy_job_flush(&c->copy, c->base);
    if (ret < 0)
        return copy_job_end(&c->copy, ret, errp);
    if (c->copy.job->soft_cancelled)
        return true;
    chain_lock(&c->chain);
    ok = pivot(c, errp);
    chain_unlock(&c->chain);
    if (ok)
        c->was_read_only = false;
    return ok;
}

/* --- The end of the other kind --- */

static bool check_lengths(const struct commit *c, struct err **errp)
{
    for (const struct graph_edge *e = c->chain.top->users; e; e = e->next_user) {
        if (e->role == ROLE_BACKING && e->parent->node->size > c->top->size &&
            c->base->size > c->top->size)
            return err_set(errp, ENOTSUP,
                           "Node '%s' is longer than node '%s': what lies behind the end of the "
                           "latter would show in node '%s'",
                           c->chain.base->name, c->chain.top->name, e->parent->name);
    }
    return true;
}

static bool drop_between(struct commit *c, struct err **errp)
{
    struct graph *g = &c->chain.ctl->graph;
    struct old_header *old = NULL;
    bool ok;

    if (!check_lengths(c, errp))
        return false;
    if (!chain_set_headers(&c->chain, &old, errp)) {
        chain_headers_end(&c->chain, old, true);
        return false;
    }
    graph_mark(c->chain.top, true);
    graph_drain_begin(g);
    graph_drain_add(c->chain.base);
    let_go_of(c, c->chain.top); /* whoever has it as backing image keeps it */
    ok = graph_replace(g, c->chain.top, c->chain.base, NULL, errp);
    hold_again(c, c->chain.top, 0);
    graph_drain_end(g);
    chain_headers_end(&c->chain, old, !ok);
    return ok;
}

static bool commit_prepare(struct job *j, struct err **errp)
{
    struct commit *c = j->opaque;
    bool ok;

    if (c->active)
        return finish_active(c, errp);
    chain_lock(&c->chain);
    ok = drop_between(c, errp);
    chain_unlock(&c->chain);
    return ok;
}

/* Base was opened for writing for this job's sake. */
static void settle_base(struct commit *c)
{
    struct chain *ch = &c->chain;
    struct err *e = NULL;

    for (unsigned i = 0; i < ch->n_use; i++)
        ch->use[i]->perm &= ~(unsigned)(PERM_WRITE | PERM_RESIZE);
    if (c->was_read_only && !graph_set_read_only(&ch->ctl->graph, ch->base, true, &e))
        log_warn("node '%s' after the commit: %s", ch->base->name, err_msg(e));
    err_free(e);
}

static void give_up(struct commit *c)
{
    if (c->dirty) {
        node_bitmap_detach(c->top, c->dirty);
        bitmap_free(c->dirty);
    }
    settle_base(c);
    chain_release(&c->chain);
    mem_free(c);
}

static void commit_clean(struct job *j)
{
    struct commit *c = j->opaque;
    struct control *ctl = c->chain.ctl;
    bool lock = c->started; /* else the command that wanted to start it has it */

    if (lock)
        co_lock(&ctl->busy);
    give_up(c);
    if (lock)
        co_unlock(&ctl->busy);
    j->opaque = NULL;
}

static const struct job_ops commit_ops = {
    .type = "commit",
    .is_block = true,
    .run = commit_run,
    .prepare = commit_prepare,
    .clean = commit_clean,
    .set_speed = copy_job_set_speed,
};
static const struct job_ops active_ops = {
    .type = "commit",
    .is_block = true,
    .ends_softly = true,
    .run = commit_run,
    .prepare = commit_prepare,
    .clean = commit_clean,
    .set_speed = copy_job_set_speed,
};

/* --- Its beginning --- */

static bool hold_all(struct commit *c, struct err **errp)
{
    struct chain *ch = &c->chain;
    const struct job *j = c->copy.job;
    unsigned resize = c->base->size < c->top->size || (c->active && c->base->size != c->top->size)
                          ? PERM_RESIZE
                          : 0;

    chain_relax(ch, true);
    for (struct graph_node *n = ch->top; n != ch->base; n = graph_below(n)) {
        /* What lies between shows the new content of base where it has none of its own. */
        unsigned shared = n == ch->top ? PERM_ALL : PERM_ALL & ~PERM_CONSISTENT_READ;

        if (!chain_use(ch, n, in_use, j, 0, shared & ~PERM_RESIZE, errp))
            return false;
    }
    return chain_use(ch, ch->base, in_use, j, PERM_CONSISTENT_READ | PERM_WRITE | resize,
                     PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED, errp);
}

static bool take(struct commit *c, const struct chain_wish *w, struct err **errp)
{
    c->was_read_only = w->base->read_only;
    if (!w->overlay || chain_name(&c->chain, w->backing_file, errp)) {
        if (c->was_read_only && !graph_set_read_only(&w->ctl->graph, w->base, false, errp)) {
            c->was_read_only = false;
            return false;
        }
        if (!hold_all(c, errp))
            return false;
        if (c->active)
            c->dirty = node_bitmap_add(c->top, NULL, 0, false, errp);
        return !c->active || c->dirty;
    }
    c->was_read_only = false;
    return false;
}

bool commit_start(const struct chain_wish *w, struct err **errp)
{
    struct commit *c = mem_new(struct commit);
    struct job *j = NULL;

    if (!c)
        return err_set(errp, ENOMEM, "out of memory for a job");
    j = job_new(&w->ctl->jobs, w->overlay ? &commit_ops : &active_ops, w->job_id, c, errp);
    if (!j) {
        mem_free(c);
        return false;
    }
    *c = (struct commit){
        .copy = {.ctl = w->ctl, .job = j, .on_read = w->on_error, .on_write = w->on_error},
        .chain = {.ctl = w->ctl, .top = w->top, .base = w->base},
        .top = w->top->node,
        .base = w->base->node,
        .images = chain_images(w->top, w->base),
        .active = !w->overlay,
    };
    j->speed = w->speed;
    j->auto_finalize = w->auto_finalize;
    j->auto_dismiss = w->auto_dismiss;
    if (take(c, w, errp))
        return job_start(j, errp);
    give_up(c);
    job_drop(j);
    return false;
}
