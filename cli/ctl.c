/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater ctl`: a client of a control socket for people and scripts.
 */
#include "cli/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cli/cli.h"
#include "control/schema.h"

static const struct option long_options[] = {
    {"completion", no_argument, NULL, 'c'},
    {"follow", no_argument, NULL, 'f'},
    {"help", no_argument, NULL, 'h'},
    {"json", no_argument, NULL, 'j'},
    {NULL, 0, NULL, 0},
};

static void help(void)
{
    printf(
        "Usage: breakwater ctl [OPTION]... SOCKET [COMMAND [KEY=VALUE]...]\n"
        "Send a command to a control socket and print what it returns.\n"
        "\n"
        "  -f, --follow      print events as they come, until the server ends\n"
        "  -j, --json        print results and events as one line of JSON each\n"
        "      --completion  print a bash script that completes commands and arguments\n"
        "  -h, --help        this\n"
        "\n"
        "Dots in keys nest (file.driver=file); a value may be JSON. Without COMMAND, commands are\n"
        "read from standard input, one a line. These print tables: nodes, exports, bitmaps, jobs,\n"
        "faults, crash list.\n");
}

static void print_result(const struct ctl *c, const json_t *result)
{
    if (c->json)
        json_dumpf(result, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
    else if (json_is_object(result) && json_object_size(result) == 0)
        return;
    else
        json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
}

bool ctl_do(struct ctl *c, char *const *words, int n, struct err **errp)
{
    json_t *args, *result = NULL;
    bool ok;

    if (ctl_table(c, words, n, &ok, errp))
        return ok;
    args = ctl_arguments(words[0], words + 1, n - 1, errp);
    if (!args)
        return false;
    ok = qmp_command(c->client, words[0], args, &result, errp);
    if (ok)
        print_result(c, result);
    json_decref(args);
    json_decref(result);
    return ok;
}

static void print_event(void *arg, const json_t *event)
{
    const struct ctl *c = arg;
    const json_t *when = arg_get(event, "timestamp");
    time_t seconds = (time_t)arg_int(when, "seconds", 0);
    char clock[32] = "", *data;
    struct tm tm;

    if (c->json) {
        json_dumpf(event, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        if (localtime_r(&seconds, &tm))
            strftime(clock, sizeof(clock), "%F %T", &tm);
        data = json_dumps(arg_get(event, "data"), JSON_COMPACT);
        printf("%s.%03d %s %s\n", clock, (int)arg_int(when, "microseconds", 0) / 1000,
               arg_str(event, "event"), data ? data : "");
        free(data);
    }
    fflush(stdout);
}

static bool follow(struct ctl *c, struct err **errp)
{
    struct err *e = NULL;
    json_t *v;

    while ((v = qmp_next(c->client, &e))) {
        if (arg_has(v, "event"))
            print_event(c, v);
        json_decref(v);
    }
    return !e || err_move(errp, e);
}

static int finish(bool ok, struct err *e)
{
    if (ok && fflush(stdout) == 0)
        return CLI_OK;
    if (ok)
        err_set_errno(&e, errno, "standard output");
    switch (err_code(e)) {
    case ECONNREFUSED:
    case ENOENT:
    case ECONNRESET:
    case EPIPE:
        return cli_fail(CLI_RETRY, e);
    case EINVAL:
        return cli_fail(CLI_USAGE, e);
    default:
        return cli_fail(CLI_FAILED, e);
    }
}

static int run(struct ctl *c, bool follows, int argc, char **argv)
{
    struct err *e = NULL;
    bool ok = true;

    c->client = qmp_connect(argv[0], &e);
    if (!c->client)
        return finish(false, e);
    if (follows)
        qmp_on_event(c->client, print_event, c);
    if (argc > 1)
        ok = ctl_do(c, argv + 1, argc - 1, &e);
    else if (!follows)
        ok = ctl_shell(c, &e);
    if (ok && follows)
        ok = follow(c, &e);
    qmp_disconnect(c->client);
    return finish(ok, e);
}

static int ctl_run(int argc, char **argv)
{
    struct ctl c = {0};
    bool follows = false;
    int opt;

    optind = 0;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, "+fhj", long_options, NULL)) != -1) {
        switch (opt) {
        case 'c':
            ctl_completion();
            return CLI_OK;
        case 'f':
            follows = true;
            break;
        case 'h':
            help();
            return CLI_OK;
        case 'j':
            c.json = true;
            break;
        default:
            return cli_usage("ctl", "there is no option '%s'", argv[optind - 1]);
        }
    }
    /* The options may stand behind the socket, too. */
    int n = argc - optind;
    while (n > 1 &&
           (strcmp(argv[argc - 1], "--follow") == 0 || strcmp(argv[argc - 1], "--json") == 0)) {
        follows |= strcmp(argv[--argc], "--follow") == 0;
        c.json |= strcmp(argv[argc], "--json") == 0;
        n--;
    }
    if (n < 1)
        return cli_usage("ctl", "the path of a control socket is missing");
    return run(&c, follows, n, argv + optind);
}

const struct subcommand ctl_command = {
    .name = "ctl",
    .summary = "talk to a control socket",
    .run = ctl_run,
};
