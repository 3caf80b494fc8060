/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image check [-r leaks|all] FILE
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/image.h"
#include "qcow2/repair.h"

#define SHOWN_FINDINGS 200

struct listing {
    const struct image_opts *o;
    unsigned long long shown, more;
};

static void end_listing(struct listing *l)
{
    if (l->more)
        fprintf(stderr, "and %llu findings more\n", l->more);
    l->shown = l->more = 0;
}

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

/* What follows is found by the check after a repair. */
static void show_again(void *arg)
{
    struct listing *l = arg;
    end_listing(l);
    if (!l->o->quiet)
        fprintf(stderr, "%s\n",
                l->o->dry_run ? "It would be repaired and checked again."
                              : "Repaired; it is checked again.");
}

static void put(json_t *j, const char *key, uint64_t v)
{
    if (v)
        json_object_set_new(j, key, json_integer((json_int_t)v));
}

/* As qemu-img: what is 0 is left out. */
static bool print_json(const struct image_opts *o, const struct qc_repair_report *f)
{
    const struct qc_check_report *r = &f->left;
    json_t *j = json_object();
    put(j, "image-end-offset", r->image_end_offset);
    put(j, "total-clusters", r->total_clusters);
    json_object_set_new(j, "check-errors", json_integer(0));
    put(j, "corruptions", r->corruptions);
    put(j, "leaks", r->leaks);
    put(j, o->dry_run ? "corruptions-repairable" : "corruptions-fixed", f->corruptions_fixed);
    put(j, o->dry_run ? "leaks-repairable" : "leaks-fixed", f->leaks_fixed);
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

static void print_fixed(const struct image_opts *o, const struct qc_repair_report *f)
{
    if (f->corruptions_fixed || f->leaks_fixed)
        printf("The following inconsistencies %s:\n\n"
               "    %" PRIu64 " leaked clusters\n"
               "    %" PRIu64 " corruptions\n\n%s",
               o->dry_run ? "would be repaired" : "were found and repaired", f->leaks_fixed,
               f->corruptions_fixed,
               o->dry_run ? "What would be left:\n" : "Double checking the fixed image now...\n");
    if (o->repair == IMAGE_REPAIR_ALL && f->left.corruptions)
        printf("%" PRIu64 " errors %s be repaired without guessing what the data were.\n",
               f->left.corruptions, o->dry_run ? "could not" : "cannot");
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

static bool work(struct image_job *job, struct node *file, struct listing *l,
                 struct qc_repair_report *f)
{
    const struct qc_repair_opts ro = {.check = {.found = show, .progress = show_progress, .arg = l},
                                      .fix = job->o.repair == IMAGE_REPAIR_LEAKS ? QC_FIX_LEAKS
                                                                                 : QC_FIX_ALL,
                                      .dry_run = job->o.dry_run,
                                      .again = show_again};
    if (job->o.repair)
        return qc_repair(file, &ro, f, &job->err);
    memset(f, 0, sizeof(*f));
    return qc_check(file, &ro.check, &f->left, &job->err);
}

static bool print(const struct image_opts *o, const struct qc_repair_report *f)
{
    if (o->json)
        return print_json(o, f);
    if (!o->quiet) {
        print_fixed(o, f);
        print_text(&f->left);
    }
    return true;
}

static void check_run(struct image_job *job)
{
    struct listing l = {.o = &job->o};
    struct qc_repair_report f;
    bool write = job->o.repair && !job->o.dry_run;

    if (job->o.format[0] == FORMAT_RAW)
        write = false;
    struct node *file =
        write ? image_open_writable(&job->o, 0, &job->err) : image_open_file(&job->o, 0, &job->err);
    if (!file)
        return;
    if (job->o.format[0] == FORMAT_RAW) {
        fprintf(stderr, "breakwater: %s: a raw image has nothing that could be checked\n",
                job->o.file[0]);
        job->exit_code = IMAGE_NO_CHECK;
    } else if (work(job, file, &l, &f)) {
        /* A dry run leaves the image as it was found. */
        const struct qc_check_report *r = job->o.dry_run ? &f.found : &f.left;
        if (job->o.progress)
            image_progress(1, 1);
        end_listing(&l);
        job->exit_code = r->corruptions ? IMAGE_CORRUPT : r->leaks ? IMAGE_LEAKS : IMAGE_OK;
        if (!print(&job->o, &f))
            job->exit_code = IMAGE_FAILED;
    }
    node_unref(file);
}

const struct image_command image_check_command = {
    .name = "check",
    .options = "fUqpJOrRNT",
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = check_run,
};
