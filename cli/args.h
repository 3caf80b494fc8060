/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One pass over a command line: getopt_long, with messages of ours that name the word.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <getopt.h>

#include "base/err.h"

#define ARGS_END (-1)
#define ARGS_WRONG (-2)

struct args {
    int argc;
    char **argv;
    const char *letters; /* as getopt has it, with ':' among its first */
    const struct option *names;
    int at; /* the word that is read next */
};

/* args_begin: for argv[1] and what follows. One pass at a time: the rest is getopt's. */
struct args args_begin(int argc, char **argv, const char *letters, const struct option *names);
/* args_next: the code of the next option, with its value in optarg; ARGS_END, with optind at what
 * is left; or ARGS_WRONG and *errp. */
int args_next(struct args *a, struct err **errp);

#endif
