/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image rebase: give an image another backing file (qcow2/rebase.c does it).
 */
#include <errno.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cli/image_copy.h"
#include "cli/image_result.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"
#include "qcow2/rebase.h"

struct rebase {
    struct image_meter meter; /* first: see image_meter_show */
    const struct image_copy_opts *o;
    struct node *image, *new; /* new: NULL: none */
    struct qc_moved moved;
};

static void rebase_progress(void *arg, uint64_t done, uint64_t all)
{
    image_meter_show(arg, done, all);
}

/* The name in the header is relative to the image's folder. */
static bool open_new(struct rebase *b, struct err **errp)
{
    const struct image_copy_opts *o = b->o;
    struct stat image, base;
    if (!*o->base)
        return true;
    AUTO_FREE char *path = image_backing_path(o->file[0], o->base);
    if (!path)
        return err_set(errp, ENOMEM, "out of memory");
    if (stat(o->file[0], &image) == 0 && stat(path, &base) == 0 && image.st_dev == base.st_dev &&
        image.st_ino == base.st_ino)
        return err_set(errp, EINVAL, "an image cannot be its own backing file");
    const struct image_source s = {.path = path,
                                   .format = o->base_format,
                                   .backing_dir = o->backing_dir,
                                   .direct = o->source_cache.direct};
    b->new = image_source_open(&s, errp);
    return b->new || err_prefix(errp, "the new backing file: ");
}

static bool rebase_safe(struct rebase *b, struct err **errp)
{
    struct qc_rebase_opts ro = {.name = *b->o->base ? b->o->base : NULL,
                                .format = format_name(b->o->base_format),
                                .compressed = b->o->compressed,
                                .progress = rebase_progress,
                                .arg = &b->meter,
                                .moved = &b->moved};
    if (!open_new(b, errp))
        return false;
    ro.backing = b->new;
    return qc_rebase(b->image, &ro, errp);
}

static bool rebase_unsafe(struct rebase *b, struct err **errp)
{
    bool any = *b->o->base;
    return qc_set_backing(b->image, any ? b->o->base : NULL,
                          any ? format_name(b->o->base_format) : NULL, errp);
}

static void print_json(struct image_job *job, const struct rebase *b, int64_t started_ns)
{
    const struct image_copy_opts *o = b->o;
    struct json_t *j = image_result_new(o->file[0]);
    image_result_text(j, "backing-filename", *o->base ? o->base : NULL);
    image_result_text(j, "backing-filename-format", *o->base ? format_name(o->base_format) : NULL);
    image_result_number(j, "virtual-size", b->image->size);
    image_result_disk(j, o->file[0]);
    image_result_moved(j, b->moved.data_bytes, b->moved.zero_bytes);
    image_result_print(job, j, started_ns);
}

static bool judge(struct image_copy_opts *o, struct err **errp)
{
    if (!o->has_base)
        return err_set(errp, EINVAL, "rebase: -b is missing (-b '' for no backing file)");
    if (*o->base && o->base_format == FORMAT_UNSAID)
        return err_set(errp, EINVAL,
                       "rebase: what is the format of the backing file '%s'? Say -F qcow2 or -F "
                       "raw: it is not guessed",
                       o->base);
    if (o->unsafe && o->compressed)
        return err_set(errp, EINVAL, "rebase: -u copies nothing that -c could compress");
    if (!format_settle(o->file[0], "-f", &o->format, errp))
        return false;
    return o->format == FORMAT_QCOW2 ||
           err_set(errp, ENOTSUP, "rebase: a raw image has no backing file");
}

static void rebase_run(struct image_job *job)
{
    struct image_copy_opts *o = job->copy;
    struct rebase b = {.o = o, .meter = {.show = o->progress}};
    int64_t started_ns = clock_ns();
    if (!judge(o, &job->err))
        return;
    const struct image_source s = {.path = o->file[0],
                                   .rules = o->rules[0],
                                   .format = o->format,
                                   .backing_dir = o->backing_dir,
                                   .writable = true,
                                   .direct = o->cache.direct,
                                   .no_flush = o->cache.unsafe,
                                   .no_backing = o->unsafe};
    b.image = image_source_open(&s, &job->err);
    bool ok = b.image && (o->unsafe ? rebase_unsafe(&b, &job->err) : rebase_safe(&b, &job->err));
    if (ok && o->progress)
        image_progress(1, 1);
    if (ok && o->json)
        print_json(job, &b, started_ns);
    node_unref(b.image);
    node_unref(b.new);
}

const struct image_command image_rebase_command = {
    .name = "rebase",
    .copy_letters = "fbFutTpqcDJx",
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = rebase_run,
};
