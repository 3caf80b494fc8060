/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of the fault engine share: the block layer's event names, and engines from text.
 */
#ifndef TESTS_RULES_TEST_H
#define TESTS_RULES_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "block/event.h"
#include "faults/rules.h"

#define INJECT "[inject-error]\n"
#define SET_STATE "[set-state]\n"

static const char *const test_event_names[] = {
#define X(id, name) name,
    BLOCK_EVENTS(X)
#undef X
};
static const char *const test_kind_names[] = {"data", "header", "l1", "l2", "reftable", "refblock"};
static const struct rules_names test_names = {test_event_names, EV_COUNT, test_kind_names, 6};

static inline struct rules *rules_of(const char *text)
{
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;

    assert_non_null(r);
    if (!rules_load(r, "rules.conf", text, strlen(text), &e))
        fail_msg("%s", err_msg(e));
    return r;
}

#endif
