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

static void print_backup(const json_t *session)
{
    size_t i;
    json_t *d;
    const char *id = text(session, "id"), *status = text(session, "status");

    if (json_array_size(arg_get(session, "disks")) == 0)
        printf("%-16s %-8s %s\n", id, status, text(session, "reason"));
    json_array_foreach(arg_get(session, "disks"), i, d)
        printf("%-16s %-8s %-24s %-12s %12" PRId64 " %12" PRId64 " %s\n", id,
               arg_bool(d, "lost", false) ? "lost" : status, text(d, "export"), text(d, "level"),
               arg_int(d, "dirty", 0), arg_int(d, "scratch", 0), text(d, "uuid"));
}

static void print_backups(const json_t *list)
{
    size_t i;
    json_t *session;

    printf("%-16s %-8s %-24s %-12s %12s %12s %s\n", "BACKUP", "STATUS", "EXPORT", "LEVEL", "DIRTY",
           "SCRATCH", "UUID");
    json_array_foreach((json_t *)list, i, session) print_backup(session);
}

static void print_fault(const char *node, const json_t *r)
{
    const json_t *last = arg_get(r, "last");
    char name[32], struck[64] = "-";

    snprintf(name, sizeof(name), "#%" PRId64, arg_int(r, "number", 0));
    if (last)
        snprintf(struck, sizeof(struck), "%s %" PRId64 "+%" PRId64, text(last, "op"),
                 arg_int(last, "offset", 0), arg_int(last, "length", 0));
    printf("%-12s %-16s %8" PRId64 " %8" PRId64 " %8" PRId64 " %-24s %s %s%s\n", node,
           arg_has(r, "id") ? text(r, "id") : name, arg_int(r, "seen", 0), arg_int(r, "matched", 0),
           arg_int(r, "fired", 0), struck, text(r, "section"), text(r, "text"),
           arg_bool(r, "holds", false)   ? " (holds a request)"
           : arg_bool(r, "spent", false) ? " (spent)"
                                         : "");
}

static void print_faults(const json_t *list)
{
    size_t i, k;
    json_t *engine, *r;

    printf("%-12s %-16s %8s %8s %8s %-24s %s\n", "NODE", "RULE", "SEEN", "MATCHED", "FIRED", "LAST",
           "TEXT");
    json_array_foreach((json_t *)list, i, engine) json_array_foreach(arg_get(engine, "rules"), k, r)
        print_fault(text(engine, "node"), r);
}

static void print_crashes(const json_t *result)
{
    size_t i;
    json_t *s;

    printf("%8s %s\n", "STATE", "WHAT SURVIVED");
    json_array_foreach(arg_get(result, "states"), i, s)
        printf("%8" PRId64 " %s\n", arg_int(s, "number", 0), text(s, "description"));
}

static const struct {
    const char *name, *command;
    void (*print)(const json_t *result);
} verbs[] = {
    {"nodes", "query-named-block-nodes", print_nodes},
    {"exports", "query-block-exports", print_exports},
    {"bitmaps", "query-named-block-nodes", print_bitmaps},
    {"jobs", "query-jobs", print_jobs},
    {"backups", "query-backups", print_backups},
    {"faults", "faults-list", print_faults},
    {"crash list", "faults-crash-list", print_crashes},
};

const char *ctl_verb(unsigned i)
{
    return i < ARRAY_LEN(verbs) ? verbs[i].name : NULL;
}

/* How many of the words are this verb; 0: they are not. */
static int verb_words(const char *verb, char *const *words, int n)
{
    const char *space = strchr(verb, ' ');
    size_t len = space ? (size_t)(space - verb) : strlen(verb);

    if (n < 1 || strlen(words[0]) != len || memcmp(words[0], verb, len) != 0)
        return 0;
    if (!space)
        return 1;
    return n >= 2 && strcmp(words[1], space + 1) == 0 ? 2 : 0;
}

bool ctl_table(struct ctl *c, char *const *words, int n, bool *ok, struct err **errp)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        int used = verb_words(verbs[i].name, words, n);
        json_t *args, *result = NULL;

        if (used == 0)
            continue;
        args = ctl_arguments(verbs[i].command, words + used, n - used, errp);
        *ok = args && qmp_command(c->client, verbs[i].command, args, &result, errp);
        json_decref(args);
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
