/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Parsing the command lines of `breakwater image`.
 */
#ifndef CLI_IMAGE_GETOPT_H
#define CLI_IMAGE_GETOPT_H

#include <getopt.h>

#include "cli/image.h"

struct image_options {
    const char *letters; /* of getopt_long; begins with ':', and 'h' is help */
    const struct option *long_options;
    const char *taken; /* the letters that this command takes; NULL: all */
    bool (*take)(int c, const char *arg, struct image_job *job, struct err **errp);
};

/* image_getopt: give each option to t->take; optind is then at the first argument. 1: done; 0:
 * --help was answered; -1: *errp. */
int image_getopt(int argc, char **argv, const struct image_options *t, struct image_job *job,
                 struct err **errp);

/* image_take_output: of --output: is it JSON? */
bool image_take_output(bool *json, const char *text, struct err **errp);
/* image_take_cache: of -t and -T: none, writeback, writethrough, directsync, unsafe. */
bool image_take_cache(struct image_cache *c, const char *text, const char *option,
                      struct err **errp);
/* image_take_preallocation: off, metadata, falloc, full. option: for the message. */
bool image_take_preallocation(enum qc_preallocation *mode, const char *text, const char *option,
                              struct err **errp);
const char *image_preallocation_name(enum qc_preallocation mode);

#endif
