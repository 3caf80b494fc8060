/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater restore REPO/DISK[@WHICH] FILE
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/work.h"
#include "io/reactor.h"

enum {
    OPT_FORCE = 256,
    OPT_JSON,
};

static const struct option long_options[] = {
    {"format", required_argument, NULL, 'f'}, {"force", no_argument, NULL, OPT_FORCE},
    {"json", no_argument, NULL, OPT_JSON},    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},         {0},
};

static const char help_text[] =
    "Usage: breakwater restore [OPTION]... REPO/DISK[@WHICH] FILE\n"
    "Write one backup to a new image. WHICH: latest, a sequence number, or a UUID [latest].\n"
    "\n"
    "  -f, --format FORMAT       qcow2 or raw [qcow2]\n"
    "      --force               replace FILE if it exists\n"
    "      --json                print the result as one JSON object\n"
    "  -v, --verbose             log more; twice: everything\n"
    "  -h, --help\n"
    "\n"
    "Every block is checked against its SHA-256; FILE appears whole or not at all. Exit code: 0\n"
    "done; 1 usage; 2 failed; 4 content differs from its digest; 5 the chain is damaged.\n";

struct job {
    struct restore_opts o;
    struct backup_control ctl;
    struct restore_report report;
    enum backup_status status;
    struct err *err;
    bool json;
    unsigned verbose;
};

static void run(void *arg)
{
    struct job *j = arg;
    j->status = restore_run(&j->o, &j->report, &j->err);
}

static int finish(struct job *j)
{
    const struct restore_report *r = &j->report;
    double seconds = (double)r->elapsed_ns / NS_PER_S;
    char id[UUID_TEXT_LEN + 1], size[32], data[32];

    if (j->status != BACKUP_OK) {
        if (j->json)
            work_json(
                json_pack("{s:s, s:o}", "result", "failed", "error", work_string(err_msg(j->err))));
        return cli_fail(work_exit(j->status), j->err);
    }
    uuid_format(&r->uuid, id);
    if (j->json)
        work_json(json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:s, s:f}", "result", "ok", "uuid", id,
                            "sequence", (json_int_t)r->sequence, "size", (json_int_t)r->size,
                            "data_bytes", (json_int_t)r->data_bytes, "file", work_string(j->o.out),
                            "format", j->o.raw ? "raw" : "qcow2", "seconds", seconds));
    else
        printf("restored backup %" PRIu64 " to %s: %s of data in a disk of %s, %.2f s\n",
               r->sequence, j->o.out, size_to_text(r->data_bytes, data, sizeof(data)),
               size_to_text(r->size, size, sizeof(size)), seconds);
    return CLI_OK;
}

/* Returns -1 to go on, or the exit code. */
static int take_options(struct job *j, int argc, char **argv)
{
    AUTO_ERR struct err *wrong = NULL;
    struct args a = args_begin(argc, argv, ":f:vh", long_options);
    int c;

    while ((c = args_next(&a, &wrong)) != ARGS_END) {
        if (c == 'f' && strcmp(optarg, "raw") != 0 && strcmp(optarg, "qcow2") != 0)
            return cli_usage("restore", "--format: '%s' is not known; it is qcow2 or raw", optarg);
        if (c == 'f')
            j->o.raw = strcmp(optarg, "raw") == 0;
        else if (c == OPT_FORCE)
            j->o.force = true;
        else if (c == OPT_JSON)
            j->json = true;
        else if (c == 'v')
            j->verbose++;
        else if (c == 'h')
            return fputs(help_text, stdout) < 0 ? CLI_FAILED : CLI_OK;
        else
            return cli_usage("restore", "%s", err_msg(wrong));
    }
    return -1;
}

static int restore_main(int argc, char **argv)
{
    struct job j = {0};
    AUTO_ERR struct err *e = NULL;
    int code = take_options(&j, argc, argv);
    if (code >= 0)
        return code;
    if (argc - optind != 2)
        return cli_usage("restore", "a backup (REPO/DISK[@WHICH]) and a file are needed");
    if (strcmp(argv[optind + 1], "-") == 0)
        return cli_usage("restore", "an image cannot go to standard output; name a file");

    AUTO_FREE char *repo = NULL;
    AUTO_FREE char *disk = NULL;
    AUTO_FREE char *which = NULL;
    if (!repo_split(argv[optind], &repo, &disk, &which, &e))
        return cli_usage("restore", "%s", err_msg(e));
    log_set_level(j.verbose > 1 ? LOG_LEVEL_DEBUG : j.verbose ? LOG_LEVEL_INFO : LOG_LEVEL_WARN);
    j.o.repo = repo;
    j.o.disk = disk;
    j.o.which = which;
    j.o.out = argv[optind + 1];
    j.o.ctl = &j.ctl;
    if (!work_run(run, &j, &j.ctl, &j.err))
        return cli_fail(CLI_FAILED, j.err);
    return finish(&j);
}

const struct subcommand restore_command = {
    .name = "restore",
    .summary = "write a backup to a new image",
    .run = restore_main,
};
