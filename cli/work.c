/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A reactor for one job, and the signals that end it early.
 */
#include "cli/work.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "io/io.h"
#include "io/lock.h"
#include "io/reactor.h"

struct work {
    co_fn *fn;
    void *arg;
    struct backup_control *ctl;
    int signal_fd;
    sigset_t old_mask;
    struct co_group watcher;
    bool done;
};

static void watch_signals(void *arg)
{
    struct work *w = arg;
    int r = io_poll(w->signal_fd, POLLIN, IO_NO_DEADLINE);
    if (r >= 0 && !w->done) {
        struct signalfd_siginfo taken;
        /* Taken before the mask falls, so that it is the next one that kills. */
        ssize_t n = read(w->signal_fd, &taken, sizeof(taken));
        sigprocmask(SIG_SETMASK, &w->old_mask, NULL);
        if (n > 0)
            backup_interrupt(w->ctl);
    }
    co_group_done(&w->watcher);
}

static void work_main(void *arg)
{
    struct work *w = arg;
    co_group_add(&w->watcher);
    if (!co_start(watch_signals, w))
        co_group_done(&w->watcher);
    w->fn(w->arg);
    w->done = true;
    io_cancel_fd(w->signal_fd);
    co_group_wait(&w->watcher);
}

bool work_run(co_fn *fn, void *arg, struct backup_control *ctl, struct err **errp)
{
    struct work w = {.fn = fn, .arg = arg, .ctl = ctl};
    struct reactor *r;
    sigset_t set;

    /* Before any thread starts, for threads inherit the mask. */
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &w.old_mask);
    AUTO_CLOSE int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return err_set_errno(errp, errno, "signalfd");
    w.signal_fd = fd;
    if (!reactor_new(REACTOR_AUTO, &r, errp))
        return false;
    bool ok = reactor_run_co(r, work_main, &w) || err_set(errp, ENOMEM, "out of memory");
    reactor_free(r);
    return ok;
}

enum cli_exit work_exit(enum backup_status status)
{
    switch (status) {
    case BACKUP_OK:
        return CLI_OK;
    case BACKUP_DEGRADED:
        return CLI_DEGRADED;
    case BACKUP_MISMATCH:
        return CLI_MISMATCH;
    case BACKUP_BROKEN:
        return CLI_BROKEN_CHAIN;
    case BACKUP_RETRY:
        return CLI_RETRY;
    default:
        return CLI_FAILED;
    }
}

struct json_t *work_string(const char *text)
{
    json_t *j = json_string(text);
    AUTO_FREE char *plain = j ? NULL : mem_strdup(text);
    if (j || !plain)
        return j;
    for (char *p = plain; *p; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    return json_string(plain);
}

bool work_json(struct json_t *object)
{
    bool ok = object && json_dumpf(object, stdout, JSON_COMPACT) == 0;
    json_decref(object);
    return ok && putchar('\n') != EOF && fflush(stdout) == 0;
}
