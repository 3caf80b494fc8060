/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sandbox holds: each attempt is made by a process of its own, first without it, when it must
 * succeed, and then within.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/sandbox.h"

enum { KILLED = 1000, NOT_ENTERED = 255 };

static char dir[] = "/tmp/breakwater-test-XXXXXX";

/* in: a path below the test's folder; one of four buffers. */
static const char *in(const char *name)
{
    static char text[4][PATH_MAX];
    static unsigned next;
    char *p = text[next++ % 4];

    snprintf(p, PATH_MAX, "%s/%s", dir, name);
    return p;
}

static int opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static void make_file(const char *name)
{
    assert_int_equal(opens(in(name), O_CREAT | O_RDWR), 0);
}

/* The errno (0: done) of an attempt, or KILLED + the signal. s NULL: outside the sandbox. */
static int try(const struct sandbox *s, int (*attempt)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(s && !sandbox_enter(s, NULL) ? NOT_ENTERED : attempt());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? KILLED + WTERMSIG(status) : WEXITSTATUS(status);
}

/* --- Files. --- */

static int read_key(void)
{
    return opens(in("keys/key"), O_RDONLY);
}

static int write_key(void)
{
    return opens(in("keys/key"), O_WRONLY);
}

static int truncate_key(void)
{
    return opens(in("keys/key"), O_WRONLY | O_TRUNC);
}

static int make_key(void)
{
    return opens(in("keys/new"), O_CREAT | O_WRONLY);
}

static int remove_key(void)
{
    return unlink(in("keys/spare")) < 0 ? errno : 0;
}

static int make_scratch(void)
{
    return opens(in("scratch"), O_TMPFILE | O_RDWR);
}

static int make_and_write_in_scratch(void)
{
    return opens(in("scratch/new"), O_CREAT | O_RDWR | O_TRUNC);
}

static int remove_socket(void)
{
    return unlink(in("run/socket")) < 0 ? errno : 0;
}

static int read_run(void)
{
    return opens(in("run/socket"), O_RDONLY);
}

static int read_outside(void)
{
    return opens("/etc/passwd", O_RDONLY);
}

static int read_through_link(void)
{
    return opens(in("keys/link"), O_RDONLY);
}

static int read_proc(void)
{
    return opens("/proc/self/mem", O_RDWR);
}

static int list_root(void)
{
    return opens("/", O_RDONLY | O_DIRECTORY);
}

static int open_fd = -1;

static int use_what_is_open(void)
{
    char byte = 'x';
    return pwrite(open_fd, &byte, 1, 4096) == 1 && ftruncate(open_fd, 10) == 0 &&
                   pread(open_fd, &byte, 1, 0) >= 0 && fdatasync(open_fd) == 0
               ? 0
               : errno;
}

static void plan(struct sandbox *s)
{
    assert_true(sandbox_allow(s, in("keys"), SANDBOX_READ, NULL));
    assert_true(sandbox_allow(s, in("scratch"), SANDBOX_READ | SANDBOX_WRITE, NULL));
    assert_true(sandbox_allow_folder_of(s, in("run/socket"), SANDBOX_REMOVE, NULL));
    assert_true(sandbox_allow(s, in("nowhere"), SANDBOX_READ, NULL));
}

static void files_open_only_below_the_named_paths(void **state)
{
    static const struct {
        int (*attempt)(void);
        int inside;
    } rows[] = {
        {read_key, 0},
        {write_key, EACCES},
        {truncate_key, EACCES},
        {make_key, EACCES},
        {remove_key, EACCES},
        {make_scratch, 0},
        {make_and_write_in_scratch, 0},
        {remove_socket, 0},
        {read_run, EACCES},
        {read_outside, EACCES},
        {read_through_link, EACCES},
        {read_proc, EACCES},
        {list_root, EACCES},
        {use_what_is_open, 0},
    };
    struct sandbox s = {0};

    plan(&s);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        print_message("row %zu\n", i);
        for (int within = 0; within < 2; within++) {
            make_file("keys/spare");
            make_file("run/socket");
            assert_int_equal(try(within ? &s : NULL, rows[i].attempt), within * rows[i].inside);
        }
    }
    sandbox_free(&s);
}

static void any_file_may_be_opened_where_nobody_knows_which(void **state)
{
    struct sandbox s = {.any_file = true};

    assert_int_equal(try(&s, read_outside), 0);
    assert_int_equal(try(&s, make_key), 0);
    assert_int_equal(try(&s, read_key), 0);
}

/* --- Calls. --- */

static int do_execve(void)
{
    char *argv[] = {"/bin/true", NULL};
    execv(argv[0], argv);
    return errno;
}

static int do_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid < 0 ? errno : waitpid(pid, NULL, 0) < 0 ? errno : 0;
}

static int do_ptrace(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? errno : 0;
}

static int do_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0;
}

static int do_executable_memory(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? errno : 0;
}

static int do_make_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0 ? errno : 0;
}

static int do_kill_parent(void)
{
    return kill(getppid(), 0) < 0 ? errno : 0;
}

static int do_setuid(void)
{
    return setuid(getuid()) < 0 ? errno : 0;
}

static int do_new_ring(void)
{
    struct io_uring ring;
    int r = io_uring_queue_init(4, &ring, 0);
    return -r;
}

static int do_memfd(void)
{
    return memfd_create("x", 0) < 0 ? errno : 0;
}

static int do_sysv(void)
{
    return syscall(SYS_shmget, 0, 4096, 0600) < 0 ? errno : 0; /* in no list of ours */
}

static void *nothing(void *arg)
{
    return arg;
}

static int do_thread(void)
{
    pthread_t t;
    return pthread_create(&t, NULL, nothing, NULL) || pthread_join(t, NULL);
}

static int do_abort(void)
{
    signal(SIGABRT, SIG_DFL);
    abort();
}

static int inherited[2];

static int do_messages(void)
{
    char c = 'x';
    return send(inherited[0], &c, 1, 0) == 1 && recv(inherited[1], &c, 1, 0) == 1 ? 0 : errno;
}

static bool uring_is_granted(void)
{
    struct io_uring ring;
    bool granted = io_uring_queue_init(4, &ring, 0) == 0;
    if (granted)
        io_uring_queue_exit(&ring);
    return granted;
}

static void calls_that_serving_does_not_need_are_refused(void **state)
{
    static const struct {
        int (*attempt)(void);
        int outside, inside;
    } rows[] = {
        {do_execve, 0, KILLED + SIGSYS},
        {do_ptrace, 0, KILLED + SIGSYS},
        {do_memfd, 0, KILLED + SIGSYS},
        {do_fork, 0, EPERM},
        {do_socket, 0, EPERM},
        {do_executable_memory, 0, EPERM},
        {do_make_executable, 0, EPERM},
        {do_kill_parent, 0, EPERM},
        {do_setuid, 0, EPERM},
        {do_sysv, 0, EPERM},
        {do_thread, 0, 0},
        {do_messages, 0, 0},
        {use_what_is_open, 0, 0},
        {do_abort, KILLED + SIGABRT, KILLED + SIGABRT},
    };
    struct sandbox s = {0};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        print_message("row %zu\n", i);
        assert_int_equal(try(NULL, rows[i].attempt), rows[i].outside);
        assert_int_equal(try(&s, rows[i].attempt), rows[i].inside);
    }
    if (uring_is_granted())
        assert_int_equal(try(&s, do_new_ring), KILLED + SIGSYS);
    s.any_socket = true;
    assert_int_equal(try(&s, do_socket), 0);
}

/* --- Threads that are there already. --- */

static int from_a_thread; /* the errno */
static pthread_barrier_t entered;

static void *wait_then_make_socket(void *arg)
{
    pthread_barrier_wait(&entered);
    from_a_thread = do_socket();
    return NULL;
}

static int socket_in_an_older_thread(void)
{
    struct sandbox s = {0};
    pthread_t t;

    pthread_barrier_init(&entered, NULL, 2);
    if (pthread_create(&t, NULL, wait_then_make_socket, NULL) != 0 || !sandbox_enter(&s, NULL))
        return NOT_ENTERED;
    pthread_barrier_wait(&entered);
    pthread_join(t, NULL);
    return from_a_thread;
}

static void calls_are_refused_to_threads_that_were_there(void **state)
{
    assert_int_equal(try(NULL, socket_in_an_older_thread), EPERM);
}

static int make_group(void **state)
{
    if (!mkdtemp(dir) || mkdir(in("keys"), 0700) || mkdir(in("scratch"), 0700) ||
        mkdir(in("run"), 0700) || symlink("/etc/passwd", in("keys/link")) ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, inherited))
        return -1;
    make_file("keys/key");
    make_file("keys/spare");
    make_file("run/socket");
    open_fd = open(in("open"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    return open_fd < 0;
}

static int remove_group(void **state)
{
    char command[PATH_MAX + 16];

    close(open_fd);
    close(inherited[0]);
    close(inherited[1]);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    struct sandbox s = {0};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_open_only_below_the_named_paths),
        cmocka_unit_test(any_file_may_be_opened_where_nobody_knows_which),
        cmocka_unit_test(calls_that_serving_does_not_need_are_refused),
        cmocka_unit_test(calls_are_refused_to_threads_that_were_there),
    };

    if (try(&s, do_thread) == NOT_ENTERED) {
        printf("SKIP: no seccomp or no Landlock here\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, make_group, remove_group);
}
