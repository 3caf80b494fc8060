/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What was said of one thing, a server or an export: its options in the order in which they were
 * given, on the command line or in a file. The list owns the texts, so that what was parsed from
 * them may keep pointers; and two lists that are equal mean the same.
 */
#ifndef CLI_SERVE_SAID_H
#define CLI_SERVE_SAID_H

#include <stdbool.h>

#include "base/err.h"

struct said_option {
    int code;  /* of serve_opts_table.c */
    char *arg; /* NULL: none; owned */
};

struct said {
    struct said_option *v;
    unsigned n;
};

/* said_add: *copy (may be NULL): the list's copy of arg. */
bool said_add(struct said *s, int code, const char *arg, const char **copy, struct err **errp);
bool said_has(const struct said *s, int code);
bool said_equal(const struct said *a, const struct said *b);
/* said_equal_but: apart from options of these codes, a list that ends with 0. */
bool said_equal_but(const struct said *a, const struct said *b, const int *codes);
void said_free(struct said *s);

#endif
