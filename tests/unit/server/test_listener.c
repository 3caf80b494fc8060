/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "block/mem_disk.h"
#include "io/io.h"
#include "io/reactor.h"
#include "io/socket.h"
#include "server/server.h"

static char path[64];

/* A client that blocks would block the server too, which is on the same thread. */
static int dial(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    strcpy(addr.sun_path, path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    int code = errno;
    close(fd);
    return -code;
}

static void greeted(int fd)
{
    char greeting[18];

    assert_int_equal(io_recv_whole(fd, greeting, sizeof(greeting), clock_ns() + 10 * NS_PER_S), 18);
    assert_memory_equal(greeting, "NBDMAGIC", 8);
}

static void count(void *arg)
{
    ++*(unsigned *)arg;
}

static void body(void *arg)
{
    struct server_opts so = {.exit_when_deserted = true};
    struct export_opts eo = {.name = "", .top = mem_open(MiB, NULL)};
    struct server *s = server_new(&so, NULL);
    unsigned idle = 0;
    int fd, second;

    assert_non_null(s);
    assert_true(server_add_export(s, &eo, NULL));
    server_on_idle(s, count, &idle);
    assert_true(socket_listen_unix(path, 0600, &fd, NULL));
    struct listener *l = server_listen(s, fd, NULL);
    assert_non_null(l);
    unlink(path);
    assert_true(socket_listen_unix(path, 0600, &second, NULL));
    struct listener *other = server_listen(s, second, NULL);
    assert_non_null(other);

    int a = dial();
    assert_true(a >= 0);
    greeted(a);
    server_unlisten(other);
    co_sleep_until(clock_ns() + 20 * NS_PER_MS);
    assert_int_equal(dial(), -ECONNREFUSED);
    assert_int_equal(server_connections(s), 1); /* who was there stays */

    /* The other listener could still bring somebody. */
    close(a);
    co_sleep_until(clock_ns() + 20 * NS_PER_MS);
    assert_int_equal(server_connections(s), 0);
    assert_int_equal(idle, 0);

    unlink(path);
    assert_true(socket_listen_unix(path, 0600, &second, NULL));
    other = server_listen(s, second, NULL);
    int b = dial();
    greeted(b);
    server_unlisten(l);
    server_unlisten(other);
    co_sleep_until(clock_ns() + 20 * NS_PER_MS);
    assert_int_equal(idle, 0);
    close(b);
    co_sleep_until(clock_ns() + 20 * NS_PER_MS);
    assert_int_equal(idle, 1); /* nobody is left, and nobody can come */

    assert_int_equal(server_stop(s, false), 0);
    assert_true(socket_listen_unix(path, 0600, &second, NULL));
    assert_null(server_listen(s, second, NULL));
    server_free(s);
    unlink(path);
}

static void listeners_come_and_go_while_the_server_runs(void **state)
{
    struct reactor *r;

    snprintf(path, sizeof(path), "/tmp/test_listener.%d", (int)getpid());
    unlink(path);
    assert_true(reactor_new(REACTOR_AUTO, &r, NULL));
    assert_true(reactor_run_co(r, body, NULL));
    reactor_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listeners_come_and_go_while_the_server_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
