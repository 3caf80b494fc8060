/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A folder for host files, and running a test body on a real reactor.
 */
#ifndef TESTS_UNIT_BLOCK_HOST_H
#define TESTS_UNIT_BLOCK_HOST_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "block/file.h"
#include "io/co.h"
#include "io/reactor.h"

static char host_dir[256];

static inline int host_setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(host_dir, sizeof(host_dir), "%s/breakwater-test-XXXXXX", tmp ? tmp : "/var/tmp");
    return mkdtemp(host_dir) ? 0 : -1;
}

static inline int host_teardown(void **state)
{
    char cmd[300];
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", host_dir);
    return system(cmd) == 0 ? 0 : -1;
}

/* A path in the folder; one of four buffers in turn. */
static inline const char *host_path(const char *name)
{
    static char path[4][320];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof(path[0]), "%s/%s", host_dir, name);
    return p;
}

static inline void run_on(enum reactor_kind kind, co_fn *body, void *arg)
{
    struct reactor *r;
    struct err *err = NULL;
    if (!reactor_new(kind, &r, &err)) {
        print_message("no such reactor here: %s\n", err_msg(err));
        err_free(err);
        assert_int_not_equal(kind, REACTOR_THREADS);
        skip();
    }
    assert_true(reactor_run_co(r, body, arg));
    reactor_free(r);
}

/* A test that runs on io_uring and on threads. */
#define HOST_TEST(name)                                                                            \
    static void name##_body(void *arg);                                                            \
    static void name##_on_uring(void **state)                                                      \
    {                                                                                              \
        run_on(REACTOR_URING, name##_body, NULL);                                                  \
    }                                                                                              \
    static void name##_on_threads(void **state)                                                    \
    {                                                                                              \
        run_on(REACTOR_THREADS, name##_body, NULL);                                                \
    }                                                                                              \
    static void name##_body(void *arg)
#define HOST_CASES(name)                                                                           \
    cmocka_unit_test_setup_teardown(name##_on_uring, host_setup, host_teardown),                   \
        cmocka_unit_test_setup_teardown(name##_on_threads, host_setup, host_teardown)

#endif
