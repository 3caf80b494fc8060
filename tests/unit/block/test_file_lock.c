/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The image lock against QEMU's own programs: each side keeps out when the other is in. The image
 * is qcow2: of a raw one QEMU's readers tolerate a writer.
 */
#include <signal.h>

#include "block/file_priv.h"

#include "tests/unit/block/host.h"

/* Run a shell command; its exit status, and all it printed in *out (4096 bytes). */
static int run(char *out, const char *fmt, ...)
{
    char cmd[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    FILE *f = popen(cmd, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, 4095, f);
    out[n] = 0;
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char out[4096];

static struct node *try_open(bool read_only, struct err **errp)
{
    struct file_opts o = {.path = host_path("disk"), .read_only = read_only};
    return file_open(&o, errp);
}

static void must_refuse(bool read_only)
{
    struct err *err = NULL;
    assert_null(try_open(read_only, &err));
    assert_int_equal(err_code(err), EBUSY);
    assert_non_null(strstr(err_msg(err), "/disk\" is in use by another program, which"));
    err_free(err);
}

static void must_open(bool read_only)
{
    struct err *err = NULL;
    struct node *n = try_open(read_only, &err);
    if (!n)
        fail_msg("%s", err_msg(err));
    node_unref(n);
}

static int image_setup(void **state)
{
    if (host_setup(state) != 0)
        return -1;
    return run(out, "qemu-img create -q -f qcow2 '%s' 1M 2>&1", host_path("disk"));
}

HOST_TEST(a_closed_file_is_free_even_if_the_kernel_holds_on_to_it)
{
    struct node *n = try_open(false, NULL);
    assert_non_null(n);
    int held = dup(file_fd(n));

    must_refuse(false);
    node_unref(n);
    must_open(false);
    close(held);
}

HOST_TEST(qemu_keeps_out_while_we_write)
{
    struct node *n = try_open(false, NULL);
    assert_non_null(n);
    assert_int_not_equal(run(out, "qemu-io -f qcow2 -c 'read 0 512' '%s' 2>&1", host_path("disk")),
                         0);
    assert_non_null(strstr(out, "Failed to get"));
    assert_int_not_equal(
        run(out, "qemu-io -r -f qcow2 -c 'read 0 512' '%s' 2>&1", host_path("disk")), 0);
    assert_int_not_equal(run(out, "qemu-img info '%s' 2>&1", host_path("disk")), 0);
    assert_non_null(strstr(out, "shared \"write\" lock"));
    assert_int_equal(run(out, "qemu-img info -U '%s' 2>&1", host_path("disk")), 0);
    assert_int_not_equal(run(out, "qemu-nbd -f qcow2 -k '%s' --fork '%s' 2>&1", host_path("sock"),
                             host_path("disk")),
                         0);
    node_unref(n);
    assert_int_equal(run(out, "qemu-io -f qcow2 -c 'read 0 512' '%s' 2>&1", host_path("disk")), 0);
}

HOST_TEST(qemu_reads_beside_us_while_we_read)
{
    struct node *n = try_open(true, NULL);
    assert_non_null(n);
    assert_int_equal(run(out, "qemu-io -r -f qcow2 -c 'read 0 512' '%s' 2>&1", host_path("disk")),
                     0);
    assert_int_equal(run(out, "qemu-img info '%s' 2>&1", host_path("disk")), 0);
    assert_int_not_equal(run(out, "qemu-io -f qcow2 -c 'write 0 512' '%s' 2>&1", host_path("disk")),
                         0);
    node_unref(n);
}

static pid_t server; /* that a failed test has left behind */

static int lock_teardown(void **state)
{
    if (server > 1)
        kill(server, SIGKILL);
    server = 0;
    return host_teardown(state);
}

/* qemu-nbd in the background; its pid. */
static pid_t serve(const char *options)
{
    int status = run(out, "qemu-nbd %s -f qcow2 -t -k '%s' --fork --pid-file '%s' '%s' 2>&1",
                     options, host_path("sock"), host_path("pid"), host_path("disk"));
    if (status != 0)
        fail_msg("qemu-nbd: %s", out);
    assert_int_equal(run(out, "cat '%s'", host_path("pid")), 0);
    server = (pid_t)atoi(out);
    return server;
}

static void stop(pid_t pid)
{
    assert_true(pid > 1);
    server = 0;
    /* Again and again: qemu-nbd forgets a signal that comes while it starts. */
    int tries = 0;
    while (kill(pid, tries < 500 ? SIGTERM : SIGKILL) == 0 && tries++ < 600)
        usleep(10000);
    assert_in_range(tries, 0, 500);
}

HOST_TEST(we_keep_out_while_qemu_writes)
{
    pid_t pid = serve("");
    must_refuse(false);
    must_refuse(true);
    stop(pid);
    must_open(false);
}

HOST_TEST(we_read_beside_qemu_while_it_reads)
{
    pid_t pid = serve("-r");
    must_refuse(false);
    must_open(true);
    stop(pid);
    must_open(false);
}

int main(void)
{
    if (run(out, "command -v qemu-io qemu-img qemu-nbd") != 0) {
        puts("skipped: qemu-io, qemu-img or qemu-nbd is not installed");
        return 77;
    }
#define LOCK_CASES(name)                                                                           \
    cmocka_unit_test_setup_teardown(name##_on_uring, image_setup, lock_teardown),                  \
        cmocka_unit_test_setup_teardown(name##_on_threads, image_setup, lock_teardown)
    const struct CMUnitTest tests[] = {
        LOCK_CASES(a_closed_file_is_free_even_if_the_kernel_holds_on_to_it),
        LOCK_CASES(qemu_keeps_out_while_we_write),
        LOCK_CASES(qemu_reads_beside_us_while_we_read),
        LOCK_CASES(we_keep_out_while_qemu_writes),
        LOCK_CASES(we_read_beside_qemu_while_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
