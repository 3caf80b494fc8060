/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The stream job: what an image shows of the images below it, down to and without `base`, becomes
 * its own. Then its header, and it itself, have base as their backing image, or none.
 *
 * Guests may write to the image meanwhile: only clusters are written of which it has nothing
 * (REQ_KEEP). All is durable before the header changes.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "control/blockdev.h"
#include "control/chain.h"
#include "qcow2/qcow2.h"

struct streaming {
    struct copy_job copy; /* first */
    struct chain chain;
    struct node *top;
    unsigned images; /* from top on, above base */
    bool was_read_only, started;
};

/* What an image below top and above base has. Without a base, what is nowhere or zeros needs no
 * copy: it reads as zeros then. */
static int map(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    struct streaming *s = arg;
    struct extents ext;
    unsigned depth = 0;
    int ret;

    extents_init(&ext, 1);
    *kind = COPY_SKIP;
    ret = node_depth(s->top, off, min_u64(len, GiB), &ext);
    if (ret == 0 && ext.n == 0)
        ret = -EIO;
    if (ret == 0) {
        *got = min_u64(len, ext.v[0].len);
        depth = ext.v[0].flags;
    }
    if (ret == 0 && depth > 1 && depth <= s->images) {
        *kind = COPY_DATA;
        if (!s->chain.base)
            ret = node_status(s->top, off, *got, &ext);
        if (ret == 0 && !s->chain.base && ext.n > 0) {
            *got = min_u64(*got, ext.v[0].len);
            *kind = ext.v[0].flags & EXTENT_ZERO ? COPY_SKIP : COPY_DATA;
        }
    }
    extents_free(&ext);
    return ret;
}

static void progress(void *arg, uint64_t done, uint64_t all)
{
    struct streaming *s = arg;

    s->copy.job->done = done;
}

/* Is there nothing between top and base? */
static bool is_done(const struct streaming *s)
{
    return graph_backing(s->chain.top) == s->chain.base;
}

static bool stream_run(struct job *j, struct err **errp)
{
    static const struct copy_ops ops = {.map = map,
                                        .gate = copy_job_gate,
                                        .pace = copy_job_pace,
                                        .progress = progress,
                                        .failed = copy_job_failed};
    struct streaming *s = j->opaque;
    struct copy_opts o = {.src = s->top,
                          .dst = s->top,
                          .len = s->top->size,
                          .unit = s->top->limits.zero_align,
                          .write_flags = REQ_KEEP,
                          .whole_reads = true,
                          .ops = &ops,
                          .arg = s};
    struct copy_result where = {.reading = true};
    int ret;

    s->started = true;
    if (is_done(s))
        return true;
    j->total = s->top->size;
    ret = copy_run(&o, &where);
    if (ret < 0 && !j->cancelled && !s->copy.failed)
        copy_job_report(&s->copy, where.reading, -ret);
    if (ret == 0)
        ret = copy_job_flush(&s->copy, s->top);
    if (ret < 0)
        return copy_job_end(&s->copy, ret, errp);
    j->done = j->total;
    return true;
}

static bool stream_prepare(struct job *j, struct err **errp)
{
    struct streaming *s = j->opaque;
    struct chain *ch = &s->chain;
    AUTO_FREE char *old_name = NULL, *old_format = NULL;
    struct qc_info info;
    bool ok = true;

    if (is_done(s))
        return true;
    chain_lock(ch);
    qc_get_info(s->top, &info);
    if (info.backing_name) {
        old_name = mem_strdup(info.backing_name);
        old_format = mem_strdup(info.backing_format);
        ok = old_name && old_format;
        if (!ok)
            err_set(errp, ENOMEM, "out of memory");
    }
    ok = ok && qc_set_backing(s->top, ch->name, ch->format, errp);
    if (ok && !chain_set_backing(&ch->ctl->graph, ch->top, ch->base, errp)) {
        qc_set_backing(s->top, old_name, old_format, NULL);
        ok = false;
    }
    chain_unlock(ch);
    return ok;
}

static void give_up(struct streaming *s)
{
    struct chain *ch = &s->chain;
    struct err *e = NULL;

    for (unsigned i = 0; i < ch->n_use; i++)
        ch->use[i]->perm = 0;
    if (s->was_read_only && !graph_set_read_only(&ch->ctl->graph, ch->top, true, &e))
        log_warn("node '%s' after the stream: %s", ch->top->name, err_msg(e));
    err_free(e);
    chain_release(ch);
    mem_free(s);
}

static void stream_clean(struct job *j)
{
    struct streaming *s = j->opaque;
    struct control *ctl = s->chain.ctl;
    bool lock = s->started; /* else the command that wanted to start it has it */

    if (lock)
        co_lock(&ctl->busy);
    give_up(s);
    if (lock)
        co_unlock(&ctl->busy);
    j->opaque = NULL;
}

static const struct job_ops stream_ops = {
    .type = "stream",
    .is_block = true,
    .run = stream_run,
    .prepare = stream_prepare,
    .clean = stream_clean,
    .set_speed = copy_job_set_speed,
};

static bool take(struct streaming *s, const struct chain_wish *w, struct err **errp)
{
    static const char in_use[] = "block job: stream";
    struct chain *ch = &s->chain;

    if (!chain_name(ch, w->backing_file, errp))
        return false;
    if (w->top->read_only) {
        if (!graph_set_read_only(&w->ctl->graph, w->top, false, errp))
            return false;
        s->was_read_only = true;
    }
    if (!chain_use(ch, w->top, in_use, s->copy.job, PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED,
                   PERM_ALL & ~PERM_RESIZE, errp))
        return false;
    for (struct graph_node *n = graph_below(w->top); n && n != w->base; n = graph_below(n)) {
        if (!chain_use(ch, n, in_use, s->copy.job, PERM_CONSISTENT_READ,
                       PERM_CONSISTENT_READ | PERM_WRITE_UNCHANGED, errp))
            return false;
    }
    return !w->base ||
           chain_use(ch, w->base, in_use, s->copy.job, 0, PERM_ALL & ~PERM_RESIZE, errp);
}

bool stream_start(const struct chain_wish *w, struct err **errp)
{
    struct streaming *s = mem_new(struct streaming);
    struct job *j = NULL;

    if (!s)
        return err_set(errp, ENOMEM, "out of memory for a job");
    j = job_new(&w->ctl->jobs, &stream_ops, w->job_id, s, errp);
    if (!j) {
        mem_free(s);
        return false;
    }
    *s = (struct streaming){
        .copy = {.ctl = w->ctl, .job = j, .on_read = w->on_error, .on_write = w->on_error},
        .chain = {.ctl = w->ctl, .top = w->top, .base = w->base},
        .top = w->top->node,
        .images = chain_images(w->top, w->base),
    };
    j->speed = w->speed;
    j->auto_finalize = w->auto_finalize;
    j->auto_dismiss = w->auto_dismiss;
    if (take(s, w, errp))
        return job_start(j, errp);
    give_up(s);
    job_drop(j);
    return false;
}
