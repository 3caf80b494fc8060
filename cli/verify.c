/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater verify REPO[/DISK[@WHICH]]
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/work.h"
#include "io/reactor.h"

#define OPT_JSON 256

static const struct option long_options[] = {
    {"json", no_argument, NULL, OPT_JSON},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static const char help_text[] =
    "Usage: breakwater verify [OPTION]... REPO[/DISK[@WHICH]]\n"
    "Read backups back and check all of their content: every backup of all disks, of one disk,\n"
    "or one backup with the chain it stands on (WHICH: latest, a sequence number, or a UUID).\n"
    "\n"
    "      --json                print the result as one JSON object\n"
    "  -v, --verbose             log more; twice: everything\n"
    "  -h, --help\n"
    "\n"
    "Exit code: 0 all is well; 1 usage; 2 could not be checked; 4 content differs from its\n"
    "digest; 5 a file of a chain is missing or damaged.\n";

struct job {
    const char *target;
    struct backup_control ctl;
    struct verify_report report;
    enum backup_status status;
    struct err *err;
    json_t *faults;
    bool json;
    unsigned verbose, disks;
};

static void show_fault(void *arg, const char *text)
{
    struct job *j = arg;
    if (j->faults)
        json_array_append_new(j->faults, work_string(text));
    fprintf(stderr, "breakwater: %s\n", text);
}

static void verify_named(struct job *j, const char *repo, const char *disk, const char *which)
{
    enum backup_status s =
        verify_disk(repo, disk, which, &j->ctl, show_fault, j, &j->report, &j->err);
    j->disks++;
    /* The worst of all disks: a failure, then a broken chain, then wrong content. */
    if (s == BACKUP_FAILED ||
        (j->status != BACKUP_FAILED && j->status != BACKUP_BROKEN && s != BACKUP_OK))
        j->status = s;
}

/* A manifest, or a layer (whose manifest may be lost). */
static int is_of_backup(const struct dirent *e)
{
    const char *dot = strrchr(e->d_name, '.');
    return e->d_name[0] == 'G' && dot && (strcmp(dot, ".json") == 0 || strcmp(dot, ".qcow2") == 0);
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int count_backup_files(const char *path)
{
    struct dirent **list;
    int n = scandir(path, &list, is_of_backup, NULL);
    for (int i = 0; i < n; i++)
        free(list[i]);
    if (n >= 0)
        free(list);
    return n;
}

/* All disks of a repository: the folders in it that hold files of backups. */
static void verify_repository(struct job *j)
{
    struct dirent **list;
    int n = scandir(j->target, &list, is_visible, alphasort);
    for (int i = 0; i < n; i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", j->target, list[i]->d_name);
        int files = path ? count_backup_files(path) : 0;
        /* A folder that may not be looked into may hold backups: then not all is well. */
        if (!j->err && (files > 0 || (files < 0 && errno == EACCES)))
            verify_named(j, j->target, list[i]->d_name, NULL);
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    if (!j->err && j->disks == 0) {
        err_set(&j->err, ENOENT, "%s: no backups", j->target);
        j->status = BACKUP_FAILED;
    }
}

static void run(void *arg)
{
    struct job *j = arg;
    AUTO_FREE char *repo = NULL;
    AUTO_FREE char *disk = NULL;
    AUTO_FREE char *which = NULL;
    AUTO_ERR struct err *e = NULL;
    struct dirent **list;

    /* A folder with folders and no files of backups is a repository. */
    int n = scandir(j->target, &list, is_visible, NULL);
    for (int i = 0; i < n; i++)
        free(list[i]);
    if (n >= 0)
        free(list);
    if (n > 0 && count_backup_files(j->target) == 0) {
        verify_repository(j);
        return;
    }
    if (repo_split(j->target, &repo, &disk, &which, &e)) {
        verify_named(j, repo, disk, which);
        return;
    }
    err_move(&j->err, steal(e));
    j->status = BACKUP_FAILED;
}

static int finish(struct job *j)
{
    const struct verify_report *r = &j->report;
    double seconds = (double)r->elapsed_ns / NS_PER_S;
    char read[32];
    enum cli_exit code = work_exit(j->status);

    if (j->json)
        work_json(json_pack("{s:s, s:i, s:i, s:I, s:I, s:o, s:o, s:f}", "result",
                            j->status == BACKUP_OK         ? "ok"
                            : j->status == BACKUP_MISMATCH ? "mismatch"
                            : j->status == BACKUP_BROKEN   ? "broken"
                                                           : "failed",
                            "layers", (int)r->layers, "backups_proven", (int)r->backups,
                            "read_bytes", (json_int_t)r->read_bytes, "bad_blocks",
                            (json_int_t)r->bad_blocks, "faults", json_incref(j->faults), "error",
                            j->err ? work_string(err_msg(j->err)) : json_null(), "seconds",
                            seconds));
    json_decref(j->faults);
    if (j->status == BACKUP_FAILED)
        return cli_fail(code, j->err);
    if (!j->json)
        printf("%s: %u of %u layers proven, %s read, %" PRIu64 " bad blocks, %.2f s\n",
               j->status == BACKUP_OK ? "verified" : "DAMAGED", r->backups, r->layers,
               size_to_text(r->read_bytes, read, sizeof(read)), r->bad_blocks, seconds);
    return code;
}

static int verify_main(int argc, char **argv)
{
    struct job j = {.status = BACKUP_OK};
    int c;

    AUTO_ERR struct err *wrong = NULL;
    struct args a = args_begin(argc, argv, ":vh", long_options);
    while ((c = args_next(&a, &wrong)) != ARGS_END) {
        if (c == OPT_JSON)
            j.json = true;
        else if (c == 'v')
            j.verbose++;
        else if (c == 'h')
            return fputs(help_text, stdout) < 0 ? CLI_FAILED : CLI_OK;
        else
            return cli_usage("verify", "%s", err_msg(wrong));
    }
    if (argc - optind != 1)
        return cli_usage("verify", "one thing to verify is needed: REPO[/DISK[@WHICH]]");
    log_set_level(j.verbose > 1 ? LOG_LEVEL_DEBUG : j.verbose ? LOG_LEVEL_INFO : LOG_LEVEL_WARN);
    j.target = argv[optind];
    j.faults = json_array();
    if (!work_run(run, &j, &j.ctl, &j.err)) {
        json_decref(j.faults);
        return cli_fail(CLI_FAILED, j.err);
    }
    return finish(&j);
}

const struct subcommand verify_command = {
    .name = "verify",
    .summary = "read backups back and check all of their content",
    .run = verify_main,
};
