/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of `breakwater image convert`, `measure`, `rebase` and `commit`, with the letters of
 * qemu-img. One table for all; each command says which it takes.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/image_copy.h"
#include "cli/image_getopt.h"
#include "cli/snapshot_ref.h"

enum long_only { /* no letters */
                 OPT_SALVAGE = 'a',
                 OPT_TARGET_ZERO = 'z',
                 OPT_BITMAPS = 'i',
                 OPT_SKIP_BROKEN = 'k',
                 OPT_SIZE = 's',
};

static const struct option long_options[] = {
    {"format", required_argument, NULL, 'f'},
    {"json", no_argument, NULL, IMAGE_OPT_JSON},
    {"output", required_argument, NULL, 'x'},
    {"force-share", no_argument, NULL, 'U'},
    {"backing-dir", required_argument, NULL, IMAGE_OPT_DIR},
    {"quiet", no_argument, NULL, 'q'},
    {"progress", no_argument, NULL, 'p'},
    {"salvage", no_argument, NULL, OPT_SALVAGE},
    {"target-is-zero", no_argument, NULL, OPT_TARGET_ZERO},
    {"bitmaps", no_argument, NULL, OPT_BITMAPS},
    {"skip-broken-bitmaps", no_argument, NULL, OPT_SKIP_BROKEN},
    {"size", required_argument, NULL, OPT_SIZE},
    {"help", no_argument, NULL, 'h'},
    {0},
};

const char image_copy_help[] =
    "\n"
    "convert, with -f, --backing-dir, --json, -p and -q as above, and:\n"
    "  -O FORMAT               the format of TARGET [qcow2 if its name ends in .qcow2]\n"
    "  -o KEY=VALUE[,...]      as of create\n"
    "  -B FILE, -b FILE        what TARGET is to have as its backing file; with -F\n"
    "  -c                      compress, on several threads\n"
    "  -n                      write into TARGET, which exists\n"
    "      --target-is-zero    ... and reads as zeros\n"
    "  -l SNAPSHOT             copy this internal snapshot\n"
    "  -m NUMBER               pieces to copy at a time [8]\n"
    "  -r RATE                 bytes a second at most\n"
    "  -S SIZE                 zeros of this length become a hole [4k]; 0: no holes\n"
    "  -W                      write in any order\n"
    "  -C                      let the kernel copy; raw to raw only\n"
    "      --salvage           what cannot be read becomes zeros\n"
    "      --bitmaps           copy the stored bitmaps, too\n"
    "      --skip-broken-bitmaps  ... but for inconsistent ones\n"
    "  -t MODE, -T MODE        the cache of TARGET, of SOURCE: none, writeback, writethrough,\n"
    "                          directsync, unsafe (flush nothing) [writeback]\n"
    "measure, with -f, -l, -o, -U, --backing-dir and --json as above, and:\n"
    "  -O FORMAT               the format that the image would get [raw]\n"
    "      --size SIZE         of a new image, instead of an image\n"
    "rebase, with -f, --backing-dir, --json, -c, -p, -q, -t and -T as above, and:\n"
    "  -b FILE                 the new backing file; '' for none\n"
    "  -F FORMAT               ... and its format\n"
    "  -u                      change the name only: FILE holds what the old one does\n"
    "commit, with -f, --backing-dir, --json, -p, -q, -r and -t as above, and:\n"
    "  -b FILE                 the image of the chain to commit into [the one below]\n"
    "  -d                      do not empty IMAGE; -b does not, either\n"
    "\n";

static bool take_sparse(struct image_copy_opts *o, const char *text, struct err **errp)
{
    if (!parse_size(text, "-S", &o->sparse, errp))
        return false;
    o->has_sparse = true;
    return (o->sparse % 512 == 0 && o->sparse <= 2 * MiB) ||
           err_set(errp, EINVAL, "-S: '%s' is not a multiple of 512 up to 2M", text);
}

static bool take_in_flight(struct image_copy_opts *o, const char *text, struct err **errp)
{
    uint64_t v;
    if (!parse_u64(text, "-m", 1, 64, &v, errp))
        return false;
    o->in_flight = (unsigned)v;
    return true;
}

static bool take_snapshot(struct image_copy_opts *o, const char *text, struct err **errp)
{
    mem_free(o->snapshot_text);
    o->has_snapshot = true;
    return snapshot_ref_parse(text, "-l", &o->snapshot, &o->snapshot_text, errp);
}

const struct qc_snapshot_ref *image_copy_snapshot(const struct image_copy_opts *o)
{
    return o->has_snapshot ? &o->snapshot : NULL;
}

void image_copy_free(struct image_copy_opts *o)
{
    for (int i = 0; o && i < IMAGE_FILES_MAX; i++)
        mem_free(o->rules[i]);
    if (o)
        mem_free(o->snapshot_text);
    mem_free(o);
}

static bool take_value(int c, const char *arg, struct image_job *job, struct err **errp)
{
    struct image_copy_opts *o = job->copy;
    switch (c) {
    case 'f':
        return format_parse(arg, "-f", &o->format, errp);
    case 'O':
        return format_parse(arg, "-O", &o->out_format, errp);
    case 'F':
        return format_parse(arg, "-F", &o->base_format, errp);
    case 'o':
        return image_take_create(&job->o, arg, errp);
    case 't':
        return image_take_cache(&o->cache, arg, "-t", errp);
    case 'T':
        return image_take_cache(&o->source_cache, arg, "-T", errp);
    case 'S':
        return take_sparse(o, arg, errp);
    case 'm':
        return take_in_flight(o, arg, errp);
    case 'l':
        return take_snapshot(o, arg, errp);
    case 'r':
        return parse_size(arg, "-r", &o->rate, errp) &&
               (o->rate > 0 || err_set(errp, EINVAL, "-r is 0"));
    case 'x':
        return image_take_output(&o->json, arg, errp);
    case 'B':
    case 'b':
        o->base = arg;
        o->has_base = true;
        return true;
    case OPT_SIZE:
        o->size = arg;
        return true;
    default: /* IMAGE_OPT_DIR */
        o->backing_dir = arg;
        return true;
    }
}

static bool *flag_of(int c, struct image_copy_opts *o)
{
    switch (c) {
    case 'c':
        return &o->compressed;
    case 'C':
        return &o->offload;
    case 'n':
        return &o->no_create;
    case 'W':
        return &o->unordered;
    case 'U':
        return &o->force_share;
    case 'u':
        return &o->unsafe;
    case 'd':
        return &o->drop;
    case 'p':
        return &o->progress;
    case 'q':
        return &o->quiet;
    case IMAGE_OPT_JSON:
        return &o->json;
    case OPT_SALVAGE:
        return &o->salvage;
    case OPT_TARGET_ZERO:
        return &o->target_is_zero;
    case OPT_BITMAPS:
        return &o->bitmaps;
    case OPT_SKIP_BROKEN:
        return &o->skip_broken_bitmaps;
    default:
        return NULL;
    }
}

static bool take(int c, const char *arg, struct image_job *job, struct err **errp)
{
    bool *flag = flag_of(c, job->copy);
    if (!flag)
        return take_value(c, arg, job, errp);
    *flag = true;
    return true;
}

static bool take_files(int argc, char **argv, struct image_job *job, struct err **errp)
{
    const struct image_command *cmd = job->cmd;
    int n = argc - optind;
    if (n < cmd->min_files)
        return err_set(errp, EINVAL,
                       cmd->min_files == 2 ? "an image and a target are needed"
                                           : "the image is missing");
    if (n > cmd->max_files)
        return err_set(errp, EINVAL, "'%s' is one too many", argv[optind + cmd->max_files]);
    job->copy->file = (const char **)argv + optind;
    job->copy->n_files = n;
    return true;
}

int image_copy_parse(int argc, char **argv, struct image_job *job, struct err **errp)
{
    const struct image_options t = {":f:O:F:o:t:T:S:m:l:r:B:b:CcnWUudpqh", long_options,
                                    job->cmd->copy_letters, take};
    job->copy = mem_new(struct image_copy_opts);
    if (!job->copy) {
        err_set(errp, ENOMEM, "out of memory");
        return -1;
    }
    int r = image_getopt(argc, argv, &t, job, errp);
    return r > 0 && !take_files(argc, argv, job, errp) ? -1 : r;
}
