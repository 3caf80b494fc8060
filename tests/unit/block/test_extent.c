/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "block/extent.h"

static void neighbours_of_equal_flags_are_one_extent(void **state)
{
    struct extents x;
    extents_init(&x, 2);
    assert_int_equal(extents_add(&x, 10, EXTENT_ZERO), 1);
    assert_int_equal(extents_add(&x, 0, 0), 1);
    assert_int_equal(extents_add(&x, 20, EXTENT_ZERO), 1);
    assert_int_equal(extents_add(&x, 5, 0), 1);
    assert_int_equal(x.n, 2);
    assert_int_equal(x.v[0].len, 30);
    assert_int_equal(x.v[0].flags, EXTENT_ZERO);
    assert_int_equal(x.v[1].len, 5);
    assert_int_equal(x.total, 35);
    extents_free(&x);
}

static void a_full_list_says_so_but_still_merges(void **state)
{
    struct extents x;
    extents_init(&x, 1);
    assert_int_equal(extents_add(&x, 10, 1), 1);
    assert_int_equal(extents_add(&x, 10, 2), 0);
    assert_int_equal(x.total, 10);
    assert_int_equal(extents_add(&x, 10, 1), 1);
    assert_int_equal(x.n, 1);
    assert_int_equal(x.total, 20);
    extents_free(&x);
}

static void a_long_list_keeps_its_order(void **state)
{
    struct extents x;
    extents_init(&x, 1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(extents_add(&x, i + 1, i & 1), 1);
    assert_int_equal(extents_add(&x, 1, 0), 0);
    assert_int_equal(x.n, 1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(x.v[i].len, i + 1);
    extents_free(&x);
}

static void trimming_cuts_and_drops_from_the_end(void **state)
{
    struct extents x;
    extents_init(&x, 10);
    extents_add(&x, 10, 0);
    extents_add(&x, 20, 1);
    extents_add(&x, 30, 0);
    extents_trim(&x, 100);
    assert_int_equal(x.total, 60);
    extents_trim(&x, 25);
    assert_int_equal(x.n, 2);
    assert_int_equal(x.v[1].len, 15);
    assert_int_equal(x.total, 25);
    extents_trim(&x, 10);
    assert_int_equal(x.n, 1);
    extents_trim(&x, 0);
    assert_int_equal(x.n, 0);
    assert_int_equal(x.total, 0);
    extents_free(&x);
}

static void without_memory_nothing_changes(void **state)
{
    struct extents x;
    extents_init(&x, 10);
    mem_fail_nth(1, 1);
    assert_int_equal(extents_add(&x, 10, 0), -ENOMEM);
    mem_fail_nth(0, 0);
    assert_int_equal(x.total, 0);
    assert_int_equal(extents_add(&x, 10, 0), 1);
    extents_clear(&x);
    assert_int_equal(x.n, 0);
    assert_int_equal(x.total, 0);
    extents_free(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_of_equal_flags_are_one_extent),
        cmocka_unit_test(a_full_list_says_so_but_still_merges),
        cmocka_unit_test(a_long_list_keeps_its_order),
        cmocka_unit_test(trimming_cuts_and_drops_from_the_end),
        cmocka_unit_test(without_memory_nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
