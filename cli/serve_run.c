/* SPDX-License-Identifier: BSD-3-Clause
 *
 * serve --run: see serve_run.h.
 */
#include "cli/serve_run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "io/co.h"

/* As a shell would say it. */
static int exit_code(const struct command *c)
{
    switch (c->end) {
    case COMMAND_EXITED:
        return c->code;
    case COMMAND_SIGNALLED:
        return 128 + c->code;
    default:
        return CLI_FAILED;
    }
}

static void run(void *arg)
{
    struct serve_run *r = arg;
    struct err *e = NULL;
    char text[80];

    if (commands_run(&r->commands, &r->command, &e)) {
        r->code = exit_code(&r->command);
        log_info("the command has ended: %s", command_text(&r->command, text, sizeof(text)));
    } else {
        r->code = CLI_FAILED;
        log_error("%s", err_msg(e));
        err_free(e);
    }
    for (size_t i = 0; i < ARRAY_LEN(r->environment); i++)
        mem_free(r->environment[i]);
    r->running = false;
    co_queue_wake_all(&r->ended);
    r->done(r->arg);
}

static bool set(struct serve_run *r, unsigned i, const char *name, const char *value)
{
    r->environment[i] = mem_printf("%s=%s", name, value ? value : "");
    return r->environment[i];
}

bool serve_run_start(struct serve_run *r, const char *text, const struct listening *l,
                     const char *export_name, void (*done)(void *), void *arg, struct err **errp)
{
    fflush(stdout);
    r->command = (struct command){
        .text = text, .extra = (const char *const *)r->environment, .out_fd = STDOUT_FILENO};
    r->done = done;
    r->arg = arg;
    if (!set(r, 0, "uri", l->uri) || !set(r, 1, "unixsocket", l->n_files > 0 ? l->path[0] : NULL) ||
        !set(r, 2, "exportname", export_name))
        return err_set(errp, ENOMEM, "--run: out of memory");
    r->running = true;
    if (co_start(run, r))
        return true;
    r->running = false;
    return err_set(errp, ENOMEM, "--run: out of memory");
}

void serve_run_stop(struct serve_run *r)
{
    commands_stop(&r->commands);
    while (r->running)
        co_queue_wait(&r->ended);
}

bool serve_run_end_with_parent(struct err **errp)
{
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        return err_set_errno(errp, errno, "--exit-with-parent");
    return getppid() != 1 ||
           err_set(errp, ESRCH, "--exit-with-parent: the parent has ended already");
}
