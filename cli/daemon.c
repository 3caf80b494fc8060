/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Going into the background, and the file with the process id.
 */
#include "cli/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

static int ready_fd = -1; /* the child's end of the pipe to its parent */

static void parent_wait(int fd, pid_t child) __attribute__((noreturn));

static void parent_wait(int fd, pid_t child)
{
    char byte;
    ssize_t n;
    int status;

    do {
        n = read(fd, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(CLI_OK);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : CLI_FAILED);
}

bool daemon_fork(struct err **errp)
{
    int fds[2];

    fflush(stdout);
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_set_errno(errp, errno, "--fork: pipe");
    pid_t pid = fork();
    if (pid < 0) {
        int code = errno;
        close(fds[0]);
        close(fds[1]);
        return err_set_errno(errp, code, "--fork");
    }
    if (pid > 0) {
        close(fds[1]);
        parent_wait(fds[0], pid);
    }
    close(fds[0]);
    ready_fd = fds[1];
    setsid();
    return true;
}

void daemon_ready(void)
{
    ssize_t n;

    if (ready_fd < 0)
        return;
    fflush(stdout);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null_fd >= 0 && fd <= 2; fd++)
        dup2(null_fd, fd);
    if (null_fd > 2)
        close(null_fd);
    do {
        n = write(ready_fd, "1", 1);
    } while (n < 0 && errno == EINTR);
    close(ready_fd);
    ready_fd = -1;
}

bool pid_file_write(const char *path, struct err **errp)
{
    FILE *f = fopen(path, "we");

    if (!f)
        return err_set_errno(errp, errno, "--pid-file '%s'", path);
    int n = fprintf(f, "%ld\n", (long)getpid());
    if (fclose(f) != 0 || n < 0)
        return err_set_errno(errp, EIO, "--pid-file '%s'", path);
    return true;
}

void pid_file_remove(const char *path)
{
    if (path)
        unlink(path);
}
