/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "io/io.h"
#include "io/reactor.h"
#include "io/stream.h"

static struct reactor *reactor;
static struct stream *end[2];

static int setup(void **state)
{
    return reactor_new(REACTOR_SIM, &reactor, NULL) && stream_pipe(64, end) ? 0 : -1;
}

static int teardown(void **state)
{
    stream_free(end[0]);
    stream_free(end[1]);
    assert_int_equal(co_alive(), 0);
    reactor_free(reactor);
    return 0;
}

static void send_1000(void *arg)
{
    char data[1000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7);
    struct iovec iov[2] = {{data, 333}, {data + 333, 667}};
    assert_int_equal(stream_sendv(end[0], iov, 2, IO_NO_DEADLINE), 0);
}

static void receive_1000(void *arg)
{
    char data[1000];
    assert_true(co_start(send_1000, NULL));
    assert_int_equal(stream_recv_all(end[1], data, sizeof(data), IO_NO_DEADLINE), 0);
    for (size_t i = 0; i < sizeof(data); i++)
        assert_int_equal(data[i], (char)(i * 7));
}

static void a_pipe_carries_more_than_its_capacity_in_order(void **state)
{
    assert_true(reactor_run_co(reactor, receive_1000, NULL));
}

static void deadline_body(void *arg)
{
    char c;
    int64_t before = clock_ns();
    assert_int_equal(stream_recv(end[1], &c, 1, before + NS_PER_S), -ETIMEDOUT);
    assert_int_equal(clock_ns(), before + NS_PER_S);
    char fill[100] = {0};
    struct iovec iov = {fill, sizeof(fill)}; /* more than fits, and nobody reads */
    assert_int_equal(stream_sendv(end[0], &iov, 1, clock_ns() + NS_PER_S), -ETIMEDOUT);
}

static void both_directions_keep_their_deadlines(void **state)
{
    assert_true(reactor_run_co(reactor, deadline_body, NULL));
}

static void end_body(void *arg)
{
    char c = 'x', buf[4];
    struct iovec iov = {&c, 1};
    assert_int_equal(stream_sendv(end[0], &iov, 1, IO_NO_DEADLINE), 0);
    stream_shutdown(end[0]);
    assert_int_equal(stream_recv(end[1], buf, 4, IO_NO_DEADLINE), 1); /* what was sent arrives */
    assert_int_equal(stream_recv(end[1], buf, 4, IO_NO_DEADLINE), 0);
    assert_int_equal(stream_recv_all(end[1], buf, 4, IO_NO_DEADLINE), -ECONNRESET);
    iov = (struct iovec){&c, 1};
    assert_int_equal(stream_sendv(end[1], &iov, 1, IO_NO_DEADLINE), -EPIPE);
}

static void after_shutdown_the_rest_is_read_then_the_end(void **state)
{
    assert_true(reactor_run_co(reactor, end_body, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pipe_carries_more_than_its_capacity_in_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(both_directions_keep_their_deadlines, setup, teardown),
        cmocka_unit_test_setup_teardown(after_shutdown_the_rest_is_read_then_the_end, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
