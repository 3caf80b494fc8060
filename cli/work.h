/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Running one piece of work of the backup client to its end, or to an interrupt.
 */
#ifndef CLI_WORK_H
#define CLI_WORK_H

#include <stdbool.h>

#include "backup-client/backup.h"
#include "base/err.h"
#include "cli/cli.h"
#include "io/co.h"

/* work_run: fn(arg) in a coroutine on a new reactor. The first SIGINT or SIGTERM interrupts ctl, so
 * that fn can clean up; a second one kills as usual. False: fn was not run. */
bool work_run(co_fn *fn, void *arg, struct backup_control *ctl, struct err **errp);

/* work_exit: the exit code for an outcome. */
enum cli_exit work_exit(enum backup_status status);

struct json_t;
/* work_string: text as JSON, also when it is not UTF-8 (a path may be anything): the foreign bytes
 * are shown as '?'. NULL without memory. */
struct json_t *work_string(const char *text);
/* work_json: print an object on standard output, in one line, and drop it. False: out of memory or
 * standard output failed. */
bool work_json(struct json_t *object);

#endif
