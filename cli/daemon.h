/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Going into the background: the parent stays until the child is ready and passes on its exit code.
 */
#ifndef CLI_DAEMON_H
#define CLI_DAEMON_H

#include <stdbool.h>

#include "base/err.h"

/* daemon_fork: call before any thread is started. True in the child; the parent does not return
 * from here but exits with 0 once the child called daemon_ready, else with the child's exit code.
 */
bool daemon_fork(struct err **errp);
/* daemon_ready: in the child: let the parent go, and leave its terminal alone from now on. A no-op
 * if daemon_fork was not called. */
void daemon_ready(void);

/* pid_file_write: replaces what an earlier process left there. pid_file_remove: NULL is allowed. */
bool pid_file_write(const char *path, struct err **errp);
void pid_file_remove(const char *path);

#endif
