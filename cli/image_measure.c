/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image measure: the file size that a converted or a new image will need.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "block/file.h"
#include "cli/image_copy.h"
#include "qcow2/measure.h"

struct measure {
    const struct image_copy_opts *o;
    const struct image_opts *co;
    struct qc_measured m;
    bool has_bitmaps;
    uint64_t bitmaps;
    uint64_t size; /* without an image */
};

static bool judge(struct measure *m, struct image_job *job)
{
    struct image_copy_opts *o = job->copy;
    if (!o->n_files == !o->size)
        return err_set(&job->err, EINVAL, "measure: either an image or --size is needed");
    if (!o->n_files && (o->has_snapshot || o->force_share || o->format != FORMAT_UNSAID))
        return err_set(&job->err, EINVAL, "measure: -f, -l and -U are about an image");
    if (o->out_format == FORMAT_UNSAID)
        o->out_format = FORMAT_RAW;
    if (o->out_format == FORMAT_RAW && m->co->backing)
        return err_set(&job->err, EINVAL, "measure: -o: a raw image has no backing file");
    if (o->out_format == FORMAT_RAW && !image_raw_judge(m->co, &job->err))
        return err_prefix(&job->err, "measure: ");
    return !o->size || parse_size(o->size, "--size", &m->size, &job->err);
}

/* The stored bitmaps, where both images can have some. */
static bool measure_bitmaps(struct measure *m, const char *path, const struct qc_create_opts *co,
                            struct err **errp)
{
    const struct file_opts fo = {.path = path, .read_only = true, .no_lock = true};
    struct qc_image_info info = {0};
    struct node *file = file_open(&fo, errp); /* the lock is held already */
    if (!file)
        return false;
    bool ok = qc_inspect(file, &info, errp);
    m->has_bitmaps = ok && info.version >= 3 && co->version >= 3;
    if (m->has_bitmaps)
        m->bitmaps = qc_measure_bitmaps(&info, co->cluster_size);
    qc_image_info_free(&info);
    node_unref(file);
    return ok;
}

static bool measure(struct measure *m, struct node *src, enum image_format format,
                    struct err **errp)
{
    const struct image_copy_opts *o = m->o;
    struct qc_create_opts co = image_create_defaults(m->co);
    co.size = m->size;
    co.backing_name = m->co->backing;
    co.backing_format = "raw"; /* which one plays no role */
    if (o->out_format == FORMAT_RAW) {
        uint64_t size = src ? src->size : m->size;
        if (size > INT64_MAX - 512)
            return err_set(errp, EFBIG, "--size: %" PRIu64 " is too large", size);
        m->m.required = m->m.fully_allocated = round_up(size, 512);
        return true;
    }
    return qc_measure(src, &co, &m->m, errp) &&
           (format != FORMAT_QCOW2 || measure_bitmaps(m, o->file[0], &co, errp));
}

static bool print(const struct measure *m, struct err **errp)
{
    if (m->o->json) {
        json_t *j = json_object();
        if (m->has_bitmaps)
            json_object_set_new(j, "bitmaps", json_integer((json_int_t)m->bitmaps));
        json_object_set_new(j, "required", json_integer((json_int_t)m->m.required));
        json_object_set_new(j, "fully-allocated", json_integer((json_int_t)m->m.fully_allocated));
        return image_print_json(j) || err_set(errp, EIO, "cannot print");
    }
    printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", m->m.required,
           m->m.fully_allocated);
    if (m->has_bitmaps)
        printf("bitmaps size: %" PRIu64 "\n", m->bitmaps);
    return true;
}

static void measure_run(struct image_job *job)
{
    struct measure m = {.o = job->copy, .co = &job->o};
    struct node *src = NULL;
    enum image_format format = FORMAT_UNSAID;
    if (!judge(&m, job))
        return;
    if (m.o->n_files) {
        struct image_source s = {.path = m.o->file[0],
                                 .rules = m.o->rules[0],
                                 .format = m.o->format,
                                 .backing_dir = m.o->backing_dir,
                                 .snapshot = image_copy_snapshot(m.o),
                                 .no_lock = m.o->force_share};
        if (!format_settle(s.path, "-f", &s.format, &job->err) ||
            !(src = image_source_open(&s, &job->err)))
            return;
        format = s.format;
    }
    if (measure(&m, src, format, &job->err))
        print(&m, &job->err);
    node_unref(src);
}

const struct image_command image_measure_command = {
    .name = "measure",
    .copy_letters = "fOolUsJxD",
    .min_files = 0,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = measure_run,
};
