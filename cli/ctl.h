/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The pieces of `breakwater ctl`.
 */
#ifndef CLI_CTL_H
#define CLI_CTL_H

#include "cli/qmp_client.h"

struct ctl {
    struct qmp_client *client;
    bool json; /* print results as one line of JSON */
};

/* ctl_arguments: key=value words as the arguments of a command: typed by its declaration where it
 * is known, else by what the values look like. NULL and *errp on failure. */
json_t *ctl_arguments(const char *command, char *const *words, int n, struct err **errp);

/* ctl_do: one command with its words, or a verb that prints a table. */
bool ctl_do(struct ctl *c, char *const *words, int n, struct err **errp);

/* ctl_table: do the words begin with a verb (nodes, exports, crash list, ...)? Then *ok says how it
 * went; the others are its command's arguments. */
bool ctl_table(struct ctl *c, char *const *words, int n, bool *ok, struct err **errp);
const char *ctl_verb(unsigned i); /* NULL past the end */

/* ctl_shell: commands from standard input, until it ends. */
bool ctl_shell(struct ctl *c, struct err **errp);

/* ctl_completion: print a bash script that completes commands and arguments. */
void ctl_completion(void);

#endif
