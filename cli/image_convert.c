/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image convert SOURCE... TARGET
 *
 * The target is made under a temporary name and gets its own only when it is whole and durable; one
 * that was there before stays until then. With -n it is written in place.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "block/concat.h"
#include "block/new_file.h"
#include "block/node_bitmap.h"
#include "cli/image_copy.h"
#include "cli/image_result.h"
#include "io/reactor.h"
#include "qcow2/map.h"
#include "qcow2/qcow2.h"

#define SECTOR 512
#define SUBCLUSTERS 32
#define RAW_SPARSE 4096 /* what qemu-img looks for, too */

struct convert {
    struct image_meter meter; /* first: see image_meter_show */
    struct image_job *job;
    const struct image_copy_opts *o;
    struct node *src;     /* all sources as one */
    struct node *backing; /* of the target, or NULL */
    bool src_has_backing; /* -B: what the top image leaves out need not be copied */
    uint64_t size;        /* bytes to copy */
    struct qc_create_opts co;
    uint64_t unit, zero_unit;
    uint64_t n_lost, lost_end; /* --salvage: sectors; where the last one ends */
    struct copy_result done;
};

/* --- Opening --- */

static bool open_sources(struct convert *c, struct err **errp)
{
    unsigned n = (unsigned)c->o->n_files, i = 0;
    AUTO_FREE struct node **part = mem_array(n, sizeof(*part));
    if (!part)
        return err_set(errp, ENOMEM, "out of memory");
    for (; i < n; i++) {
        struct image_source s = {.path = c->o->file[i],
                                 .rules = c->o->rules[i],
                                 .format = c->o->format,
                                 .backing_dir = c->o->backing_dir,
                                 .snapshot = image_copy_snapshot(c->o),
                                 .direct = c->o->source_cache.direct,
                                 .no_lock = c->o->force_share};
        if (!format_settle(s.path, "-f", &s.format, errp) ||
            !(part[i] = image_source_open(&s, errp)))
            break;
    }
    if (i == n && n == 1 && part[0]->size % SECTOR == 0)
        c->src = part[0];
    else if (i == n)
        c->src = concat_new(part, n, errp);
    if (!c->src)
        while (i--)
            node_unref(part[i]);
    return c->src != NULL;
}

/* The target's own name for its backing file is relative to the target's folder. */
static bool open_backing(struct convert *c, struct err **errp)
{
    const struct image_copy_opts *o = c->o;
    if (!o->base)
        return true;
    AUTO_FREE char *path = image_backing_path(o->target, o->base);
    if (!path)
        return err_set(errp, ENOMEM, "out of memory");
    const struct image_source s = {.path = path,
                                   .format = o->base_format,
                                   .backing_dir = o->backing_dir,
                                   .no_lock = o->force_share};
    c->backing = image_source_open(&s, errp);
    return c->backing || err_prefix(errp, "the backing file: ");
}

/* --- What is copied --- */

/* With -B: what the top image of the source has nothing to say about comes from the backing file,
 * which the user says is the same. */
static int map_above(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    struct convert *c = arg;
    struct qc_extent x;
    int r = qc_map(c->src, off, len, &x);
    if (r < 0)
        return r;
    *got = x.length;
    if (x.depth > 0)
        *kind = COPY_SKIP;
    else if (x.data)
        *kind = COPY_DATA;
    else
        *kind = off >= c->backing->size ? COPY_SKIP : COPY_ZERO;
    if (*kind == COPY_ZERO && off < c->backing->size)
        *got = min_u64(*got, c->backing->size - off);
    return 0;
}

static enum copy_answer salvage(void *arg, bool reading, uint64_t off, uint64_t len, int error)
{
    struct convert *c = arg;
    if (!reading)
        return COPY_FAIL;
    if (!c->o->quiet && (!c->n_lost || off != c->lost_end))
        log_warn("%s: cannot read from offset %" PRIu64 " on: %s; zeros instead", c->o->file[0],
                 off, strerror(error));
    c->n_lost++;
    c->lost_end = off + len;
    return COPY_IGNORE;
}

static void progress(void *arg, uint64_t done, uint64_t all)
{
    image_meter_show(arg, done, all);
}

/* --- Bitmaps --- */

/* Is this bitmap to be copied? False and *errp: it cannot be. */
static bool wanted(const struct convert *c, const struct bitmap *b, bool *yes, struct err **errp)
{
    *yes = b->name && b->persistent && !b->inconsistent;
    return !b->inconsistent || c->o->skip_broken_bitmaps ||
           err_set(errp, EINVAL,
                   "%s: cannot copy inconsistent bitmap '%s': remove it, or say "
                   "--skip-broken-bitmaps",
                   c->o->file[0], b->name);
}

/* Before the long work. */
static bool check_bitmaps(const struct convert *c, struct err **errp)
{
    bool yes, broken = false;
    if (c->src->drv != &qcow2_driver)
        return err_set(errp, ENOTSUP, "convert: --bitmaps: %s can have none", c->o->file[0]);
    for (const struct bitmap *b = node_bitmap_first(c->src); b; b = b->next) {
        if (!wanted(c, b, &yes, errp))
            return false;
        broken |= b->inconsistent;
    }
    if (broken && !c->o->quiet)
        log_warn("%s: inconsistent bitmaps are left out", c->o->file[0]);
    return true;
}

/* After it, so that the copy itself is not recorded. */
static bool copy_bitmaps(const struct convert *c, struct node *dst, struct err **errp)
{
    bool yes;
    for (const struct bitmap *b = node_bitmap_first(c->src); b; b = b->next) {
        if (!wanted(c, b, &yes, errp))
            return false;
        if (!yes)
            continue;
        struct bitmap *made = node_bitmap_add(dst, b->name, b->granularity, true, errp);
        if (!made || !bitmap_merge(made, b, errp) ||
            (!b->enabled && !bitmap_enable(made, false, errp)))
            return err_prefix(errp, "%s: bitmap '%s': ", c->o->target, b->name);
    }
    return node_bitmap_store(dst, errp);
}

static bool copy(struct convert *c, struct node *dst, bool dst_zero, struct err **errp)
{
    const struct image_copy_opts *o = c->o;
    const struct copy_ops ops = {.map = c->backing ? map_above : NULL,
                                 .progress = progress,
                                 .failed = o->salvage ? salvage : NULL};
    const struct copy_opts co = {
        .src = c->src,
        .dst = dst,
        .len = c->size,
        .unit = c->unit,
        .zero_unit = c->zero_unit,
        .in_flight = o->in_flight,
        .rate = o->rate,
        .write_flags = o->compressed ? REQ_COMPRESSED : 0,
        .unordered = o->unordered || o->out_format == FORMAT_RAW,
        .dst_zero = dst_zero,
        .offload = o->offload,
        .ops = &ops,
        .arg = c,
    };
    const struct copy_result *at = &c->done;
    int r = copy_run(&co, &c->done);
    if (r < 0)
        return err_set_errno(errp, -r, "cannot %s %" PRIu64 " bytes at %" PRIu64 " of %s",
                             at->reading ? "read" : "write", at->len, at->off,
                             at->reading ? o->file[0] : o->target);
    if (o->bitmaps && !copy_bitmaps(c, dst, errp))
        return false;
    r = node_flush(dst);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot flush", o->target);
}

/* --- Targets --- */

static bool fill_raw(struct convert *c, struct node *file, struct err **errp)
{
    int r = node_truncate(file, c->co.size);
    if (r < 0)
        return err_set_errno(errp, -r, "%s: cannot make it %" PRIu64 " bytes long", c->o->target,
                             c->co.size);
    r = image_raw_preallocate(file, 0, c->co.size, c->co.preallocation);
    if (r < 0)
        return err_set_errno(errp, -r, "%s: cannot preallocate %" PRIu64 " bytes", c->o->target,
                             c->co.size);
    return copy(c, file, true, errp);
}

/* data: the data file, or NULL if the image is to hold the data. */
static bool fill_qcow2(struct convert *c, struct node *file, struct node *data, struct err **errp)
{
    const struct qc_open_opts qo = {.path = c->o->target, .backing = c->backing, .data_file = data};
    if (!qc_create(file, &c->co, errp) || (data && !qc_create_data(data, &c->co, errp)))
        return false;
    struct node *n = qc_open(node_ref(file), &qo, errp);
    if (!n) {
        node_unref(file);
        return false;
    }
    bool ok = copy(c, n, !c->backing, errp);
    node_unref(n);
    return ok;
}

/* A link stays, what it leads to is replaced. */
static bool make_file(const struct convert *c, const char *path, new_file_fn *fill, void *arg,
                      struct err **errp)
{
    const struct image_cache *cache = &c->o->cache;
    unsigned flags = NEW_FILE_OVERWRITE | (cache->unsafe ? NEW_FILE_UNSAFE : 0) |
                     (cache->direct ? NEW_FILE_DIRECT : 0);
    char *real = realpath(path, NULL);
    bool ok = new_file_make(real ? real : path, flags, fill, arg, errp);
    free(real);
    return ok;
}

struct pair {
    struct convert *c;
    struct node *file; /* the image; the data file comes later */
};

static bool fill_pair(struct node *data, void *arg, struct err **errp)
{
    const struct pair *p = arg;
    return fill_qcow2(p->c, p->file, data, errp);
}

/* As qc_create_file does it: the data file gets its name when both are whole, the image last. */
static bool fill_with_data(struct convert *c, struct node *file, struct err **errp)
{
    struct pair p = {.c = c, .file = file};
    AUTO_FREE char *path = image_backing_path(c->o->target, c->co.data_file);
    if (!path)
        return err_set(errp, ENOMEM, "out of memory");
    return make_file(c, path, fill_pair, &p, errp) || err_prefix(errp, "the data file: ");
}

static bool fill(struct node *file, void *arg, struct err **errp)
{
    struct convert *c = arg;
    if (c->o->out_format == FORMAT_RAW)
        return fill_raw(c, file, errp);
    return c->co.data_file ? fill_with_data(c, file, errp) : fill_qcow2(c, file, NULL, errp);
}

static bool convert_in_place(struct convert *c, struct err **errp)
{
    const struct image_copy_opts *o = c->o;
    const struct image_source s = {.path = o->target,
                                   .rules = o->rules[o->n_files],
                                   .format = o->out_format,
                                   .backing_dir = o->backing_dir,
                                   .writable = true,
                                   .direct = o->cache.direct,
                                   .no_flush = o->cache.unsafe,
                                   .backing = c->backing};
    struct node *dst = image_source_open(&s, errp);
    if (!dst)
        return false;
    bool ok =
        dst->size >= c->size ||
        err_set(errp, EINVAL, "%s has %" PRIu64 " bytes, the images to be copied have %" PRIu64,
                o->target, dst->size, c->size);
    if (o->out_format == FORMAT_QCOW2)
        c->unit = c->zero_unit = o->compressed ? dst->limits.cluster : dst->limits.zero_align;
    if (o->has_sparse && o->sparse == 0)
        c->zero_unit = 0;
    ok = ok && copy(c, dst, o->target_is_zero, errp);
    node_unref(dst);
    return ok;
}

/* --- Options --- */

static uint64_t power_of_2_below(uint64_t v)
{
    return v ? UINT64_C(1) << (63 - __builtin_clzll(v)) : 0;
}

static bool judge(struct convert *c, struct err **errp)
{
    struct image_copy_opts *o = c->job->copy;
    bool qcow2 = o->out_format == FORMAT_QCOW2;
    if (o->skip_broken_bitmaps && !o->bitmaps)
        return err_set(errp, EINVAL, "convert: --skip-broken-bitmaps is for --bitmaps");
    if (o->bitmaps && (!qcow2 || o->n_files > 1))
        return err_set(errp, EINVAL, "convert: --bitmaps is for one image, and a qcow2 target");
    if (o->compressed && !qcow2)
        return err_set(errp, EINVAL, "convert: -c: a raw image cannot be compressed");
    if (o->offload && (o->has_sparse || o->compressed))
        return err_set(errp, EINVAL, "convert: -C does not go with -S and -c");
    if (o->target_is_zero && !o->no_create)
        return err_set(errp, EINVAL, "convert: --target-is-zero is for a target that exists (-n)");
    if (o->target_is_zero && o->base)
        return err_set(errp, EINVAL, "convert: --target-is-zero does not go with -B");
    if (o->base && !qcow2)
        return err_set(errp, EINVAL, "convert: a raw image has no backing file");
    if (o->base && o->n_files > 1)
        return err_set(errp, EINVAL, "convert: -B goes with one image only");
    if (o->base && o->base_format == FORMAT_UNSAID)
        return err_set(errp, EINVAL,
                       "convert: what is the format of the backing file '%s'? Say -F qcow2 or -F "
                       "raw: it is not guessed",
                       o->base);
    if (!o->base && o->base_format != FORMAT_UNSAID)
        return err_set(errp, EINVAL, "convert: -F without a backing file");
    if (c->job->o.qc.data_file && o->compressed)
        return err_set(errp, EINVAL, "convert: -c: a data file holds no compressed clusters");
    if (!qcow2 && !image_raw_judge(&c->job->o, errp))
        return err_prefix(errp, "convert: ");
    if (o->has_snapshot && o->n_files > 1)
        return err_set(errp, EINVAL, "convert: -l goes with one image only");
    return true;
}

/* The last file is the target; -o may name the backing file, too. */
static bool settle(struct convert *c, struct err **errp)
{
    struct image_copy_opts *o = c->job->copy;
    const struct image_opts *co = &c->job->o;
    o->target = o->file[--o->n_files];
    if (!o->base && co->backing) {
        o->base = co->backing;
        o->base_format = co->format[1];
    }
    if (o->out_format == FORMAT_UNSAID && !format_settle(o->target, "-O", &o->out_format, errp))
        return false;
    return judge(c, errp);
}

static bool settle_target(struct convert *c, struct err **errp)
{
    const struct image_copy_opts *o = c->o;
    bool qcow2 = o->out_format == FORMAT_QCOW2;
    c->co = image_create_defaults(&c->job->o);
    c->co.backing_name = o->base;
    c->co.backing_format = o->base ? format_name(o->base_format) : NULL;
    c->co.size = c->size = c->src->size;
    if (c->job->o.size && !parse_size(c->job->o.size, "-o size", &c->co.size, errp))
        return false;
    c->co.size = round_up(min_u64(c->co.size, INT64_MAX - SECTOR), SECTOR);
    if (c->co.size < c->size)
        return err_set(errp, EINVAL,
                       "convert: -o size: %" PRIu64 " bytes are not enough for %" PRIu64,
                       c->co.size, c->size);
    c->unit = qcow2 ? c->co.cluster_size : RAW_SPARSE;
    if (qcow2 && c->co.extended_l2 && !o->compressed)
        c->unit /= SUBCLUSTERS;
    c->zero_unit = c->unit;
    if (o->has_sparse && (o->sparse == 0 || !qcow2))
        c->zero_unit = power_of_2_below(o->sparse);
    return true;
}

static void print_json(const struct convert *c, int64_t started_ns)
{
    const struct image_copy_opts *o = c->o;
    struct json_t *j = image_result_new(o->target);
    image_result_text(j, "format", format_name(o->out_format));
    image_result_number(j, "virtual-size", o->no_create ? c->size : c->co.size);
    image_result_disk(j, o->target);
    if (c->co.data_file && !o->no_create)
        image_result_text(j, "data-file", c->co.data_file);
    image_result_number(j, "source-bytes", c->size);
    image_result_moved(j, c->done.data_bytes, c->done.zero_bytes);
    if (o->salvage)
        image_result_number(j, "lost-sectors", c->n_lost);
    image_result_print(c->job, j, started_ns);
}

static void convert_run(struct image_job *job)
{
    int64_t started_ns = clock_ns();
    struct convert c = {.job = job, .o = job->copy, .meter = {.show = job->copy->progress}};
    bool ok = settle(&c, &job->err) && open_sources(&c, &job->err) &&
              (!c.o->bitmaps || check_bitmaps(&c, &job->err)) && settle_target(&c, &job->err) &&
              open_backing(&c, &job->err);
    if (ok)
        ok = c.o->no_create ? convert_in_place(&c, &job->err)
                            : make_file(&c, c.o->target, fill, &c, &job->err);
    if (ok && c.meter.show)
        image_progress(c.size, c.size);
    if (ok && c.n_lost && !c.o->quiet)
        log_warn("%s: %" PRIu64 " sectors of %s were lost", c.o->target, c.n_lost, c.o->file[0]);
    if (ok && c.o->json)
        print_json(&c, started_ns);
    node_unref(c.backing);
    node_unref(c.src);
}

const struct image_command image_convert_command = {
    .name = "convert",
    .copy_letters = "fOotTSmlrBbFcCnWUpqaziksDJx",
    .min_files = 2,
    .max_files = IMAGE_FILES_MAX,
    .fail_code = IMAGE_FAILED,
    .run = convert_run,
};
