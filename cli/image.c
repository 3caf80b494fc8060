/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater image`: finds the command, runs it in a coroutine, opens images for it.
 */
#include "cli/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "block/file.h"
#include "cli/cli.h"
#include "cli/image_copy.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"

#define PATIENCE_MS 1000

static const struct image_command *const commands[] = {
    &image_info_command,    &image_create_command,  &image_check_command,   &image_map_command,
    &image_compare_command, &image_convert_command, &image_measure_command, &image_bitmap_command,
    &image_commit_command,  &image_rebase_command,  &image_resize_command,  &image_snapshot_command,
};

/* Only to help with the message: the format is never taken from the content. */
static bool looks_like_qcow2(const char *path)
{
    char magic[4] = "";
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return fd >= 0 && pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
           memcmp(magic, "QFI\xfb", sizeof(magic)) == 0;
}

static bool settle(const struct image_opts *o, int i, enum image_format *f, struct err **errp)
{
    struct err *e = NULL;
    *f = o->format[i];
    if (format_settle(o->file[i], i ? "-F" : "-f", f, &e))
        return true;
    if (looks_like_qcow2(o->file[i])) {
        err_free(e);
        e = NULL;
        err_set(&e, EINVAL, "'%s' looks like a qcow2 image: say %s qcow2 if it is one (or %s raw)",
                o->file[i], i ? "-F" : "-f", i ? "-F" : "-f");
    }
    return err_move(errp, e);
}

static struct node *open_file(const struct image_opts *o, int i, bool read_only, struct err **errp)
{
    const struct file_opts fo = {.path = o->file[i],
                                 .read_only = read_only,
                                 .direct = o->cache.direct,
                                 .no_lock = o->force_share};
    return image_file_open(&fo, o->rules[i], errp);
}

struct node *image_open_file(const struct image_opts *o, int i, struct err **errp)
{
    return open_file(o, i, true, errp);
}

struct node *image_open_writable(const struct image_opts *o, int i, struct err **errp)
{
    return open_file(o, i, false, errp);
}

static struct node *open_format(const struct image_opts *o, int i, bool no_data, struct err **errp)
{
    struct node *file = image_open_file(o, i, errp);
    if (!file || o->format[i] == FORMAT_RAW)
        return file;
    const struct qc_open_opts qo = {.path = o->file[i],
                                    .backing_dir = o->backing_dir,
                                    .read_only = true,
                                    .no_data = no_data,
                                    .no_backing = no_data && !o->backing_chain,
                                    .direct = o->cache.direct,
                                    .no_lock = o->force_share};
    struct node *n = qc_open(file, &qo, errp);
    if (!n)
        node_unref(file);
    return n;
}

struct node *image_open(const struct image_opts *o, int i, struct err **errp)
{
    return open_format(o, i, false, errp);
}

struct node *image_open_tables(const struct image_opts *o, int i, struct err **errp)
{
    return open_format(o, i, true, errp);
}

static int report(const struct image_job *job, struct err *e)
{
    bool busy = err_code(e) == EBUSY && job->cmd->options && strchr(job->cmd->options, 'U');
    fprintf(stderr, "breakwater: %s%s\n", err_msg(e),
            busy ? " (-U takes no lock and looks at it all the same)" : "");
    err_free(e);
    return job->cmd->fail_code;
}

static void run_main(void *arg)
{
    struct image_job *job = arg;
    job->cmd->run(job);
}

static int run_job(struct image_job *job)
{
    struct reactor *r;
    struct err *e = NULL;
    if (!reactor_new(REACTOR_AUTO, &r, &e))
        return report(job, e);
    bool ran = reactor_run_co(r, run_main, job);
    reactor_free(r);
    if (!ran)
        err_set(&job->err, ENOMEM, "out of memory");
    if (job->err)
        return report(job, job->err);
    if (fflush(stdout) != 0) {
        err_set_errno(&e, errno, "standard output");
        return report(job, e);
    }
    return job->exit_code;
}

static bool split_names(struct image_job *job, struct err **errp)
{
    struct image_opts *o = &job->o;
    struct image_copy_opts *c = job->copy;
    const char *made = NULL;
    for (int i = 0; i < o->n_files; i++)
        if (!image_name_split(&o->file[i], &o->rules[i], errp))
            return false;
    for (int i = 0; c && i < c->n_files; i++)
        if (!image_name_split(&c->file[i], &c->rules[i], errp))
            return false;
    if (job->cmd == &image_create_command)
        made = o->rules[0];
    else if (job->cmd == &image_convert_command && !c->no_create)
        made = c->rules[c->n_files - 1];
    return !made || err_set(errp, EINVAL, "an image cannot be created through blkdebug");
}

/* On a terminal long work shows how far it is, without being told to; -q wins. */
static void settle_progress(struct image_job *job)
{
    bool *on = job->copy ? &job->copy->progress : &job->o.progress;
    bool quiet = job->copy ? job->copy->quiet : job->o.quiet;
    if (!*on && isatty(STDERR_FILENO))
        image_progress_later(PATIENCE_MS);
    *on = !quiet && (*on || isatty(STDERR_FILENO));
}

static int run_command(const struct image_command *cmd, int argc, char **argv)
{
    struct image_job job = {.cmd = cmd};
    struct err *e = NULL;
    int r = cmd->parse          ? cmd->parse(argc, argv, &job, &e)
            : cmd->copy_letters ? image_copy_parse(argc, argv, &job, &e)
                                : image_parse(argc, argv, &job, &e);
    int code = IMAGE_OK;
    if (r > 0 && !split_names(&job, &e))
        r = -1;
    int n = cmd->copy_letters ? 0 : cmd->max_files == cmd->min_files ? job.o.n_files : 1;
    for (int i = 0; r > 0 && i < n; i++)
        if (!settle(&job.o, i, &job.o.format[i], &e))
            r = -1;
    if (r > 0) {
        settle_progress(&job);
        code = run_job(&job);
    } else if (r < 0) {
        cli_usage("image", "%s: %s", cmd->name, err_msg(e));
        err_free(e);
        code = cmd->fail_code;
    }
    for (int i = 0; i < IMAGE_OWNED_COUNT; i++)
        mem_free(job.o.owned[i]);
    image_copy_free(job.copy);
    mem_free(job.o.rules[0]);
    mem_free(job.o.rules[1]);
    mem_free(job.bitmap);
    return code;
}

static int image_main(int argc, char **argv)
{
    if (argc < 2)
        return cli_usage("image", "a command is missing");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return image_help();
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return run_command(commands[i], argc - 1, argv + 1);
    return cli_usage(
        "image",
        "there is no command '%s'; there are info, create, check, map, compare, convert, "
        "measure, bitmap, rebase, commit, resize, snapshot",
        argv[1]);
}

const struct subcommand image_command = {
    .name = "image",
    .summary = "show, make, check, map and compare disk images",
    .run = image_main,
};
