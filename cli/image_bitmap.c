/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater image bitmap ACTION... FILE BITMAP
 *
 * The actions are carried out in the order in which they are given, on the bitmaps as loaded, and
 * stored together at the end. An action that fails ends the command; what those before it did is
 * stored all the same, as qemu-img does it.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"
#include "block/node_bitmap.h"
#include "cli/image_getopt.h"
#include "cli/image_result.h"
#include "io/reactor.h"

#define MAX_ACTIONS 256

enum action_kind { ADD = 256, REMOVE, CLEAR, ENABLE, DISABLE, MERGE };

struct action {
    enum action_kind kind;
    const char *source; /* MERGE */
};

struct image_bitmap_opts {
    struct action v[MAX_ACTIONS];
    unsigned n;
    uint64_t granularity; /* 0: from the clusters */
    const char *name;
};

static const struct option long_options[] = {
    {"add", no_argument, NULL, ADD},
    {"remove", no_argument, NULL, REMOVE},
    {"clear", no_argument, NULL, CLEAR},
    {"enable", no_argument, NULL, ENABLE},
    {"disable", no_argument, NULL, DISABLE},
    {"merge", required_argument, NULL, MERGE},
    {"granularity", required_argument, NULL, 'g'},
    {"source-file", required_argument, NULL, 'b'},
    {"source-format", required_argument, NULL, 'F'},
    {"format", required_argument, NULL, 'f'},
    {"backing-dir", required_argument, NULL, IMAGE_OPT_DIR},
    {"json", no_argument, NULL, IMAGE_OPT_JSON},
    {"output", required_argument, NULL, IMAGE_OPT_OUTPUT},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static bool take(int c, const char *arg, struct image_job *job, struct err **errp)
{
    struct image_bitmap_opts *b = job->bitmap;

    switch (c) {
    case 'f':
        return format_parse(arg, "-f", &job->o.format[0], errp);
    case 'F':
        return format_parse(arg, "-F", &job->o.format[1], errp);
    case 'b':
        job->o.file[1] = arg;
        return true;
    case 'g':
        return parse_size(arg, "-g", &b->granularity, errp) &&
               bitmap_check_granularity(b->granularity, errp);
    case IMAGE_OPT_DIR:
        job->o.backing_dir = arg;
        return true;
    case IMAGE_OPT_OUTPUT:
        return image_take_output(&job->o.json, arg, errp);
    case IMAGE_OPT_JSON:
        job->o.json = true;
        return true;
    case 'q': /* there is nothing to be quiet of */
        return true;
    }
    if (b->n == MAX_ACTIONS)
        return err_set(errp, E2BIG, "at most %d actions are possible", MAX_ACTIONS);
    b->v[b->n++] = (struct action){.kind = (enum action_kind)c, .source = arg};
    return true;
}

static bool judge(int argc, char **argv, struct image_job *job, struct err **errp)
{
    const struct image_bitmap_opts *b = job->bitmap;
    bool add = false, merge = false;

    for (unsigned i = 0; i < b->n; i++) {
        add |= b->v[i].kind == ADD;
        merge |= b->v[i].kind == MERGE;
    }
    if (argc - optind != 2)
        return err_set(errp, EINVAL, "an image and the name of a bitmap are needed");
    if (b->n == 0)
        return err_set(errp, EINVAL,
                       "nothing to do: --add, --remove, --clear, --enable, --disable or "
                       "--merge SOURCE");
    if (b->granularity && !add)
        return err_set(errp, EINVAL, "-g belongs to --add");
    if (job->o.file[1] && !merge)
        return err_set(errp, EINVAL, "-b belongs to --merge");
    if (job->o.format[1] != FORMAT_UNSAID && !job->o.file[1])
        return err_set(errp, EINVAL, "-F belongs to -b");
    return true;
}

static int bitmap_parse(int argc, char **argv, struct image_job *job, struct err **errp)
{
    static const struct image_options t = {":b:f:F:g:qh", long_options, NULL, take};
    job->bitmap = mem_new(struct image_bitmap_opts);
    if (!job->bitmap) {
        err_set(errp, ENOMEM, "out of memory");
        return -1;
    }
    int r = image_getopt(argc, argv, &t, job, errp);
    if (r <= 0)
        return r;
    if (!judge(argc, argv, job, errp))
        return -1;
    job->o.file[0] = argv[optind];
    job->o.n_files = job->o.file[1] ? 2 : 1;
    job->bitmap->name = argv[optind + 1];
    return 1;
}

static struct node *open_writable(const struct image_opts *o, struct err **errp)
{
    if (o->format[0] == FORMAT_RAW) {
        err_set(errp, ENOTSUP, "'%s': a raw image cannot store bitmaps", o->file[0]);
        return NULL;
    }
    struct node *file = image_open_writable(o, 0, errp);
    if (!file)
        return NULL;
    const struct qc_open_opts qo = {.path = o->file[0], .no_backing = true};
    struct node *n = qc_open(file, &qo, errp);
    if (!n)
        node_unref(file);
    return n;
}

/* The bitmap that an action other than add works on. */
static struct bitmap *find(struct node *n, const char *name, struct err **errp)
{
    struct bitmap *b = node_bitmap_find(n, name);

    if (!b)
        err_set(errp, ENOENT, "Dirty bitmap '%s' not found", name);
    return b;
}

static bool merge(struct node *n, struct node *source, const struct image_bitmap_opts *o,
                  const char *name, struct err **errp)
{
    struct bitmap *to = find(n, o->name, errp);
    struct bitmap *from = to ? find(source, name, errp) : NULL;

    return from && bitmap_merge(to, from, errp);
}

static bool act(struct node *n, struct node *source, const struct image_bitmap_opts *o,
                const struct action *a, struct err **errp)
{
    struct bitmap *b = NULL;

    switch (a->kind) {
    case ADD:
        return node_bitmap_add(n, o->name, (uint32_t)o->granularity, true, errp);
    case REMOVE:
        return node_bitmap_remove(n, o->name, errp);
    case MERGE:
        return merge(n, source ? source : n, o, a->source, errp);
    default:
        b = find(n, o->name, errp);
        if (!b)
            return false;
        return a->kind == CLEAR ? bitmap_clear(b, errp) : bitmap_enable(b, a->kind == ENABLE, errp);
    }
}

static void print_json(struct image_job *job, struct node *n, int64_t started_ns)
{
    const struct bitmap *b = node_bitmap_find(n, job->bitmap->name);
    struct json_t *j = image_result_new(job->o.file[0]);
    image_result_text(j, "name", job->bitmap->name);
    image_result_flag(j, "exists", b);
    if (b) {
        image_result_number(j, "granularity", b->granularity);
        image_result_flag(j, "enabled", b->enabled);
        image_result_number(j, "dirty-bytes", bitmap_dirty_bytes(b));
    }
    image_result_print(job, j, started_ns);
}

static const char *action_name(enum action_kind kind)
{
    const struct option *o = long_options;

    while (o->val != (int)kind)
        o++;
    return o->name;
}

static void bitmap_run(struct image_job *job)
{
    const struct image_bitmap_opts *o = job->bitmap;
    int64_t started_ns = clock_ns();
    struct node *source = NULL, *n = open_writable(&job->o, &job->err);
    bool ok = n;

    if (ok && job->o.file[1]) {
        source = image_open(&job->o, 1, &job->err);
        ok = source;
    }
    for (unsigned i = 0; i < o->n && ok; i++) {
        ok = act(n, source, o, &o->v[i], &job->err);
        if (!ok)
            err_prefix(&job->err, "--%s '%s': ", action_name(o->v[i].kind), o->name);
    }
    if (n)
        node_bitmap_store(n, job->err ? NULL : &job->err);
    if (n && job->o.json && !job->err)
        print_json(job, n, started_ns);
    node_unref(source);
    node_unref(n);
}

const struct image_command image_bitmap_command = {
    .name = "bitmap",
    .parse = bitmap_parse,
    .min_files = 1,
    .max_files = 1,
    .fail_code = IMAGE_FAILED,
    .run = bitmap_run,
};
