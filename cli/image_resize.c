/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image resize [--shrink] [--preallocation MODE] FILE [+|-]SIZE
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "cli/image_change.h"
#include "cli/image_result.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"

static bool find_size(const char *text, uint64_t now, uint64_t *size, struct err **errp)
{
    char sign = *text == '+' || *text == '-' ? *text : 0;
    uint64_t v;
    if (!parse_size(text + (sign != 0), "SIZE", &v, errp))
        return false;
    if (sign == '-' && v >= now)
        return err_set(errp, EINVAL, "SIZE: '%s': the image has only %" PRIu64 " bytes", text, now);
    *size = sign == '-' ? now - v : sign == '+' ? now + v : v;
    if (*size < v && sign == '+')
        *size = UINT64_MAX;
    if (*size > (uint64_t)INT64_MAX)
        return err_set(errp, EFBIG, "SIZE: '%s' is too large", text);
    return *size != 0 || err_set(errp, EINVAL, "SIZE: the new size must not be 0");
}

static bool resize_raw(struct image_job *job, struct node *n, uint64_t size)
{
    const struct image_change *ch = &job->change;
    uint64_t was = n->size;
    if (ch->preallocation == QC_PREALLOC_METADATA)
        return err_set(&job->err, ENOTSUP, "%s: a raw image has no metadata to preallocate",
                       n->name);
    if (size < was && !ch->shrink)
        return err_set(&job->err, EINVAL,
                       "%s: size %" PRIu64 " is less than the present %" PRIu64
                       ": what is beyond it would be lost",
                       n->name, size, was);
    int r = node_truncate(n, size);
    if (r == 0)
        r = image_raw_preallocate(n, was, size, ch->preallocation);
    if (r == 0)
        r = node_flush(n);
    if (r == 0)
        return true;
    if (size > was)
        node_truncate(n, was);
    return err_set_errno(&job->err, -r, "%s: cannot be resized to %" PRIu64 " bytes", n->name,
                         size);
}

static struct node *open_image(struct image_job *job)
{
    const struct image_opts *o = &job->o;
    const struct qc_open_opts qo = {.path = o->file[0], .backing_dir = o->backing_dir};
    struct node *file = image_open_writable(o, 0, &job->err);
    if (!file || o->format[0] == FORMAT_RAW)
        return file;
    struct node *n = qc_open(file, &qo, &job->err);
    if (!n)
        node_unref(file);
    return n;
}

static void print_json(struct image_job *job, uint64_t was, uint64_t size, int64_t started_ns)
{
    const struct image_opts *o = &job->o;
    struct json_t *j = image_result_new(o->file[0]);
    image_result_text(j, "format", format_name(o->format[0]));
    image_result_number(j, "previous-virtual-size", was);
    image_result_number(j, "virtual-size", size);
    image_result_disk(j, o->file[0]);
    image_result_print(job, j, started_ns);
}

static void resize_run(struct image_job *job)
{
    const struct image_change *ch = &job->change;
    const struct qc_truncate_opts qo = {.shrink = ch->shrink, .preallocation = ch->preallocation};
    uint64_t size = 0;
    int64_t started_ns = clock_ns();
    struct node *n = open_image(job);
    if (!n)
        return;
    uint64_t was = n->size;
    bool ok = find_size(ch->size, n->size, &size, &job->err);
    if (ok && size < n->size && ch->preallocation != QC_PREALLOC_OFF)
        ok = err_set(&job->err, EINVAL, "--preallocation is for making an image larger");
    bool shrinks = ok && size < n->size && !ch->shrink;
    ok = ok && (job->o.format[0] == FORMAT_RAW ? resize_raw(job, n, size)
                                               : qc_truncate(n, size, &qo, &job->err));
    if (shrinks && !ok)
        fprintf(stderr, "breakwater: --shrink says that it is meant\n");
    node_unref(n);
    if (ok && job->o.json)
        print_json(job, was, size, started_ns);
    else if (ok && !job->o.quiet)
        printf("Image resized.\n");
}

const struct image_command image_resize_command = {
    .name = "resize",
    .options = "fqDkrJO",
    .parse = image_change_parse,
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = resize_run,
};
