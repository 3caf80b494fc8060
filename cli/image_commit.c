/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image commit: move what an overlay holds into an image below it.
 *
 * The overlay hides what is written below it, so that the chain reads the same at every moment: the
 * base is filled, made durable, and only then is the overlay emptied, in one step.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "block/file.h"
#include "cli/image_copy.h"
#include "qcow2/inspect.h"
#include "qcow2/map.h"
#include "qcow2/qcow2.h"

#define MAX_DEPTH 64
#define RAW_UNIT 4096

struct commit {
    struct image_meter meter; /* first: see image_meter_show */
    const struct image_copy_opts *o;
    struct node *top, *base;
    unsigned depth; /* layers that base lies below top */
};

/* What lies above the base is copied; what it or a layer below it holds is there already. Zeros
 * (also where a layer in between is too short to have anything) only if base reads otherwise. */
static int commit_map(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    const struct commit *c = arg;
    struct qc_extent x;
    int r = qc_map(c->top, off, len, &x);
    *got = x.length;
    *kind = x.depth >= c->depth ? COPY_SKIP : COPY_DATA;
    if (r < 0 || *kind == COPY_SKIP || x.data)
        return r;
    r = qc_map(c->base, off, x.length, &x);
    *got = x.length;
    *kind = x.zero ? COPY_SKIP : COPY_ZERO;
    return r;
}

static void commit_progress(void *arg, uint64_t done, uint64_t all)
{
    image_meter_show(arg, done, all);
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

/* --- Which layer is the base? --- */

/* Step to the backing file of *path, by what the image says. */
static bool step_down(char **path, bool *is_qcow2, struct err **errp)
{
    const struct file_opts fo = {.path = *path, .read_only = true};
    struct qc_image_info info = {0};
    struct node *file = *is_qcow2 ? file_open(&fo, errp) : NULL;
    char *next = NULL;
    bool ok = !*is_qcow2 || (file && qc_inspect(file, &info, errp));
    if (ok && info.backing_name)
        next = image_backing_path(*path, info.backing_name);
    *is_qcow2 = info.backing_format && info.backing_format[0] == 'q';
    qc_image_info_free(&info);
    node_unref(file);
    mem_free(*path);
    *path = next;
    return ok;
}

static bool find_base(struct commit *c, struct err **errp)
{
    const struct image_copy_opts *o = c->o;
    struct stat want, st;
    bool is_qcow2 = true, ok = true, found = false;
    c->depth = 1;
    if (!o->base)
        return true;
    if (stat(o->base, &want) < 0)
        return err_set_errno(errp, errno, "%s", o->base);
    char *path = mem_strdup(o->file[0]);
    for (c->depth = 0; path && c->depth < MAX_DEPTH; c->depth++) {
        found = c->depth > 0 && stat(path, &st) == 0 && st.st_dev == want.st_dev &&
                st.st_ino == want.st_ino;
        if (found || !(ok = step_down(&path, &is_qcow2, errp)))
            break;
    }
    mem_free(path);
    if (!ok)
        return false;
    return found ||
           err_set(errp, EINVAL, "'%s' is not in the backing chain of %s", o->base, o->file[0]);
}

/* --- The command --- */

/* Snapshots of the top, and of what lies between, read from the base. */
static bool check_layers(struct commit *c, struct err **errp)
{
    struct node *n = c->top;
    for (unsigned i = 0; i < c->depth; i++) {
        if (qc_n_snapshots(n))
            return err_set(errp, ENOTSUP,
                           "%s: its %u internal snapshots read from the backing file, too, and "
                           "would change: delete them first",
                           n->name, qc_n_snapshots(n));
        if (n->n_child < 2)
            return err_set(errp, EINVAL, "%s has no backing file to commit to", n->name);
        n = n->child[1];
    }
    c->base = n;
    return true;
}

static void tell(const struct commit *c)
{
    if (!c->o->quiet)
        printf("Image committed.\n");
}

static bool commit(struct commit *c, struct err **errp)
{
    bool empty = !c->o->drop && !c->o->base;
    if (!check_layers(c, errp) || !grow_base(c, errp) || !copy_down(c, errp))
        return false;
    return !empty || qc_make_empty(c->top, errp);
}

static void commit_run(struct image_job *job)
{
    struct image_copy_opts *o = job->copy;
    struct commit c = {.o = o, .meter = {.show = o->progress}};
    if (!format_settle(o->file[0], "-f", &o->format, &job->err))
        return;
    if (o->format != FORMAT_QCOW2) {
        err_set(&job->err, ENOTSUP, "commit: a raw image has no backing file");
        return;
    }
    if (!find_base(&c, &job->err))
        return;
    const struct image_source s = {.path = o->file[0],
                                   .format = o->format,
                                   .backing_dir = o->backing_dir,
                                   .writable = true,
                                   .writable_backing = c.depth,
                                   .direct = o->cache.direct,
                                   .no_flush = o->cache.unsafe};
    c.top = image_source_open(&s, &job->err);
    if (c.top && commit(&c, &job->err)) {
        if (o->progress)
            image_progress(1, 1);
        tell(&c);
    }
    node_unref(c.top);
}

const struct image_command image_commit_command = {
    .name = "commit",
    .copy_letters = "fbdrptqD",
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = commit_run,
};
