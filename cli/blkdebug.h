/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blkdebug's options as people and programs write them: KEY=VALUE,... or a JSON object.
 */
#ifndef CLI_BLKDEBUG_H
#define CLI_BLKDEBUG_H

#include "base/err.h"
#include "faults/options.h"

struct json_t;

struct blkdebug_args { /* zeroed: none */
    struct fault_option *v;
    size_t n;
};

/* blkdebug_parse: text begins with '{' if it is JSON. To be freed, also after a failure. what: the
 * name of the option, for messages. */
bool blkdebug_parse(const char *text, const char *what, struct blkdebug_args *out,
                    struct err **errp);
/* blkdebug_flatten: add what v, a JSON object, holds: lists get their numbers as keys. */
bool blkdebug_flatten(struct json_t *v, const char *what, struct blkdebug_args *out,
                      struct err **errp);
void blkdebug_args_free(struct blkdebug_args *a);

#endif
