/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the io tests share that run on several kinds of reactor: one reactor for a group of tests,
 * and the question whether the kernel grants io_uring. To be included after cmocka.h.
 */
#ifndef TESTS_UNIT_IO_KINDS_H
#define TESTS_UNIT_IO_KINDS_H

#include "base/err.h"
#include "io/reactor.h"

static enum reactor_kind kind; /* of the next group */
static struct reactor *reactor;

static int setup(void **state)
{
    struct err *err = NULL;
    if (!reactor_new(kind, &reactor, &err)) {
        print_message("no reactor: %s\n", err_msg(err));
        err_free(err);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(co_alive(), 0);
    reactor_free(reactor);
    return 0;
}

static bool uring_is_granted(void)
{
    struct reactor *probe = NULL;
    bool granted = reactor_new(REACTOR_URING, &probe, NULL);
    reactor_free(probe);
    if (!granted)
        print_message("io_uring is refused here: its back end was not tested\n");
    return granted;
}

#endif
