/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image commit: move what an overlay holds into an image below it (qcow2/commit.c does
 * it; here is found which image that is).
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "block/file.h"
#include "cli/image_copy.h"
#include "cli/image_result.h"
#include "io/reactor.h"
#include "qcow2/inspect.h"
#include "qcow2/qcow2.h"
#include "qcow2/rebase.h"

#define MAX_DEPTH 64

struct commit {
    struct image_meter meter; /* first: see image_meter_show */
    const struct image_copy_opts *o;
    struct node *top;
    unsigned depth; /* layers that base lies below top */
    struct qc_moved moved;
};

static void commit_progress(void *arg, uint64_t done, uint64_t all)
{
    image_meter_show(arg, done, all);
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

static bool empties(const struct commit *c)
{
    return !c->o->drop && !c->o->base;
}

static struct node *base_of(const struct commit *c)
{
    struct node *n = c->top;
    for (unsigned i = 0; i < c->depth; i++)
        n = qc_backing_node(n);
    return n;
}

static void tell(struct image_job *job, const struct commit *c, int64_t started_ns)
{
    const struct image_copy_opts *o = c->o;
    if (!o->json && !o->quiet)
        printf("Image committed.\n");
    if (!o->json)
        return;
    const struct node *base = base_of(c);
    struct json_t *j = image_result_new(o->file[0]);
    image_result_text(j, "base", base->name);
    image_result_number(j, "base-virtual-size", base->size);
    image_result_flag(j, "emptied", empties(c));
    image_result_moved(j, c->moved.data_bytes, c->moved.zero_bytes);
    image_result_print(job, j, started_ns);
}

static bool commit(struct commit *c, struct err **errp)
{
    const struct qc_commit_opts co = {.depth = c->depth,
                                      .rate = c->o->rate,
                                      .empty = empties(c),
                                      .progress = commit_progress,
                                      .arg = &c->meter,
                                      .moved = &c->moved};
    return qc_commit(c->top, &co, errp);
}

static void commit_run(struct image_job *job)
{
    struct image_copy_opts *o = job->copy;
    struct commit c = {.o = o, .meter = {.show = o->progress}};
    int64_t started_ns = clock_ns();
    if (!format_settle(o->file[0], "-f", &o->format, &job->err))
        return;
    if (o->format != FORMAT_QCOW2) {
        err_set(&job->err, ENOTSUP, "commit: a raw image has no backing file");
        return;
    }
    if (!find_base(&c, &job->err))
        return;
    const struct image_source s = {.path = o->file[0],
                                   .rules = o->rules[0],
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
        tell(job, &c, started_ns);
    }
    node_unref(c.top);
}

const struct image_command image_commit_command = {
    .name = "commit",
    .copy_letters = "fbdrptqDJx",
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = commit_run,
};
