/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater faults check|explain FILE, events, actions: what rule files say, before they are used.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "block/node.h"
#include "base/cleanup.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "cli/faults_events.h"
#include "cli/faults_trace.h"
#include "faults/fault.h"
#include "filters/filters.h"

static const char help_text[] =
    "Usage: breakwater faults check FILE      read a rule file; say what is wrong or odd\n"
    "       breakwater faults explain FILE    say in words what its rules do\n"
    "       breakwater faults events          list the events of [inject-error] and [set-state]\n"
    "       breakwater faults actions         list the actions and keys of [fault]\n"
    "       breakwater faults trace FILE      print what serve --fault-trace recorded\n"
    "\n"
    "  -j, --json      trace: one line of JSON a record\n"
    "  -h, --help\n"
    "\n"
    "Exit code: 0 the file can be used; 1 usage; 2 it cannot.\n";

static int finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_OK;
    fprintf(stderr, "breakwater: standard output: %s\n", strerror(errno));
    return CLI_FAILED;
}

static void show_warning(void *arg, const char *text)
{
    fprintf(stderr, "%s\n", text);
}

static void explain(const struct rules *r)
{
    char line[512];

    for (unsigned i = 0; rules_explain(r, i, line, sizeof(line)); i++)
        printf("%s\n", line);
}

static int read_file(const char *path, bool in_words)
{
    struct rules *r = rules_new(fault_names());
    struct err *e = NULL;
    unsigned warnings;

    if (!r)
        err_set(&e, ENOMEM, "out of memory for fault rules");
    if (!r || !rules_load_file(r, path, &e)) {
        rules_free(r);
        return cli_fail(CLI_FAILED, e);
    }
    warnings = rules_warn(r, show_warning, NULL);
    if (in_words)
        explain(r);
    else
        printf("%s: %u rule%s, %u warning%s\n", path, rules_count(r),
               rules_count(r) == 1 ? "" : "s", warnings, warnings == 1 ? "" : "s");
    rules_free(r);
    return finish_output();
}

static int list_events(void)
{
    for (unsigned ev = 0; ev < EV_COUNT; ev++)
        printf("%-28s %s\n", blk_event_name((enum blk_event)ev), event_text((enum blk_event)ev));
    return finish_output();
}

static int list_actions(void)
{
    struct fault_help h;

    printf("Actions, what they can be done to, and what becomes of the request:\n");
    for (unsigned i = 0; fault_action_help(i, &h); i++)
        printf("  %-10s %-34s %s\n", h.name, h.goes_with, h.text);
    printf("\nKeys of every [fault]; all selectors must match, those that count are asked last:\n");
    for (unsigned i = 0; fault_key_help(i, &h); i++)
        if (!h.goes_with[0])
            printf("  %-10s %-12s %s\n", h.name, h.value, h.text);
    printf("\nKeys of one action:\n");
    for (unsigned i = 0; fault_key_help(i, &h); i++)
        if (h.goes_with[0])
            printf("  %-10s %-12s %s: %s\n", h.name, h.value, h.goes_with, h.text);
    return finish_output();
}

static int faults_main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"help", no_argument, NULL, 'h'}, {"json", no_argument, NULL, 'j'}, {0}};
    const char *what, *file;
    bool json = false;
    int c;

    AUTO_ERR struct err *wrong = NULL;
    struct args a = args_begin(argc, argv, ":hj", long_options);
    while ((c = args_next(&a, &wrong)) != ARGS_END) {
        if (c == 'j') {
            json = true;
            continue;
        }
        if (c != 'h')
            return cli_usage("faults", "%s", err_msg(wrong));
        fputs(help_text, stdout);
        return finish_output();
    }
    what = optind < argc ? argv[optind] : "";
    file = optind + 1 < argc ? argv[optind + 1] : NULL;
    if (strcmp(what, "check") == 0 || strcmp(what, "explain") == 0) {
        if (argc - optind != 2)
            return cli_usage("faults", "%s needs one rule file", what);
        return read_file(file, what[0] == 'e');
    }
    if (strcmp(what, "trace") == 0)
        return argc - optind == 2 ? faults_trace(file, json)
                                  : cli_usage("faults", "trace needs one file%s", "");
    if (file)
        return cli_usage("faults", "'%s' is one too many", file);
    if (strcmp(what, "events") == 0)
        return list_events();
    if (strcmp(what, "actions") == 0)
        return list_actions();
    return cli_usage("faults",
                     *what ? "there is no '%s'; there are check, explain, events, actions, trace"
                           : "what? check, explain, events, actions or trace%s",
                     what);
}

const struct subcommand faults_command = {
    .name = "faults",
    .summary = "check and explain rule files for faults",
    .run = faults_main,
};
