/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image create FILE [SIZE]
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "block/file.h"
#include "block/new_file.h"
#include "cli/image_getopt.h"
#include "qcow2/inspect.h"
#include "qcow2/qcow2.h"

#define SECTOR 512

/* The guest size of the backing file, which also shows that it can be read. Only the file itself is
 * looked at, not what lies below it. */
static bool backing_size(const struct image_opts *o, uint64_t *size, struct err **errp)
{
    AUTO_FREE char *path = image_backing_path(o->file[0], o->backing);
    if (!path)
        return err_set(errp, ENOMEM, "out of memory");
    const struct file_opts fo = {.path = path, .read_only = true};
    struct node *file = file_open(&fo, errp);
    if (!file)
        return err_prefix(errp, "the backing file: ");
    struct qc_image_info info = {.size = file->size};
    bool ok = o->format[1] == FORMAT_RAW || qc_inspect(file, &info, errp);
    *size = info.size;
    qc_image_info_free(&info);
    node_unref(file);
    return ok || err_prefix(errp, "the backing file: ");
}

/* As qemu-img, in whole sectors. */
static bool find_size(const struct image_opts *o, uint64_t *size, struct err **errp)
{
    uint64_t below = 0;
    if (o->backing && !o->unchecked && !backing_size(o, &below, errp))
        return false;
    *size = below;
    if (o->size && !parse_size(o->size, "SIZE", size, errp))
        return false;
    if (*size > (uint64_t)INT64_MAX - SECTOR)
        return err_set(errp, EFBIG, "SIZE: '%s' is too large", o->size ? o->size : "?");
    *size = round_up(*size, SECTOR);
    return true;
}

static bool judge(const struct image_opts *o, struct err **errp)
{
    bool raw = o->format[0] == FORMAT_RAW;
    if (!o->size && (!o->backing || o->unchecked))
        return err_set(errp, EINVAL, "create: the size is missing");
    if (raw && o->backing)
        return err_set(errp, EINVAL, "create: a raw image has no backing file");
    if (raw && !image_raw_judge(o, errp))
        return err_prefix(errp, "create: ");
    if (o->backing && o->format[1] == FORMAT_UNSAID)
        return err_set(errp, EINVAL,
                       "create: what is the format of the backing file '%s'? Say -F qcow2 or -F "
                       "raw: it is not guessed",
                       o->backing);
    if (!o->backing && o->format[1] != FORMAT_UNSAID)
        return err_set(errp, EINVAL, "create: -F without a backing file");
    return true;
}

static bool fill_raw(struct node *file, void *arg, struct err **errp)
{
    const struct qc_create_opts *co = arg;
    int r = node_truncate(file, co->size);
    if (r == 0)
        r = image_raw_preallocate(file, 0, co->size, co->preallocation);
    if (r == 0)
        r = node_flush(file);
    return r == 0 || err_set_errno(errp, -r, "%s: cannot make it %" PRIu64 " bytes long",
                                   file->name, co->size);
}

static bool create(const struct image_opts *o, struct qc_create_opts *co, struct err **errp)
{
    if (o->format[0] == FORMAT_RAW)
        return new_file_make(o->file[0], o->force, fill_raw, co, errp);
    return qc_create_file(o->file[0], co, o->force, errp);
}

static void print_text(const struct image_opts *o, const struct qc_create_opts *co)
{
    AUTO_FREE char *plain = image_plain(o->file[0]);
    printf("Formatting '%s', fmt=%s", plain ? plain : "?", format_name(o->format[0]));
    if (o->format[0] == FORMAT_QCOW2)
        image_print_create(co);
    printf(" size=%" PRIu64, co->size);
    if (o->format[0] == FORMAT_RAW && co->preallocation != QC_PREALLOC_OFF)
        printf(" preallocation=%s", image_preallocation_name(co->preallocation));
    if (co->backing_name)
        printf(" backing_file=%s backing_fmt=%s", co->backing_name, co->backing_format);
    printf("\n");
}

static bool print_json(const struct image_opts *o, const struct qc_create_opts *co)
{
    json_t *j = json_object();
    json_object_set_new(j, "filename", image_json_text(o->file[0]));
    json_object_set_new(j, "format", json_string(format_name(o->format[0])));
    json_object_set_new(j, "virtual-size", json_integer((json_int_t)co->size));
    if (o->format[0] == FORMAT_QCOW2)
        image_create_json(j, co);
    else
        json_object_set_new(j, "preallocation",
                            json_string(image_preallocation_name(co->preallocation)));
    if (co->backing_name) {
        json_object_set_new(j, "backing-filename", image_json_text(co->backing_name));
        json_object_set_new(j, "backing-filename-format", json_string(co->backing_format));
    }
    return image_print_json(j);
}

static void create_run(struct image_job *job)
{
    const struct image_opts *o = &job->o;
    struct qc_create_opts co = image_create_defaults(o);
    co.backing_name = o->backing;
    co.backing_format = o->backing ? format_name(o->format[1]) : NULL;
    if (!judge(o, &job->err) || !find_size(o, &co.size, &job->err) || !create(o, &co, &job->err))
        return;
    if (o->json) {
        if (!print_json(o, &co))
            job->exit_code = IMAGE_FAILED;
    } else if (!o->quiet) {
        print_text(o, &co);
    }
}

const struct image_command image_create_command = {
    .name = "create",
    .options = "fFbouqJOX",
    .min_files = 1,
    .max_files = 2,
    .fail_code = IMAGE_FAILED,
    .run = create_run,
};
