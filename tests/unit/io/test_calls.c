/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Calls on sockets and files, on each kind of reactor that has them.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/sanitizers.h"
#include "io/file_io.h"
#include "io/io.h"
#include "io/lock.h"
#include "io/reactor.h"
#include "io/reactor_priv.h"
#include "tests/unit/io/kinds.h"

static int pair[2];

static void send_later(void *arg)
{
    co_sleep_until(clock_ns() + 5 * NS_PER_MS);
    char head[] = "head", tail[] = "tail";
    struct iovec iov[] = {{head, 4}, {NULL, 0}, {tail, 4}};
    assert_int_equal(io_sendv(pair[1], iov, 3, IO_NO_DEADLINE), 0);
}

static void socket_body(void *arg)
{
    char buf[16] = {0};
    assert_true(co_start(send_later, NULL));
    size_t got = 0;
    while (got < 8) {
        ssize_t n = io_recv(pair[0], buf + got, sizeof(buf) - got, IO_NO_DEADLINE);
        assert_true(n > 0);
        got += (size_t)n;
    }
    assert_memory_equal(buf, "headtail", 8);

    /* A deadline. */
    assert_int_equal(io_recv(pair[0], buf, 1, clock_ns() + 10 * NS_PER_MS), -ETIMEDOUT);
    assert_int_equal(io_poll(pair[0], POLLIN, clock_ns() + 5 * NS_PER_MS), -ETIMEDOUT);
    assert_true(io_poll(pair[0], POLLOUT, IO_NO_DEADLINE) & POLLOUT);

    /* The end. */
    close(pair[1]);
    assert_int_equal(io_recv(pair[0], buf, 1, IO_NO_DEADLINE), 0);
    char c = 'x';
    struct iovec one = {&c, 1};
    assert_int_equal(io_sendv(pair[0], &one, 1, IO_NO_DEADLINE), -EPIPE);
    close(pair[0]);
}

static void sockets_send_receive_time_out_and_end(void **state)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(reactor_run_co(reactor, socket_body, NULL));
}

static void send_megabytes(void *arg)
{
    static char big[4 << 20];
    memset(big, 'z', sizeof(big));
    struct iovec iov = {big, sizeof(big)};
    assert_int_equal(io_sendv(pair[1], &iov, 1, IO_NO_DEADLINE), 0);
    co_group_done(arg);
}

static void slow_reader_body(void *arg)
{
    static char buf[64 << 10];
    struct co_group g = {0};
    co_group_add(&g);
    assert_true(co_start(send_megabytes, &g));
    size_t got = 0;
    while (got < 4 << 20) {
        ssize_t n = io_recv(pair[0], buf, sizeof(buf), IO_NO_DEADLINE);
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i += 4096)
            assert_int_equal(buf[i], 'z');
        got += (size_t)n;
    }
    co_group_wait(&g);
    close(pair[0]);
    close(pair[1]);
}

static void a_send_larger_than_the_socket_buffer_completes(void **state)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(reactor_run_co(reactor, slow_reader_body, NULL));
}

static void cancel_recv(void *arg)
{
    char c;
    *(ssize_t *)arg = io_recv(pair[0], &c, 1, IO_NO_DEADLINE);
}

static void cancel_body(void *arg)
{
    ssize_t res = 1;
    assert_true(co_start(cancel_recv, &res));
    co_reschedule();
    assert_int_equal(res, 1);
    io_cancel_fd(pair[0]);
    io_cancel_fd(pair[0]);
    while (res == 1)
        co_sleep_until(clock_ns() + NS_PER_MS);
    assert_int_equal(res, -ECANCELED);
    close(pair[0]);
    close(pair[1]);
}

static void waiting_calls_are_cancelled_by_descriptor(void **state)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(reactor_run_co(reactor, cancel_body, NULL));
}

#define DRIBBLE 20000

static _Atomic int64_t hasty_deadline_ns;
static _Atomic unsigned timeouts;

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* On a thread of its own: what a coroutine sends cannot fall between two steps of the loop. */
static void *dribble(void *arg)
{
    struct rng rng;
    uint8_t buf[64], next = 0;

    rng_seed(&rng, 2);
    while (timeouts == 0) /* a sender that is always ahead of the reader would prove nothing */
        sched_yield();
    for (unsigned sent = 0, n; sent < DRIBBLE; sent += n) {
        n = 1 + (unsigned)rng_below(&rng, sizeof(buf));
        n = n < DRIBBLE - sent ? n : DRIBBLE - sent;
        for (unsigned i = 0; i < n; i++)
            buf[i] = next++;
        int64_t at = hasty_deadline_ns - 20000 + (int64_t)rng_below(&rng, 80000);
        while (now_ns() < at)
            sched_yield();
        if (send(pair[1], buf, n, 0) != (ssize_t)n)
            abort();
    }
    return NULL;
}

/* Deadlines that fall on the arrival of data: what a call has taken it reports. */
static void hasty_reader_body(void *arg)
{
    struct rng rng;
    uint8_t buf[64], next = 0;
    unsigned got = 0;

    rng_seed(&rng, 1);
    timeouts = 0;
    pthread_t sender;
    assert_int_equal(pthread_create(&sender, NULL, dribble, NULL), 0);
    while (got < DRIBBLE) {
        hasty_deadline_ns = clock_ns() + (int64_t)rng_below(&rng, 60000);
        size_t len = 1 + rng_below(&rng, sizeof(buf));
        ssize_t n = rng_below(&rng, 2) ? io_recv(pair[0], buf, len, hasty_deadline_ns)
                                       : io_recv_whole(pair[0], buf, len, hasty_deadline_ns);
        if (n == -ETIMEDOUT) {
            timeouts++;
            continue;
        }
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(buf[i], next++);
        got += (unsigned)n;
    }
    pthread_join(sender, NULL);
    close(pair[0]);
    close(pair[1]);
}

static void a_receive_that_times_out_has_taken_nothing(void **state)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(reactor_run_co(reactor, hasty_reader_body, NULL));
}

/* More completions at once than the ring has room for. */
#if WITH_TSAN
#define CROWD 100 /* it cannot watch thousands of stacks */
#else
#define CROWD 6000
#endif

static unsigned crowd_left;

static void crowd_member(void *arg)
{
    assert_true(io_poll(pair[0], POLLIN, IO_NO_DEADLINE) & POLLIN);
    crowd_left--;
}

static void crowd_body(void *arg)
{
    for (int i = 0; i < CROWD; i++)
        assert_true(co_start(crowd_member, NULL));
    crowd_left = CROWD;
    co_sleep_until(clock_ns() + NS_PER_MS);
    assert_int_equal(send(pair[1], "x", 1, 0), 1);
    for (int i = 0; i < 10000 && crowd_left > 0; i++)
        co_sleep_until(clock_ns() + NS_PER_MS);
    assert_int_equal(crowd_left, 0);
    close(pair[0]);
    close(pair[1]);
}

static void no_completion_is_lost_when_the_ring_overflows(void **state)
{
    if (kind != REACTOR_URING)
        skip(); /* epoll watches for one reader only */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(reactor_run_co(reactor, crowd_body, NULL));
}

static void file_body(void *arg)
{
    int fd = *(int *)arg;
    static char out[300 << 10], in[300 << 10];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (char)(i * 31);
    assert_int_equal(io_pwrite(fd, out, sizeof(out), 4096), sizeof(out));
    assert_int_equal(io_fdatasync(fd), 0);
    assert_int_equal(io_pread(fd, in, sizeof(in), 4096), sizeof(in));
    assert_memory_equal(in, out, sizeof(in));

    struct io_file f;
    io_file_init(&f, fd, false);
    memset(in, 0, sizeof(in));
    assert_int_equal(io_file_pread(&f, in, 8192, 4096), 8192);
    assert_memory_equal(in, out, 8192);
    assert_int_equal(io_file_pwrite(&f, out, 100, 1), 100);
    assert_int_equal(io_file_pwrite(&f, out, 8192, 8192), 8192);
    assert_int_equal(io_file_pread(&f, in, sizeof(in), 8192 + 4096), sizeof(in) - 8192);

    int res = io_fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 4096, 4096);
    assert_true(res == 0 || res == -EOPNOTSUPP);
    assert_int_equal(io_pread(fd, in, 1, (uint64_t)1 << 40), 0);
    assert_int_equal(io_pread(-1, in, 1, 0), -EBADF);
}

static void files_are_read_written_and_synced(void **state)
{
    char path[] = "bw-reactor-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    assert_true(reactor_run_co(reactor, file_body, &fd));
    close(fd);
}

/* --- A process that may have no more threads. --- */

static void read_body(void *arg)
{
    char c;
    *(ssize_t *)arg = io_pread(*(int *)arg, &c, 1, 0);
}

enum { SAID_NO = 40, CANNOT_TRY, DID_IT, GOT_NO_REACTOR };

static int read_without_threads(int fd)
{
    struct rlimit none = {0};
    struct reactor *r = NULL;
    union {
        int fd;
        ssize_t res;
    } arg = {.fd = fd};
    alarm(10); /* instead of trying for ever */
    if (setrlimit(RLIMIT_NPROC, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0))
        return CANNOT_TRY;
    if (!reactor_new(REACTOR_THREADS, &r, NULL))
        return GOT_NO_REACTOR;
    if (!reactor_run_co(r, read_body, &arg))
        return CANNOT_TRY;
    return arg.res < 0 ? SAID_NO : DID_IT;
}

static void file_calls_fail_where_no_thread_can_be_started(void **state)
{
    int fd = open("/proc/self/exe", O_RDONLY), status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(read_without_threads(fd));
    close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_TRY)
        skip();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), SAID_NO);
}

static int ring_op(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;

    assert_int_equal(io_uring_submit_and_wait(ring, 1), 1);
    assert_int_equal(io_uring_peek_cqe(ring, &cqe), 0);
    int res = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return res;
}

/* A ring goes around filters of system calls. */
static void the_ring_does_only_what_we_use(void **state)
{
    struct io_uring *ring = reactor->backend_state; /* its first member */
    struct io_uring_restriction all = {.opcode = IORING_RESTRICTION_SQE_OP,
                                       .sqe_op = IORING_OP_OPENAT};

    if (kind != REACTOR_URING)
        skip();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    io_uring_prep_poll_add(io_uring_get_sqe(ring), pair[0], POLLOUT);
    assert_true(ring_op(ring) > 0);
    io_uring_prep_openat(io_uring_get_sqe(ring), AT_FDCWD, "/dev/null", O_RDONLY, 0);
    assert_int_equal(ring_op(ring), -EACCES);
    io_uring_prep_connect(io_uring_get_sqe(ring), pair[0], NULL, 0);
    assert_int_equal(ring_op(ring), -EACCES);
    io_uring_prep_unlinkat(io_uring_get_sqe(ring), AT_FDCWD, "/nowhere", 0);
    assert_int_equal(ring_op(ring), -EACCES);
    assert_true(
        syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, &all, 1) < 0);
}

static int run_kind(enum reactor_kind k)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(sockets_send_receive_time_out_and_end),
        cmocka_unit_test(a_send_larger_than_the_socket_buffer_completes),
        cmocka_unit_test(waiting_calls_are_cancelled_by_descriptor),
        cmocka_unit_test(a_receive_that_times_out_has_taken_nothing),
        cmocka_unit_test(no_completion_is_lost_when_the_ring_overflows),
        cmocka_unit_test(files_are_read_written_and_synced),
        cmocka_unit_test(the_ring_does_only_what_we_use),
    };
    kind = k;
    return cmocka_run_group_tests(tests, setup, teardown);
}

int main(void)
{
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(file_calls_fail_where_no_thread_can_be_started),
    };
    int failed = cmocka_run_group_tests(alone, NULL, NULL) + run_kind(REACTOR_THREADS);
    if (uring_is_granted())
        failed += run_kind(REACTOR_URING);
    return failed;
}
