/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Starting commands and waiting for them: a pidfd is readable when its process has ended, so the
 * reactor waits for it as for anything else.
 */
#include "cli/run_command.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/io.h"
#include "io/reactor.h"

struct running {
    struct running *next;
    int fd; /* pidfd */
};

static size_t count(const char *const *v)
{
    size_t n = 0;

    while (v && v[n])
        n++;
    return n;
}

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");

    return strncmp(a, b, n + 1) == 0;
}

/* Ours, but for what extra sets. */
static char **environment(const char *const *extra)
{
    size_t ours = count((const char *const *)environ), more = count(extra), n = 0;
    char **v = mem_array(ours + more + 1, sizeof(*v));

    for (size_t i = 0; v && i < ours; i++) {
        size_t k = 0;

        while (k < more && !same_name(extra[k], environ[i]))
            k++;
        if (k == more)
            v[n++] = environ[i];
    }
    for (size_t i = 0; v && i < more; i++)
        v[n++] = (char *)extra[i];
    return v;
}

static int spawn_with(const struct command *c, char **env, posix_spawn_file_actions_t *files,
                      posix_spawnattr_t *attr, pid_t *pid)
{
    char *argv[] = {"sh", "-c", (char *)c->text, NULL};
    sigset_t none, usual;
    int ret;

    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE); /* which we ignore */
    sigaddset(&usual, SIGXFSZ);
    if ((ret = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0)) ||
        (ret = posix_spawn_file_actions_adddup2(files, c->out_fd, 1)) ||
        (ret = posix_spawn_file_actions_adddup2(files, c->out_fd, 2)) ||
        (ret = posix_spawnattr_setpgroup(attr, 0)) ||
        (ret = posix_spawnattr_setsigmask(attr, &none)) ||
        (ret = posix_spawnattr_setsigdefault(attr, &usual)) ||
        (ret = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                  POSIX_SPAWN_SETSIGDEF)))
        return ret;
    return posix_spawn(pid, "/bin/sh", files, attr, argv, env);
}

static int spawn(const struct command *c, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    char **env = environment(c->extra);
    int ret = ENOMEM;

    if (!env)
        return ENOMEM;
    if (posix_spawn_file_actions_init(&files) == 0) {
        if (posix_spawnattr_init(&attr) == 0) {
            ret = spawn_with(c, env, &files, &attr, pid);
            posix_spawnattr_destroy(&attr);
        }
        posix_spawn_file_actions_destroy(&files);
    }
    mem_free(env);
    return ret;
}

static void note_end(struct command *c, int waited, const siginfo_t *info)
{
    if (waited == -ETIMEDOUT || waited < 0) {
        c->end = waited == -ETIMEDOUT ? COMMAND_TIMED_OUT : COMMAND_STOPPED;
        return;
    }
    c->end = info->si_code == CLD_EXITED ? COMMAND_EXITED : COMMAND_SIGNALLED;
    c->code = info->si_status;
}

bool commands_run(struct commands *all, struct command *c, struct err **errp)
{
    struct running me = {.next = all->list};
    struct running **at = &all->list;
    siginfo_t info = {0};
    pid_t pid;
    int ret;

    if (all->stopped) {
        c->end = COMMAND_STOPPED;
        return true;
    }
    ret = spawn(c, &pid);
    if (ret)
        return err_set_errno(errp, ret, "the command '%s' cannot be started", c->text);
    me.fd = pidfd_open(pid, 0);
    if (me.fd < 0) {
        ret = errno;
        kill(-pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return err_set_errno(errp, ret, "pidfd_open");
    }
    all->list = &me;
    ret = io_poll(me.fd, POLLIN,
                  c->timeout_ms ? clock_ns() + (int64_t)c->timeout_ms * NS_PER_MS : IO_NO_DEADLINE);
    /* Before it is waited for: until then nobody else can have its number. */
    kill(-pid, SIGKILL);
    if (ret < 0)
        io_poll(me.fd, POLLIN, IO_NO_DEADLINE);
    waitid(P_PID, (id_t)pid, &info, WEXITED);
    note_end(c, ret, &info);
    while (*at != &me)
        at = &(*at)->next;
    *at = me.next;
    close(me.fd);
    return true;
}

void commands_stop(struct commands *all)
{
    all->stopped = true;
    for (struct running *r = all->list; r; r = r->next)
        io_cancel_fd(r->fd);
}

const char *command_text(const struct command *c, char *buf, size_t len)
{
    switch (c->end) {
    case COMMAND_EXITED:
        snprintf(buf, len, "exit code %d", c->code);
        break;
    case COMMAND_SIGNALLED:
        snprintf(buf, len, "signal %d (%s)", c->code, strsignal(c->code));
        break;
    case COMMAND_TIMED_OUT:
        snprintf(buf, len, "not done after %llu ms", (unsigned long long)c->timeout_ms);
        break;
    case COMMAND_STOPPED:
        snprintf(buf, len, "stopped");
        break;
    }
    return buf;
}
