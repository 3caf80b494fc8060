/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image check FILE
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "cli/image.h"
#include "qcow2/check.h"

#define SHOWN_FINDINGS 200

struct listing {
    const struct image_opts *o;
    unsigned long long shown, more;
};

static void show(void *arg, bool leak, const char *text)
{
    struct listing *l = arg;
    if (l->o->quiet)
        return;
    if (l->shown == SHOWN_FINDINGS) {
        l->more++;
        return;
    }
    l->shown++;
    fprintf(stderr, "%s %s\n", leak ? "leak:" : "corrupt:", text);
}

static void show_progress(void *arg, uint64_t done, uint64_t all)
{
    const struct listing *l = arg;
    if (l->o->progress && done < all)
        image_progress(done, all);
}

static void put(json_t *j, const char *key, uint64_t v)
{
    if (v)
        json_object_set_new(j, key, json_integer((json_int_t)v));
}

/* As qemu-img: what is 0 is left out. */
static bool print_json(const struct image_opts *o, const struct qc_check_report *r)
{
    json_t *j = json_object();
    put(j, "image-end-offset", r->image_end_offset);
    put(j, "total-clusters", r->total_clusters);
    json_object_set_new(j, "check-errors", json_integer(0));
    put(j, "corruptions", r->corruptions);
    put(j, "leaks", r->leaks);
    put(j, "allocated-clusters", r->allocated_clusters);
    put(j, "fragmented-clusters", r->fragmented_clusters);
    put(j, "compressed-clusters", r->compressed_clusters);
    json_object_set_new(j, "filename", image_json_text(o->file[0]));
    json_object_set_new(j, "format", json_string("qcow2"));
    return image_print_json(j);
}

static double percent(uint64_t part, uint64_t whole)
{
    return 100.0 * (double)part / (double)whole;
}

static void print_text(const struct qc_check_report *r)
{
    if (!r->corruptions && !r->leaks)
        printf("No errors were found on the image.\n");
    if (r->corruptions)
        printf("\n%" PRIu64 " errors were found on the image.\n"
               "Data may be damaged; do not write to the image.\n",
               r->corruptions);
    if (r->leaks)
        printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
               "They waste disk space; data are not at risk.\n",
               r->leaks);
    if (r->total_clusters && r->allocated_clusters)
        printf("%" PRIu64 "/%" PRIu64
               " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
               r->allocated_clusters, r->total_clusters,
               percent(r->allocated_clusters, r->total_clusters),
               percent(r->fragmented_clusters, r->allocated_clusters),
               percent(r->compressed_clusters, r->allocated_clusters));
    if (r->image_end_offset)
        printf("Image end offset: %" PRIu64 "\n", r->image_end_offset);
}

static void check_run(struct image_job *job)
{
    struct listing l = {.o = &job->o};
    const struct qc_check_opts co = {.found = show, .progress = show_progress, .arg = &l};
    struct qc_check_report r;

    struct node *file = image_open_file(&job->o, 0, &job->err);
    if (!file)
        return;
    if (job->o.format[0] == FORMAT_RAW) {
        fprintf(stderr, "breakwater: %s: a raw image has nothing that could be checked\n",
                job->o.file[0]);
        job->exit_code = IMAGE_NO_CHECK;
    } else if (qc_check(file, &co, &r, &job->err)) {
        if (job->o.progress)
            image_progress(1, 1);
        if (l.more)
            fprintf(stderr, "and %llu findings more\n", l.more);
        job->exit_code = r.corruptions ? IMAGE_CORRUPT : r.leaks ? IMAGE_LEAKS : IMAGE_OK;
        if (job->o.json) {
            if (!print_json(&job->o, &r))
                job->exit_code = IMAGE_FAILED;
        } else if (!job->o.quiet) {
            print_text(&r);
        }
    }
    node_unref(file);
}

const struct image_command image_check_command = {
    .name = "check",
    .options = "fUqpJO",
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = check_run,
};
