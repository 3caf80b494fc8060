/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands that move data share: convert, measure, rebase, commit. They have options of
 * their own, since the letters mean something else there than in the other commands.
 */
#ifndef CLI_IMAGE_COPY_H
#define CLI_IMAGE_COPY_H

#include "block/copy.h"
#include "cli/image.h"
#include "qcow2/snapshot.h"

#define IMAGE_FILES_MAX 64

struct image_copy_opts {
    const char **file;            /* the images; for convert, without the target */
    char *rules[IMAGE_FILES_MAX]; /* owned: as image_name_split has it, by the image */
    int n_files;
    const char *target;                     /* convert */
    enum image_format format, out_format;   /* -f, -O */
    struct image_cache cache, source_cache; /* -t, -T */
    const char *base;                       /* -b, -B */
    enum image_format base_format;          /* -F */
    const char *backing_dir, *size;
    bool has_snapshot; /* -l */
    struct qc_snapshot_ref snapshot;
    char *snapshot_text;   /* owned: what it points into, or NULL */
    uint64_t rate, sparse; /* -r, -S */
    unsigned in_flight;    /* -m; 0: not said */
    bool compressed, no_create, unordered, force_share, salvage, target_is_zero, offload;
    bool has_sparse, has_base, bitmaps, skip_broken_bitmaps, unsafe, drop, progress, quiet, json;
};

/* One image to be opened. */
struct image_source {
    const char *path, *rules; /* as image_name_split has it */
    enum image_format format;
    const char *backing_dir;
    const struct qc_snapshot_ref *snapshot; /* NULL: the present state */
    bool writable, direct, no_flush, no_lock, no_backing;
    struct node *backing;      /* instead of what the header names */
    unsigned writable_backing; /* as in qc_open_opts */
};

/* What --help says of these commands. */
extern const char image_copy_help[];

/* image_copy_parse: as image_parse, into job->copy, for commands that have a `copy_letters`. */
int image_copy_parse(int argc, char **argv, struct image_job *job, struct err **errp);

void image_copy_free(struct image_copy_opts *o);
/* image_copy_snapshot: what -l says, or NULL. */
const struct qc_snapshot_ref *image_copy_snapshot(const struct image_copy_opts *o);

/* image_source_open: NULL and *errp on failure. Yields. */
struct node *image_source_open(const struct image_source *s, struct err **errp);

/* image_copy_progress: a struct copy_ops hook; arg begins with a struct image_meter. */
struct image_meter {
    bool show;
    uint64_t shown; /* hundredths of a percent */
};
void image_meter_show(struct image_meter *m, uint64_t done, uint64_t all);

#endif
