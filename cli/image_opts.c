/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of `breakwater image`, with the letters of qemu-img. There is one table of them for
 * all commands; each command says which it takes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "cli/image_change.h"
#include "cli/image_copy.h"
#include "cli/image_getopt.h"

static const struct option long_options[] = {
    {"format", required_argument, NULL, 'f'},
    {"json", no_argument, NULL, IMAGE_OPT_JSON},
    {"output", required_argument, NULL, IMAGE_OPT_OUTPUT},
    {"force-share", no_argument, NULL, 'U'},
    {"backing-chain", no_argument, NULL, IMAGE_OPT_CHAIN},
    {"backing-dir", required_argument, NULL, IMAGE_OPT_DIR},
    {"force", no_argument, NULL, IMAGE_OPT_FORCE},
    {"quiet", no_argument, NULL, 'q'},
    {"progress", no_argument, NULL, 'p'},
    {"strict", no_argument, NULL, IMAGE_OPT_STRICT},
    {"start-offset", required_argument, NULL, 's'},
    {"max-length", required_argument, NULL, 'l'},
    {"repair", optional_argument, NULL, IMAGE_OPT_REPAIR},
    {"dry-run", no_argument, NULL, IMAGE_OPT_DRY_RUN},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static const char help_text[] =
    "Usage: breakwater image info [OPTION]... FILE\n"
    "       breakwater image create [OPTION]... FILE [SIZE]\n"
    "       breakwater image check [OPTION]... FILE\n"
    "       breakwater image map [OPTION]... FILE\n"
    "       breakwater image compare [OPTION]... A B\n"
    "       breakwater image convert [OPTION]... SOURCE... TARGET\n"
    "       breakwater image measure [OPTION]... [IMAGE]\n"
    "       breakwater image bitmap ACTION... [OPTION]... FILE BITMAP\n"
    "       breakwater image rebase [OPTION]... -b FILE IMAGE\n"
    "       breakwater image commit [OPTION]... IMAGE\n"
    "       breakwater image snapshot [OPTION]... FILE\n"
    "       breakwater image resize [OPTION]... FILE [+|-]SIZE\n"
    "Show, make, check, map, compare and convert disk images; options and exit codes are\n"
    "qemu-img's.\n"
    "\n"
    "All:\n"
    "  -f, --format FORMAT     qcow2 or raw; never probed [qcow2 if the name ends in .qcow2]\n"
    "      --json              print JSON (alias --output=json)\n"
    "      --output FORMAT     human or json\n"
    "  -q, --quiet             print errors only\n"
    "  -h, --help\n"
    "info, check, map, compare:\n"
    "  -U, --force-share       take no lock: what another program changes meanwhile is seen\n"
    "info, map, compare:\n"
    "      --backing-dir DIR   where backing files may lie [the folder of the image]\n"
    "info:\n"
    "      --backing-chain     tell of the backing files, too\n"
    "create:\n"
    "  -b FILE                 the backing file; SIZE may be left out then\n"
    "  -F FORMAT               ... and its format; required with -b\n"
    "  -u                      do not look at the backing file\n"
    "  -o KEY=VALUE[,...]      cluster_size, refcount_bits, compat (0.10 or 1.1), size,\n"
    "                          backing_file, backing_fmt, compression_type (zlib or zstd),\n"
    "                          extended_l2, lazy_refcounts, data_file, data_file_raw,\n"
    "                          preallocation (off, metadata, falloc, full)\n"
    "      --force             replace FILE if it exists\n"
    "map:\n"
    "      --backing-chain     look into the backing files, too\n"
    "  -s, --start-offset OFFSET, -l, --max-length LENGTH  this part of the disk only\n"
    "check, compare:\n"
    "  -T MODE                 the cache of the images, as of convert\n"
    "  -p, --progress          show progress on standard error [on a terminal, if it takes long]\n"
    "check:\n"
    "  -r leaks|all            repair: give leaked clusters back, or all that is safely repaired\n"
    "      --repair[=WHAT]     the same; all if WHAT is left out\n"
    "      --dry-run           with -r: write nothing, say what would be repaired\n"
    "compare:\n"
    "  -F FORMAT               the format of B\n"
    "  -s, --strict            different if sizes or allocation differ, too\n"
    "bitmap: in the order given, on the stored BITMAP:\n"
    "      --add, --remove, --clear, --enable, --disable\n"
    "      --merge SOURCE      add what the bitmap SOURCE holds\n"
    "  -b, --source-file FILE  ... of this image, with -F FORMAT [the same image]\n"
    "  -g, --granularity SIZE  of --add [the cluster size, 4k to 64k]\n"
    "\n"
    "Exit code: 0 done, or nothing wrong, or identical; 1 failed. check: 1 could not check,\n"
    "2 corruption, 3 leaks only, 63 the format has no checks. compare: 1 different, 2 failed.\n";

int image_help(void)
{
    return fputs(help_text, stdout) < 0 || fputs(image_copy_help, stdout) < 0 ||
                   fputs(image_change_help, stdout) < 0
               ? IMAGE_FAILED
               : IMAGE_OK;
}

static bool take_repair(struct image_opts *o, const char *text, struct err **errp)
{
    bool leaks = text && strcmp(text, "leaks") == 0;
    o->repair = leaks ? IMAGE_REPAIR_LEAKS : IMAGE_REPAIR_ALL;
    return leaks || !text || strcmp(text, "all") == 0 ||
           err_set(errp, EINVAL, "-r: '%s' is not known; it is leaks or all", text);
}

static bool take_option(int c, const char *arg, struct image_job *job, struct err **errp)
{
    struct image_opts *o = &job->o;
    switch (c) {
    case 'f':
        return format_parse(arg, "-f", &o->format[0], errp);
    case 'F':
        return format_parse(arg, "-F", &o->format[1], errp);
    case 'o':
        return image_take_create(o, arg, errp);
    case IMAGE_OPT_OUTPUT:
        return image_take_output(&o->json, arg, errp);
    case 's':
        if (arg)
            return parse_size(arg, "-s", &o->start, errp);
        o->strict = true; /* compare's, which has no value */
        return true;
    case 'b':
        o->backing = arg;
        return true;
    case 'T':
        return image_take_cache(&o->cache, arg, "-T", errp);
    case 'l':
        return parse_size(arg, "-l", &o->length, errp);
    case IMAGE_OPT_DIR:
        o->backing_dir = arg;
        return true;
    case 'r':
    case IMAGE_OPT_REPAIR:
        return take_repair(o, arg, errp);
    }
    bool *flag = c == IMAGE_OPT_JSON      ? &o->json
                 : c == IMAGE_OPT_CHAIN   ? &o->backing_chain
                 : c == IMAGE_OPT_FORCE   ? &o->force
                 : c == IMAGE_OPT_DRY_RUN ? &o->dry_run
                 : c == 'U'               ? &o->force_share
                 : c == 'q'               ? &o->quiet
                 : c == 'p'               ? &o->progress
                 : c == IMAGE_OPT_STRICT  ? &o->strict
                                          : &o->unchecked; /* 'u' */
    *flag = true;
    return true;
}

/* The files, and what all options say together. */
static bool finish(int argc, char **argv, struct image_job *job, struct err **errp)
{
    const struct image_command *cmd = job->cmd;
    struct image_opts *o = &job->o;
    o->n_files = argc - optind;
    /* qemu-img takes `--repair all`, where the value is a word of its own. */
    if (o->repair == IMAGE_REPAIR_ALL && o->n_files == 2 &&
        (strcmp(argv[optind], "all") == 0 || strcmp(argv[optind], "leaks") == 0)) {
        take_repair(o, argv[optind++], NULL);
        o->n_files--;
    }
    if (o->n_files < cmd->min_files)
        return err_set(errp, EINVAL,
                       cmd->min_files == 2 ? "two images are needed" : "the image is missing");
    if (o->n_files > cmd->max_files)
        return err_set(errp, EINVAL, "'%s' is one too many", argv[optind + cmd->max_files]);
    if (o->dry_run && !o->repair)
        return err_set(errp, EINVAL, "--dry-run is for -r");
    if (o->repair && !o->dry_run && o->force_share)
        return err_set(errp, EINVAL, "-U takes no lock, which a repair needs");
    for (int i = 0; i < o->n_files; i++)
        o->file[i] = argv[optind + i];
    if (cmd == &image_create_command && o->n_files == 2) {
        if (o->size)
            return err_set(errp, EINVAL, "SIZE is given twice, as an argument and by -o");
        o->size = o->file[--o->n_files];
    }
    return true;
}

int image_parse(int argc, char **argv, struct image_job *job, struct err **errp)
{
    bool map = job->cmd == &image_map_command;
    job->o.length = UINT64_MAX;
    const struct image_options t = {map ? ":f:s:l:Uqh" : ":f:F:b:o:r:T:Uuqpsh", long_options,
                                    job->cmd->options, take_option};
    int r = image_getopt(argc, argv, &t, job, errp);
    return r > 0 && !finish(argc, argv, job, errp) ? -1 : r;
}
