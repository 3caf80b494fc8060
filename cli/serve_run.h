/* SPDX-License-Identifier: BSD-3-Clause
 *
 * serve --run: a command that uses the server, which lives as long as the command does.
 */
#ifndef CLI_SERVE_RUN_H
#define CLI_SERVE_RUN_H

#include "cli/run_command.h"
#include "cli/serve_listen.h"
#include "io/lock.h"

struct serve_run { /* zeroed: nothing is run */
    struct commands commands;
    struct command command;
    char *environment[4]; /* uri, unixsocket, exportname */
    struct co_queue ended;
    bool running;
    int code; /* the exit code that the command's end stands for */
    void (*done)(void *arg);
    void *arg;
};

/* serve_run_start: in a coroutine of its own; calls done(arg) when it has ended. text belongs to
 * the caller. */
bool serve_run_start(struct serve_run *r, const char *text, const struct listening *l,
                     const char *export_name, void (*done)(void *), void *arg, struct err **errp);
/* serve_run_stop: end it if it still runs. Yields until it has ended. */
void serve_run_stop(struct serve_run *r);
/* serve_run_end_with_parent: get SIGTERM when the process that started this one ends. False: it has
 * ended already. */
bool serve_run_end_with_parent(struct err **errp);

#endif
