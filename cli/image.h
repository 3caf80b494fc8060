/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater image`: what its commands share.
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "block/node.h"
#include "cli/format.h"
#include "qcow2/qcow2.h"

/* Exit codes are qemu-img's, not those of the other commands. */
enum image_exit {
    IMAGE_OK = 0,
    IMAGE_FAILED = 1, /* also: the command line is wrong */
    IMAGE_CORRUPT = 2,
    IMAGE_LEAKS = 3,
    IMAGE_NO_CHECK = 63, /* the format has nothing that could be checked */
    COMPARE_DIFFERENT = 1,
    COMPARE_FAILED = 2,
};

enum { IMAGE_OWNED_BACKING, IMAGE_OWNED_SIZE, IMAGE_OWNED_DATA_FILE, IMAGE_OWNED_COUNT };

struct image_opts { /* strings belong to argv, but for `owned` */
    const char *file[2];
    int n_files;
    enum image_format format[2]; /* of file[0]; of file[1] or the backing file */
    bool json, force_share, backing_chain, force, unchecked, quiet, progress, strict;
    const char *backing_dir;
    enum image_repair { IMAGE_NO_REPAIR, IMAGE_REPAIR_LEAKS, IMAGE_REPAIR_ALL } repair;
    bool dry_run;
    struct image_cache {
        bool direct, unsafe;
    } cache;                /* -T, and as image_copy_opts have it */
    uint64_t start, length; /* map: -s, -l */
    /* create */
    const char *backing, *size;
    bool has_qcow2_opts;      /* qc was said something that raw images do not have */
    struct qc_create_opts qc; /* what -o said; not its size and backing file */
    char *
        owned[IMAGE_OWNED_COUNT]; /* what backing, size and qc's strings point at if -o said them */
    char *rules[2]; /* owned: the rule file in a name blkdebug:RULES:FILE; NULL: no such name */
};

/* One command. */
struct file_opts;
struct image_copy_opts;
struct image_bitmap_opts;
struct image_change { /* image_change.h; strings belong to argv */
    int action;       /* snapshot: 'l', 'c', 'a', 'd'; 0: not said */
    const char *name; /* of the snapshot */
    const char *size; /* resize */
    bool shrink;
    enum qc_preallocation preallocation;
};
struct image_job {
    const struct image_command *cmd;
    struct image_opts o;
    struct image_copy_opts *copy; /* of the commands with copy_letters (image_copy.h), else NULL */
    struct image_bitmap_opts *bitmap; /* of bitmap; owned */
    struct image_change change;       /* of snapshot and resize */
    int exit_code;                    /* set by run, with err or without */
    struct err *err;
};

struct image_command {
    const char *name;
    const char *options;      /* the letters and enum image_option it takes */
    const char *copy_letters; /* instead of options: those of image_copy_opts.c that it takes */
    int (*parse)(int argc, char **argv, struct image_job *job, struct err **errp); /* or this: as
                                                                                      image_parse */
    int min_files, max_files;
    int fail_code;                      /* of a wrong command line and of work that failed */
    void (*run)(struct image_job *job); /* in a coroutine */
};

enum image_option { /* long options without a letter: letters that are not used */
                    IMAGE_OPT_JSON = 'J',
                    IMAGE_OPT_OUTPUT = 'O',
                    IMAGE_OPT_CHAIN = 'C',
                    IMAGE_OPT_DIR = 'D',
                    IMAGE_OPT_FORCE = 'X',
                    IMAGE_OPT_REPAIR = 'R',
                    IMAGE_OPT_DRY_RUN = 'N',
                    IMAGE_OPT_STRICT = 'Y', /* has a letter, but not for map */
};

extern const struct image_command image_info_command, image_create_command, image_check_command,
    image_map_command, image_compare_command, image_convert_command, image_measure_command,
    image_bitmap_command, image_commit_command, image_rebase_command, image_resize_command,
    image_snapshot_command;

/* image_parse: the options of job->cmd. 1: run it; 0: --help was answered; -1: *errp. */
int image_parse(int argc, char **argv, struct image_job *job, struct err **errp);
int image_help(void);

/* image_take_create: the pairs of one -o KEY=VALUE,... of qcow2 images. */
bool image_take_create(struct image_opts *o, const char *text, struct err **errp);
/* image_create_defaults: qc with qemu-img's defaults for what was not said. */
struct qc_create_opts image_create_defaults(const struct image_opts *o);
/* image_print_create, image_create_json: what an image was made with, as `create` tells. */
void image_print_create(const struct qc_create_opts *co);
struct json_t;
void image_create_json(struct json_t *j, const struct qc_create_opts *co);

/* image_open_file: file[i] as bytes, read-only, with the reader's lock unless -U. Yields. */
struct node *image_open_file(const struct image_opts *o, int i, struct err **errp);
/* image_open_writable: the same for writing, with the writer's lock. */
struct node *image_open_writable(const struct image_opts *o, int i, struct err **errp);
/* image_open: file[i] in its format, with its backing chain and data files. image_open_tables:
 * without the latter, and the chain only with --backing-chain: for those who do not read content.
 * Yield. */
struct node *image_open(const struct image_opts *o, int i, struct err **errp);
struct node *image_open_tables(const struct image_opts *o, int i, struct err **errp);

/* --- image_name.c --- */

/* image_name_split: *name as the user said it becomes the path of the file; *rules: the rule file
 * if it was blkdebug:RULES:PATH, in new memory, else NULL. ENOTSUP: another protocol. */
bool image_name_split(const char **name, char **rules, struct err **errp);
/* image_file_open: file_open, beneath these rules; NULL: none. Yields. */
struct node *image_file_open(const struct file_opts *fo, const char *rules, struct err **errp);

/* --- image_raw.c --- */

/* image_raw_preallocate: of a raw image, which has its length. 0 or -errno. Yields. */
int image_raw_preallocate(struct node *n, uint64_t from, uint64_t end, enum qc_preallocation mode);
/* image_raw_judge: does -o say only what a raw image can have? */
bool image_raw_judge(const struct image_opts *o, struct err **errp);

/* --- image_text.c --- */

struct json_t;
/* image_json_text: a JSON string; bytes that are not UTF-8 become '?'. */
struct json_t *image_json_text(const char *text);
/* image_print_json: on standard output; takes over the reference. False: it failed. */
bool image_print_json(struct json_t *v);
/* image_plain: text for a terminal, in new memory: control characters become '?'. NULL: none. */
char *image_plain(const char *text);
/* image_size_text: as qemu-img prints sizes: "1.25 MiB". buf: at least 32 bytes; returns buf. */
char *image_size_text(uint64_t bytes, char *buf, size_t len);
/* image_backing_path: the path of a backing file whose name stands in the image `path`. New. */
char *image_backing_path(const char *path, const char *backing);
/* image_progress_later: work that takes no longer shows no progress. */
void image_progress_later(unsigned delay_ms);
/* image_progress: on standard error, "(12.34/100%)". */
void image_progress(uint64_t done, uint64_t all);

#endif
