/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image rebase: give an image another backing file.
 *
 * What the image reads from the old one and would not read from the new one is copied into it
 * first. Until that is durable the header names the old file, so that the image reads the same at
 * every moment; then one step changes the header.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cli/image_copy.h"
#include "qcow2/map.h"
#include "qcow2/qcow2.h"

struct rebase {
    struct image_meter meter; /* first: see image_meter_show */
    const struct image_copy_opts *o;
    struct node *image, *new; /* new: NULL: none */
};

static uint64_t new_end(const struct rebase *b)
{
    return b->new ? b->new->size : 0;
}

/* Does the new backing file read as zeros at off? *len: how far; at most what it was. */
static int new_is_zero(const struct rebase *b, uint64_t off, uint64_t *len, bool *zero)
{
    struct qc_extent x;
    *zero = off >= new_end(b);
    if (*zero)
        return 0;
    int r = qc_map(b->new, off, min_u64(*len, new_end(b) - off), &x);
    *zero = x.zero;
    if (r == 0)
        *len = x.length;
    return r;
}

/* What the image itself says stays. What is zero and will be zero needs no look. */
static int rebase_map(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    const struct rebase *b = arg;
    struct qc_extent x;
    bool zero;
    *kind = COPY_SKIP;
    int r = qc_map(b->image, off, len, &x);
    *got = x.length;
    if (r < 0 || (x.depth == 0 && x.present))
        return r;
    r = new_is_zero(b, off, got, &zero);
    if (!x.zero || !zero)
        *kind = COPY_DATA;
    return r;
}

static int rebase_baseline(void *arg, uint64_t off, uint8_t *buf, uint64_t len)
{
    const struct rebase *b = arg;
    uint64_t have = off < new_end(b) ? min_u64(len, new_end(b) - off) : 0;
    int r = have ? node_read(b->new, off, buf, have) : 0;
    memset(buf + have, 0, len - have);
    return r;
}

static void rebase_progress(void *arg, uint64_t done, uint64_t all)
{
    image_meter_show(arg, done, all);
}

static bool copy_differences(struct rebase *b, struct err **errp)
{
    static const struct copy_ops ops = {
        .map = rebase_map, .baseline = rebase_baseline, .progress = rebase_progress};
    const struct limits *l = &b->image->limits;
    const struct copy_opts co = {.src = b->image,
                                 .dst = b->image,
                                 .len = b->image->size,
                                 .unit = b->o->compressed ? l->cluster : l->zero_align,
                                 .zero_unit = b->o->compressed ? l->cluster : l->zero_align,
                                 .write_flags = b->o->compressed ? REQ_COMPRESSED : 0,
                                 .ops = &ops,
                                 .arg = b};
    struct copy_result at;
    int r = copy_run(&co, &at);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot %s %" PRIu64 " bytes at %" PRIu64,
                                   b->o->file[0], at.reading ? "read" : "write", at.len, at.off);
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
    unsigned n = qc_n_snapshots(b->image);
    if (n)
        return err_set(errp, ENOTSUP,
                       "%s: its %u internal snapshots read from the backing file, too, and would "
                       "change: delete them first (-u changes the name only)",
                       b->o->file[0], n);
    if (!open_new(b, errp))
        return false;
    if (b->new)
        qc_expect_backing(b->image);
    return copy_differences(b, errp);
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
    if (!*o->base && o->base_format != FORMAT_UNSAID)
        return err_set(errp, EINVAL, "rebase: -F without a backing file");
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
    if (!judge(o, &job->err))
        return;
    const struct image_source s = {.path = o->file[0],
                                   .format = o->format,
                                   .backing_dir = o->backing_dir,
                                   .writable = true,
                                   .direct = o->cache.direct,
                                   .no_flush = o->cache.unsafe,
                                   .no_backing = o->unsafe};
    b.image = image_source_open(&s, &job->err);
    bool ok = b.image && (o->unsafe || rebase_safe(&b, &job->err)) &&
              qc_set_backing(b.image, *o->base ? o->base : NULL,
                             *o->base ? format_name(o->base_format) : NULL, &job->err);
    if (ok && o->progress)
        image_progress(1, 1);
    node_unref(b.image);
    node_unref(b.new);
}

const struct image_command image_rebase_command = {
    .name = "rebase",
    .copy_letters = "fbFutTpqcD",
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = rebase_run,
};
