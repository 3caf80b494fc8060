/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands of the user, run by the shell, several at a time.
 *
 * Each has a process group of its own, so that all of it can be ended: when it takes too long, when
 * the user has had enough, and what it left behind when it is done.
 */
#ifndef CLI_RUN_COMMAND_H
#define CLI_RUN_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct running;
struct commands { /* those that run now; zeroed: none */
    struct running *list;
    bool stopped;
};

enum command_end { COMMAND_EXITED, COMMAND_SIGNALLED, COMMAND_TIMED_OUT, COMMAND_STOPPED };

struct command {
    const char *text;         /* for /bin/sh -c */
    const char *const *extra; /* NULL-terminated "NAME=value" on top of our environment */
    int out_fd;               /* its standard output and standard error */
    uint64_t timeout_ms;      /* 0: none */
    enum command_end end;     /* set by commands_run: how it ended, */
    int code;                 /* and its exit code, or the number of the signal */
};

/* commands_run: standard input is /dev/null. False: it could not be started. Yields until it has
 * ended. */
bool commands_run(struct commands *all, struct command *c, struct err **errp);
/* commands_stop: end all, and let no other one start: they are COMMAND_STOPPED. Does not yield. */
void commands_stop(struct commands *all);
/* command_text: "exit code 3", "signal 9 (Killed)"... in buf. */
const char *command_text(const struct command *c, char *buf, size_t len);

#endif
