/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of `breakwater image snapshot` and `resize`, with the letters of qemu-img, which mean
 * something else there than in the other commands.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "cli/image_change.h"
#include "cli/image_getopt.h"

enum long_only { OPT_SHRINK = 'k', OPT_PREALLOC = 'r' };

static const struct option long_options[] = {
    {"format", required_argument, NULL, 'f'},
    {"json", no_argument, NULL, IMAGE_OPT_JSON},
    {"output", required_argument, NULL, IMAGE_OPT_OUTPUT},
    {"force-share", no_argument, NULL, 'U'},
    {"backing-dir", required_argument, NULL, IMAGE_OPT_DIR},
    {"quiet", no_argument, NULL, 'q'},
    {"shrink", no_argument, NULL, OPT_SHRINK},
    {"preallocation", required_argument, NULL, OPT_PREALLOC},
    {"help", no_argument, NULL, 'h'},
    {0},
};

const char image_change_help[] =
    "snapshot, with -f, -q and --json as above, and one of:\n"
    "  -l                      list the internal snapshots [if nothing is asked for]; also with "
    "-U\n"
    "  -c NAME                 make one of what the disk holds now\n"
    "  -a SNAPSHOT             make the disk what it was then; an id or a name\n"
    "  -d SNAPSHOT             delete it; a name or an id\n"
    "resize, with -f, -q, --json and --backing-dir as above, and:\n"
    "      --shrink            a smaller size is meant: what lies beyond it is lost\n"
    "      --preallocation MODE  of new space: off, metadata, falloc, full [off]\n"
    "  SIZE                    +SIZE and -SIZE: so much more or less\n"
    "\n";

static bool take_action(int c, struct image_change *ch, const char *arg, struct err **errp)
{
    if (ch->action)
        return err_set(errp, EINVAL, "only one of -l, -c, -a and -d can be done at a time");
    ch->action = c;
    ch->name = arg;
    return true;
}

static bool take(int c, const char *arg, struct image_job *job, struct err **errp)
{
    struct image_opts *o = &job->o;
    switch (c) {
    case 'f':
        return format_parse(arg, "-f", &o->format[0], errp);
    case 'l':
    case 'c':
    case 'a':
    case 'd':
        return take_action(c, &job->change, arg, errp);
    case OPT_PREALLOC:
        return image_take_preallocation(&job->change.preallocation, arg, "--preallocation", errp);
    case IMAGE_OPT_DIR:
        o->backing_dir = arg;
        return true;
    case IMAGE_OPT_OUTPUT:
        return image_take_output(&o->json, arg, errp);
    default: {
        bool *flag = c == IMAGE_OPT_JSON ? &o->json
                     : c == 'U'          ? &o->force_share
                     : c == 'q'          ? &o->quiet
                                         : &job->change.shrink;
        *flag = true;
        return true;
    }
    }
}

static bool finish(int argc, char **argv, struct image_job *job, struct err **errp)
{
    struct image_opts *o = &job->o;
    if (argc == optind)
        return err_set(errp, EINVAL, "the image is missing");
    if (argc > optind + 1)
        return err_set(errp, EINVAL, "'%s' is one too many", argv[optind + 1]);
    o->file[0] = argv[optind];
    o->n_files = 1;
    bool reads = job->change.action == 'l' || !job->change.action;
    if (job->cmd == &image_snapshot_command && o->force_share && !reads)
        return err_set(errp, EINVAL, "-U is for reading: with -l only");
    return true;
}

int image_change_parse(int argc, char **argv, struct image_job *job, struct err **errp)
{
    const struct image_options t = {":f:lc:a:d:Uqh", long_options, job->cmd->options, take};
    bool help = argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    /* A size may begin with a minus: it is the last word, and no option. */
    if (job->cmd == &image_resize_command && !help) {
        if (argc < 3) {
            err_set(errp, EINVAL, "the image or the size is missing");
            return -1;
        }
        job->change.size = argv[--argc];
    }
    int r = image_getopt(argc, argv, &t, job, errp);
    return r > 0 && !finish(argc, argv, job, errp) ? -1 : r;
}
