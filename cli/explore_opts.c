/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of `breakwater explore`.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "cli/args.h"
#include "cli/explore.h"

static const char help_text[] =
    "Usage: breakwater explore --disk IMAGE|--size N --workload COMMAND --check COMMAND "
    "[OPTION]...\n"
    "       breakwater explore --disk IMAGE|--size N --replay FILE --check COMMAND [OPTION]...\n"
    "       breakwater explore mark NAME      in a workload: it has come so far\n"
    "\n"
    "Records what the workload does to the disk, and runs the check on what every power cut could\n"
    "have left of it. Both find the disk's NBD URI in $uri, and in the place of {uri}; a check\n"
    "also $mark and $state. The image is never written to.\n"
    "\n"
    "  -f, --format FORMAT       qcow2 or raw; by default from the name\n"
    "      --disk IMAGE          the disk, as it is before the workload\n"
    "      --size SIZE           or an empty one of this size\n"
    "      --layer guest|host    cut the power of the guest's disk [guest], or of the host, of\n"
    "                            the image's file: the check then sees the file\n"
    "      --workload COMMAND    for /bin/sh\n"
    "      --check COMMAND       for /bin/sh; fails a state unless its exit code is 0;\n"
    "                            builtin:qcow2 checks the state as a qcow2 image by itself\n"
    "      --record FILE         write the recording as a log of dm-log-writes\n"
    "      --replay FILE         use such a log instead of a workload\n"
    "      --since MARK          cut the power only after this mark was set\n"
    "      --states N            test at most so many states [1000]\n"
    "      --state N             test only this one, and show what the check says\n"
    "      --atomic 512|4096     what cannot tear [512]\n"
    "      --seed N              of what is drawn [1]\n"
    "  -j, --jobs N              so many checks at a time [number of processors]\n"
    "      --timeout TIME        a check that takes longer fails its state [60s]\n"
    "      --workload-timeout TIME\n"
    "                            a workload that takes longer has failed [none]\n"
    "      --limit SIZE          most memory for what is recorded [1G]\n"
    "      --keep DIR            keep the first failing state there as a file\n"
    "  -x, --stop-at-first       stop at the first state that fails\n"
    "      --backing-dir DIR     backing files may also be in DIR\n"
    "      --json                the sum as JSON\n"
    "  -q, --quiet\n"
    "  -h, --help\n"
    "\n"
    "Exit code: 0 all states are good; 1 usage; 2 it failed, the workload did, or it was ended\n"
    "before a state had failed; 3 a state failed the check.\n";

enum {
    OPT_DISK = 256,
    OPT_SIZE,
    OPT_LAYER,
    OPT_WORKLOAD,
    OPT_CHECK,
    OPT_RECORD,
    OPT_REPLAY,
    OPT_SINCE,
    OPT_STATES,
    OPT_STATE,
    OPT_ATOMIC,
    OPT_SEED,
    OPT_TIMEOUT,
    OPT_WORKLOAD_TIMEOUT,
    OPT_LIMIT,
    OPT_KEEP,
    OPT_BACKING_DIR,
    OPT_JSON,
};

static const struct option long_options[] = {
    {"format", required_argument, NULL, 'f'},
    {"disk", required_argument, NULL, OPT_DISK},
    {"size", required_argument, NULL, OPT_SIZE},
    {"layer", required_argument, NULL, OPT_LAYER},
    {"workload", required_argument, NULL, OPT_WORKLOAD},
    {"check", required_argument, NULL, OPT_CHECK},
    {"record", required_argument, NULL, OPT_RECORD},
    {"replay", required_argument, NULL, OPT_REPLAY},
    {"since", required_argument, NULL, OPT_SINCE},
    {"states", required_argument, NULL, OPT_STATES},
    {"state", required_argument, NULL, OPT_STATE},
    {"atomic", required_argument, NULL, OPT_ATOMIC},
    {"seed", required_argument, NULL, OPT_SEED},
    {"jobs", required_argument, NULL, 'j'},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"workload-timeout", required_argument, NULL, OPT_WORKLOAD_TIMEOUT},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"keep", required_argument, NULL, OPT_KEEP},
    {"stop-at-first", no_argument, NULL, 'x'},
    {"backing-dir", required_argument, NULL, OPT_BACKING_DIR},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static bool take_unsigned(const char *text, const char *what, uint64_t max, unsigned *out,
                          struct err **errp)
{
    uint64_t v;

    if (!parse_u64(text, what, 1, max, &v, errp))
        return false;
    *out = (unsigned)v;
    return true;
}

static bool take_layer(const char *text, bool *host, struct err **errp)
{
    *host = strcmp(text, "host") == 0;
    return *host || strcmp(text, "guest") == 0 ||
           err_set(errp, EINVAL, "--layer '%s' is neither guest nor host", text);
}

static bool take_atomic(const char *text, uint32_t *out, struct err **errp)
{
    uint64_t v;

    if (!parse_size(text, "--atomic", &v, errp))
        return false;
    *out = (uint32_t)v;
    return v == 512 || v == 4096 ||
           err_set(errp, EINVAL, "--atomic '%s' is neither 512 nor 4096", text);
}

/* Options whose value is a text. NULL: it is not one of these. */
static const char **text_option(int c, struct explore_opts *o)
{
    switch (c) {
    case OPT_DISK:
        return &o->disk;
    case OPT_WORKLOAD:
        return &o->workload;
    case OPT_CHECK:
        return &o->check;
    case OPT_RECORD:
        return &o->record;
    case OPT_REPLAY:
        return &o->replay;
    case OPT_SINCE:
        return &o->since;
    case OPT_KEEP:
        return &o->keep;
    case OPT_BACKING_DIR:
        return &o->backing_dir;
    default:
        return NULL;
    }
}

static bool take(int c, const char *arg, struct explore_opts *o, struct err **errp)
{
    const char **text = text_option(c, o);

    if (text) {
        *text = arg;
        return true;
    }
    switch (c) {
    case 'f':
        return format_parse(arg, "--format", &o->format, errp);
    case OPT_SIZE:
        return parse_size(arg, "--size", &o->size, errp);
    case OPT_LAYER:
        return take_layer(arg, &o->host, errp);
    case OPT_STATES:
        return take_unsigned(arg, "--states", 100 * 1000 * 1000, &o->states, errp);
    case OPT_STATE:
        return parse_u64(arg, "--state", 0, UINT32_MAX, &o->state, errp);
    case OPT_ATOMIC:
        return take_atomic(arg, &o->atomic, errp);
    case OPT_SEED:
        return parse_u64(arg, "--seed", 0, UINT64_MAX, &o->seed, errp);
    case 'j':
        return take_unsigned(arg, "--jobs", EXPLORE_JOBS_MAX, &o->jobs, errp);
    case OPT_TIMEOUT:
        return parse_duration_ms(arg, "--timeout", &o->check_timeout_ms, errp);
    case OPT_WORKLOAD_TIMEOUT:
        return parse_duration_ms(arg, "--workload-timeout", &o->workload_timeout_ms, errp);
    case OPT_LIMIT:
        return parse_size(arg, "--limit", &o->limit, errp);
    case 'x':
        o->stop_at_first = true;
        return true;
    case OPT_JSON:
        o->json = true;
        return true;
    default:
        o->quiet = true;
        return true;
    }
}

static bool fits_together(struct explore_opts *o, struct err **errp)
{
    if (!o->disk == !o->size)
        return err_set(errp, EINVAL, "give the disk: either --disk IMAGE or --size SIZE");
    if (!o->workload == !o->replay)
        return err_set(errp, EINVAL, "give either --workload COMMAND or --replay FILE");
    if (!o->check && (o->replay || !o->record))
        return err_set(errp, EINVAL, "--check is missing");
    if (o->record && o->replay)
        return err_set(errp, EINVAL, "--record has nothing to record with --replay");
    if (o->size % 512)
        return err_set(errp, EINVAL, "--size must be a multiple of 512");
    if (o->host && !o->disk)
        return err_set(errp, EINVAL, "--layer host needs an image: --disk IMAGE");
    if (o->check && strncmp(o->check, "builtin:", 8) == 0 && strcmp(o->check, "builtin:qcow2") != 0)
        return err_set(errp, EINVAL, "--check '%s': the only one of these is builtin:qcow2",
                       o->check);
    if (!o->disk) {
        o->format = FORMAT_RAW;
        return true;
    }
    return format_settle(o->disk, "--format", &o->format, errp);
}

int explore_parse(int argc, char **argv, struct explore_opts *o, struct err **errp)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int c;

    *o = (struct explore_opts){.limit = GiB,
                               .seed = 1,
                               .check_timeout_ms = 60 * 1000,
                               .state = UINT64_MAX,
                               .states = 1000,
                               .jobs = cpus < 1 ? 1 : (unsigned)min_u64((uint64_t)cpus, 16),
                               .atomic = 512};
    struct args a = args_begin(argc, argv, ":f:j:xqh", long_options);
    while ((c = args_next(&a, errp)) != ARGS_END) {
        if (c == 'h') {
            fputs(help_text, stdout);
            return 0;
        }
        if (c == ARGS_WRONG || !take(c, optarg, o, errp))
            return -1;
    }
    if (optind < argc) {
        err_set(errp, EINVAL, "'%s' is one too many; a command is one argument, in quotes",
                argv[optind]);
        return -1;
    }
    return fits_together(o, errp) ? 1 : -1;
}
