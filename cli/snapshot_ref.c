/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Naming an internal snapshot. A text that begins with "snapshot." is a list of pairs; in a value,
 * ",," stands for a comma, as in all lists of QEMU.
 */
#include "cli/snapshot_ref.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

static const char prefix[] = "snapshot.";

/* Ends the value at its comma. Returns what follows it, or NULL. */
static char *end_value(char *at)
{
    char *to = at;
    for (; *at; at++) {
        if (at[0] == ',' && at[1] != ',') {
            *to = '\0';
            return at + 1;
        }
        if (*at == ',')
            at++;
        *to++ = *at;
    }
    *to = '\0';
    return NULL;
}

bool snapshot_ref_parse(const char *text, const char *option, struct qc_snapshot_ref *ref,
                        char **owned, struct err **errp)
{
    *ref = (struct qc_snapshot_ref){0};
    *owned = NULL;
    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0) {
        ref->any = text;
        return true;
    }
    *owned = mem_strdup(text);
    if (!*owned)
        return err_set(errp, ENOMEM, "out of memory");
    for (char *at = *owned; at;) {
        char *pair = at, *eq = strchr(at, '=');
        at = end_value(at);
        const char **value = strncmp(pair, "snapshot.id=", 12) == 0     ? &ref->id
                             : strncmp(pair, "snapshot.name=", 14) == 0 ? &ref->name
                                                                        : NULL;
        if (!value || !eq || *value)
            return err_set(errp, EINVAL,
                           "%s: '%s': it is snapshot.id=ID, snapshot.name=NAME, or both with a "
                           "comma between them, or just an id or name",
                           option, text);
        *value = eq + 1;
    }
    return true;
}
