/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "io/socket.h"

static char dir[32], path[64];

static int setup(void **state)
{
    strcpy(dir, "bw-socket-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/s", dir);
    return 0;
}

static int teardown(void **state)
{
    unlink(path);
    rmdir(dir);
    return 0;
}

static int connect_unix(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int res = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? 0 : -errno;
    close(fd);
    return res;
}

static void a_unix_socket_listens_with_the_mode_that_was_asked(void **state)
{
    int fd;
    struct stat st;
    assert_true(socket_listen_unix(path, 0600, &fd, NULL));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(connect_unix(), 0);
    close(fd);
}

static void a_socket_of_a_dead_process_is_replaced_a_live_one_is_not(void **state)
{
    int fd, second;
    assert_true(socket_listen_unix(path, 0600, &fd, NULL));
    struct err *err = NULL;
    assert_false(socket_listen_unix(path, 0600, &second, &err));
    assert_int_equal(err_code(err), EADDRINUSE);
    assert_non_null(strstr(err_msg(err), path));
    err_free(err);
    assert_int_equal(connect_unix(), 0); /* the first still works */

    close(fd); /* the file stays behind */
    assert_int_equal(connect_unix(), -ECONNREFUSED);
    assert_true(socket_listen_unix(path, 0600, &second, NULL));
    assert_int_equal(connect_unix(), 0);
    close(second);
}

/* A server that is alive but accepts nobody: its queue of connections is full. */
static void a_socket_whose_owner_hangs_is_not_waited_for(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(addr.sun_path, path);
    int owner = socket(AF_UNIX, SOCK_STREAM, 0), waiting[3], out;
    assert_int_equal(bind(owner, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(owner, 0), 0);
    for (int i = 0; i < 3; i++) {
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(waiting[i], (struct sockaddr *)&addr, sizeof(addr));
    }
    alarm(10);
    struct err *err = NULL;
    assert_false(socket_listen_unix(path, 0600, &out, &err));
    alarm(0);
    assert_int_equal(err_code(err), EADDRINUSE);
    err_free(err);
    for (int i = 0; i < 3; i++)
        close(waiting[i]);
    close(owner);
}

static void a_file_that_is_no_socket_is_left_alone(void **state)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0644), out;
    assert_int_equal(write(fd, "data", 4), 4);
    close(fd);
    assert_false(socket_listen_unix(path, 0600, &out, NULL));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4);
}

static void bad_paths_are_refused_with_a_reason(void **state)
{
    char longer[200];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    int fd;
    struct err *err = NULL;
    assert_false(socket_listen_unix(longer, 0600, &fd, &err));
    assert_int_equal(err_code(err), ENAMETOOLONG);
    err_free(err);
    assert_false(socket_listen_unix("", 0600, &fd, NULL));
    err = NULL;
    assert_false(socket_listen_unix("no-such-dir/s", 0600, &fd, &err));
    assert_int_equal(err_code(err), ENOENT);
    err_free(err);
}

static void tcp_listens_on_loopback_and_a_taken_port_is_named(void **state)
{
    int fds[4], n;
    uint16_t port, again;
    assert_true(socket_listen_tcp("127.0.0.1", 0, fds, 4, &n, &port, NULL));
    assert_int_equal(n, 1);
    assert_int_not_equal(port, 0);

    int more[4], n_more;
    struct err *err = NULL;
    assert_false(socket_listen_tcp("127.0.0.1", port, more, 4, &n_more, &again, &err));
    assert_int_equal(err_code(err), EADDRINUSE);
    char text[16];
    snprintf(text, sizeof(text), "%u", port);
    assert_non_null(strstr(err_msg(err), text));
    err_free(err);
    close(fds[0]);

    err = NULL;
    assert_false(socket_listen_tcp("host.invalid.", 1, fds, 4, &n, &port, &err));
    assert_non_null(strstr(err_msg(err), "host.invalid."));
    err_free(err);
}

static uint16_t port_of(int fd, int *family)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
    *family = ss.ss_family;
    return ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port
                                          : ((struct sockaddr_in *)&ss)->sin_port);
}

static void every_address_of_the_machine_gets_the_same_free_port(void **state)
{
    int fds[4], n, family[4];
    uint16_t port;
    assert_true(socket_listen_tcp("*", 0, fds, 4, &n, &port, NULL));
    assert_in_range(n, 1, 2); /* one family or two */
    for (int i = 0; i < n; i++) {
        assert_int_equal(port_of(fds[i], &family[i]), port);
        close(fds[i]);
    }
    assert_true(n == 1 || family[0] != family[1]);
}

static void a_socket_file_is_removed_only_while_it_is_ours(void **state)
{
    int fd, second;
    struct stat st;
    assert_true(socket_listen_unix(path, 0600, &fd, NULL));
    struct socket_file ours = socket_file_note(path);
    assert_int_not_equal(ours.ino, 0);
    char moved[sizeof(path) + 8];
    snprintf(moved, sizeof(moved), "%s.moved", path); /* kept, or its number would come again */
    assert_int_equal(rename(path, moved), 0);
    assert_true(socket_listen_unix(path, 0600, &second, NULL));
    socket_file_remove(path, ours);
    assert_int_equal(stat(path, &st), 0);
    socket_file_remove(path, socket_file_note(path));
    assert_int_equal(stat(path, &st), -1);
    socket_file_remove(path, ours); /* nothing there is nothing to do */
    unlink(moved);
    close(fd);
    close(second);
}

static void an_abstract_socket_has_no_file_and_one_owner(void **state)
{
    char name[64];
    int fd, second;
    struct err *err = NULL;
    snprintf(name, sizeof(name), "@test_socket.%d", (int)getpid());
    assert_true(socket_listen_unix(name, 0600, &fd, NULL));
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path + 1, name + 1, strlen(name) - 1);
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(c, (struct sockaddr *)&addr,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                     0);
    close(c);
    assert_int_equal(socket_file_note(name).ino, 0);
    assert_false(socket_listen_unix(name, 0600, &second, &err));
    assert_int_equal(err_code(err), EADDRINUSE);
    err_free(err);
    close(fd);
    assert_true(socket_listen_unix(name, 0600, &fd, NULL));
    close(fd);
    assert_false(socket_listen_unix("@", 0600, &fd, NULL));
}

static void inherited_descriptors_are_what_they_are(void **state)
{
    enum socket_kind kind;
    int fds[2], listening, n;
    uint16_t port;
    struct err *err = NULL;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_true(socket_inherited(fds[0], "x", &kind, NULL));
    assert_int_equal(kind, SOCKET_CONNECTED);
    assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    assert_true(socket_listen_tcp("127.0.0.1", 0, &listening, 1, &n, &port, NULL));
    assert_true(socket_inherited(listening, "x", &kind, NULL));
    assert_int_equal(kind, SOCKET_LISTENING);
    close(fds[0]);
    close(fds[1]);
    close(listening);
    static const int types[] = {SOCK_DGRAM, SOCK_STREAM};
    static const int codes[] = {EPROTOTYPE, ENOTCONN};
    for (int i = 0; i < 2; i++) {
        int fd = socket(AF_UNIX, types[i], 0);
        assert_false(socket_inherited(fd, "descriptor 9", &kind, &err));
        assert_int_equal(err_code(err), codes[i]);
        assert_non_null(strstr(err_msg(err), "descriptor 9"));
        err_free(err);
        err = NULL;
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_unix_socket_listens_with_the_mode_that_was_asked, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_socket_of_a_dead_process_is_replaced_a_live_one_is_not,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_socket_whose_owner_hangs_is_not_waited_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_socket_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_paths_are_refused_with_a_reason, setup, teardown),
        cmocka_unit_test(tcp_listens_on_loopback_and_a_taken_port_is_named),
        cmocka_unit_test(every_address_of_the_machine_gets_the_same_free_port),
        cmocka_unit_test_setup_teardown(a_socket_file_is_removed_only_while_it_is_ours, setup,
                                        teardown),
        cmocka_unit_test(an_abstract_socket_has_no_file_and_one_owner),
        cmocka_unit_test(inherited_descriptors_are_what_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
