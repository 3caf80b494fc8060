/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater backup URI REPO
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "backup-client/manifest.h"
#include "backup-client/source.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/work.h"
#include "io/reactor.h"

enum {
    OPT_NAME = 256,
    OPT_FULL,
    OPT_BITMAP,
    OPT_CONNECTIONS,
    OPT_DEPTH,
    OPT_REQUEST_SIZE,
    OPT_TIMEOUT,
    OPT_MAX_CHAIN,
    OPT_ALLOW_LIVE,
    OPT_JSON,
};

static const struct option long_options[] = {
    {"name", required_argument, NULL, OPT_NAME},
    {"full", no_argument, NULL, OPT_FULL},
    {"bitmap", required_argument, NULL, OPT_BITMAP},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"request-size", required_argument, NULL, OPT_REQUEST_SIZE},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"max-chain", required_argument, NULL, OPT_MAX_CHAIN},
    {"allow-live", no_argument, NULL, OPT_ALLOW_LIVE},
    {"json", no_argument, NULL, OPT_JSON},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static const char help_text[] =
    "Usage: breakwater backup [OPTION]... URI REPO\n"
    "Back up an NBD export into a repository: in full the first time, then what changed.\n"
    "\n"
    "      --name DISK           name of the disk in REPO [the export's name, else 'disk']\n"
    "      --full                a full backup, also where an increment is possible\n"
    "      --bitmap NAME         changes since the last backup are in this bitmap of the export\n"
    "      --allow-live          accept an export that may change while it is read\n"
    "      --connections N       at most so many to the server [4]\n"
    "      --depth N             requests in flight on each [16]\n"
    "      --request-size SIZE   bytes a request, 64k to 1M [256k]\n"
    "      --timeout TIME        give up when the server is silent for so long [2m]\n"
    "      --max-chain N         after so many layers, begin a new chain with a full backup [30]\n"
    "      --json                print the result as one JSON object\n"
    "  -v, --verbose             log more; twice: everything\n"
    "  -h, --help\n"
    "\n"
    "Exit code: 0 done; 1 usage; 2 failed, nothing was published; 3 done, but in full where an\n"
    "increment was expected; 75 another run holds the disk or the server is unreachable: retry.\n";

struct job {
    struct backup_opts o;
    struct backup_control ctl;
    struct backup_report report;
    enum backup_status status;
    struct err *err;
    bool json;
    unsigned verbose;
};

static bool take_number(const char *text, const char *what, uint64_t min, uint64_t max,
                        unsigned *out, struct err **errp)
{
    uint64_t n;
    if (!parse_u64(text, what, min, max, &n, errp))
        return false;
    *out = (unsigned)n;
    return true;
}

static bool take_request(const char *text, uint32_t *out, struct err **errp)
{
    uint64_t n;
    if (!parse_size(text, "--request-size", &n, errp))
        return false;
    if (n < BACKUP_BLOCK || n > MiB || n % BACKUP_BLOCK != 0)
        return err_set(errp, 0, "--request-size: '%s' is not a multiple of 64k from 64k to 1M",
                       text);
    *out = (uint32_t)n;
    return true;
}

static bool take_timeout(const char *text, uint64_t *out, struct err **errp)
{
    if (!parse_duration_ms(text, "--timeout", out, errp))
        return false;
    if (*out == 0 || *out > UINT64_C(86400000))
        return err_set(errp, 0, "--timeout: '%s' is not above 0 and at most 24h", text);
    return true;
}

static bool take_option(struct job *j, int c, struct err **errp)
{
    switch (c) {
    case OPT_NAME:
        j->o.name = optarg;
        return disk_name_check(optarg, errp);
    case OPT_FULL:
        j->o.full = true;
        return true;
    case OPT_BITMAP:
        j->o.bitmap = optarg;
        return (*optarg && strlen(optarg) <= 1023 && text_is_utf8(optarg)) ||
               err_set(errp, 0, "--bitmap: a name has 1 to 1023 bytes of UTF-8");
    case OPT_CONNECTIONS:
        return take_number(optarg, "--connections", 1, SOURCE_CONNECTIONS_MAX, &j->o.connections,
                           errp);
    case OPT_DEPTH:
        return take_number(optarg, "--depth", 1, 64, &j->o.depth, errp);
    case OPT_REQUEST_SIZE:
        return take_request(optarg, &j->o.request, errp);
    case OPT_TIMEOUT:
        return take_timeout(optarg, &j->o.timeout_ms, errp);
    case OPT_MAX_CHAIN:
        return take_number(optarg, "--max-chain", 1, REPO_CHAIN_MAX, &j->o.max_chain, errp);
    case OPT_ALLOW_LIVE:
        j->o.allow_live = true;
        return true;
    case OPT_JSON:
        j->json = true;
        return true;
    default:
        j->verbose++;
        return true;
    }
}

static void run(void *arg)
{
    struct job *j = arg;
    j->status = backup_run(&j->o, &j->report, &j->err);
}

static json_t *report_json(const struct backup_report *r)
{
    char id[UUID_TEXT_LEN + 1], root[DIGEST_HEX_LEN + 1];
    uuid_format(&r->uuid, id);
    hex_encode(r->disk_root.v, DIGEST_LEN, root);
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:i, s:s, s:f}", "result",
        r->reason ? "degraded" : "ok", "disk", r->disk, "uuid", id, "sequence",
        (json_int_t)r->sequence, "level", r->incremental ? "incremental" : "full", "reason",
        r->reason ? work_string(r->reason) : json_null(), "size", (json_int_t)r->size, "read_bytes",
        (json_int_t)r->read_bytes, "data_bytes", (json_int_t)r->data_bytes, "zero_bytes",
        (json_int_t)r->zero_bytes, "layer_size", (json_int_t)r->layer_size, "connections",
        (int)r->connections, "disk_root", root, "seconds", (double)r->elapsed_ns / NS_PER_S);
}

static void print_summary(const struct job *j)
{
    const struct backup_report *r = &j->report;
    char data[32], zero[32], size[32], rate[32];
    double seconds = (double)r->elapsed_ns / NS_PER_S;
    printf("backup %s/%s@%" PRIu64 ": %s, %s of data and %s of zeros of a disk of %s, %.2f s",
           j->o.repo, r->disk, r->sequence, r->incremental ? "incremental" : "full",
           size_to_text(r->data_bytes, data, sizeof(data)),
           size_to_text(r->zero_bytes, zero, sizeof(zero)),
           size_to_text(r->size, size, sizeof(size)), seconds);
    if (seconds > 0.01)
        printf(", %s/s",
               size_to_text((uint64_t)((double)r->read_bytes / seconds), rate, sizeof(rate)));
    putchar('\n');
    fflush(stdout);
}

static int finish(struct job *j)
{
    enum cli_exit code = work_exit(j->status);
    if (j->status != BACKUP_OK && j->status != BACKUP_DEGRADED) {
        if (j->json)
            work_json(json_pack("{s:s, s:o}", "result",
                                j->status == BACKUP_RETRY ? "retry" : "failed", "error",
                                work_string(err_msg(j->err))));
        return cli_fail(code, j->err);
    }
    if (j->report.reason)
        fprintf(stderr, "breakwater: a full backup instead of an increment: %s\n",
                j->report.reason);
    if (j->json)
        work_json(report_json(&j->report));
    else
        print_summary(j);
    backup_report_free(&j->report);
    return code;
}

static int backup_main(int argc, char **argv)
{
    struct job j = {0};
    int c;

    struct args a = args_begin(argc, argv, ":vh", long_options);
    for (;;) {
        AUTO_ERR struct err *e = NULL;
        c = args_next(&a, &e);
        if (c == ARGS_END)
            break;
        if (c == 'h') {
            fputs(help_text, stdout);
            return CLI_OK;
        }
        if (c == ARGS_WRONG || !take_option(&j, c, &e))
            return cli_usage("backup", "%s", err_msg(e));
    }
    if (argc - optind != 2)
        return cli_usage("backup", "a URI and a repository are needed");
    log_set_level(j.verbose > 1 ? LOG_LEVEL_DEBUG : j.verbose ? LOG_LEVEL_INFO : LOG_LEVEL_WARN);
    j.o.uri = argv[optind];
    j.o.repo = argv[optind + 1];
    j.o.ctl = &j.ctl;
    if (!work_run(run, &j, &j.ctl, &j.err))
        return cli_fail(CLI_FAILED, j.err);
    return finish(&j);
}

const struct subcommand backup_command = {
    .name = "backup",
    .summary = "take a full or incremental backup of an NBD export",
    .run = backup_main,
};
