/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Verbs of `breakwater ctl`: what a query command returns, as a table.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "cli/ctl.h"
#include "control/schema.h"

static const char *text(const json_t *o, const char *key)
{
    const char *s = arg_str(o, key);

    return s ? s : "-";
}

static void print_nodes(const json_t *list)
{
    size_t i;
    json_t *n;

    printf("%-20s %-10s %12s %-3s %s\n", "NODE", "DRIVER", "SIZE", "RO", "FILE");
    json_array_foreach((json_t *)list, i, n)
    {
        char size[32];

        size_to_text((uint64_t)arg_int(arg_get(n, "image"), "virtual-size", 0), size, sizeof(size));
        printf("%-20s %-10s %12s %-3s %s\n", text(n, "node-name"), text(n, "drv"), size,
               arg_bool(n, "ro", false) ? "yes" : "no", text(n, "file"));
    }
}

static void print_exports(const json_t *list)
{
    size_t i;
    json_t *e;

    printf("%-20s %-6s %-20s %s\n", "EXPORT", "TYPE", "NODE", "STATE");
    json_array_foreach((json_t *)list, i, e)
        printf("%-20s %-6s %-20s %s\n", text(e, "id"), text(e, "type"), text(e, "node-name"),
               arg_bool(e, "shutting-down", false) ? "shutting down" : "running");
}

static void print_bitmap(const char *node, const json_t *b)
{
    char granularity[32], count[32];

    size_to_text((uint64_t)arg_int(b, "granularity", 0), granularity, sizeof(granularity));
    size_to_text((uint64_t)arg_int(b, "count", 0), count, sizeof(count));
    printf("%-20s %-24s %12s %12s %s%s%s%s\n", node, text(b, "name"), granularity, count,
           arg_bool(b, "recording", false) ? "recording" : "disabled",
           arg_bool(b, "busy", false) ? ", busy" : "",
           arg_bool(b, "persistent", false) ? ", persistent" : "",
           arg_bool(b, "inconsistent", false) ? ", inconsistent" : "");
}

static void print_bitmaps(const json_t *list)
{
    size_t i, k;
    json_t *n, *b;

    printf("%-20s %-24s %12s %12s %s\n", "NODE", "BITMAP", "GRANULARITY", "DIRTY", "STATE");
    json_array_foreach((json_t *)list, i, n) json_array_foreach(arg_get(n, "dirty-bitmaps"), k, b)
        print_bitmap(text(n, "node-name"), b);
}

static void print_jobs(const json_t *list)
{
    size_t i;
    json_t *j;

    printf("%-20s %-10s %-10s %-24s %s\n", "JOB", "TYPE", "STATUS", "PROGRESS", "ERROR");
    json_array_foreach((json_t *)list, i, j)
    {
        char progress[64];

        snprintf(progress, sizeof(progress), "%" PRId64 "/%" PRId64,
                 arg_int(j, "current-progress", 0), arg_int(j, "total-progress", 0));
        printf("%-20s %-10s %-10s %-24s %s\n", text(j, "id"), text(j, "type"), text(j, "status"),
               progress, text(j, "error"));
    }
}

static const struct {
    const char *name, *command;
    void (*print)(const json_t *list);
} verbs[] = {
    {"nodes", "query-named-block-nodes", print_nodes},
    {"exports", "query-block-exports", print_exports},
    {"bitmaps", "query-named-block-nodes", print_bitmaps},
    {"jobs", "query-jobs", print_jobs},
};

const char *ctl_verb(unsigned i)
{
    return i < ARRAY_LEN(verbs) ? verbs[i].name : NULL;
}

bool ctl_table(struct ctl *c, const char *verb, bool *ok, struct err **errp)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        json_t *result = NULL;

        if (strcmp(verbs[i].name, verb) != 0)
            continue;
        *ok = qmp_command(c->client, verbs[i].command, NULL, &result, errp);
        if (*ok && c->json) {
            json_dumpf(result, stdout, JSON_COMPACT);
            putchar('\n');
        } else if (*ok) {
            verbs[i].print(result);
        }
        json_decref(result);
        return true;
    }
    return false;
}
