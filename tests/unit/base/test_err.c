/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Errors, memory and logs: the things that must work when nothing else does.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"

static void an_error_carries_code_and_message_and_can_be_prefixed(void **state)
{
    AUTO_ERR struct err *err = NULL;
    assert_false(err_set(&err, EINVAL, "cluster_bits %d is not between 9 and 21", 3));
    assert_int_equal(err_code(err), EINVAL);
    err_prefix(&err, "%s: ", "disk.qcow2");
    assert_string_equal(err_msg(err), "disk.qcow2: cluster_bits 3 is not between 9 and 21");

    struct err *moved = NULL;
    assert_false(err_move(&moved, steal(err)));
    assert_null(err);
    assert_int_equal(err_code(moved), EINVAL);
    err_free(moved);
    assert_int_equal(err_code(NULL), 0);
    assert_false(err_set(NULL, EIO, "nobody listens"));
}

static void errno_text_is_appended(void **state)
{
    AUTO_ERR struct err *err = NULL;
    err_set_errno(&err, ENOSPC, "cannot write '%s'", "x");
    assert_string_equal(err_msg(err), "cannot write 'x': No space left on device");
}

static void without_memory_an_error_is_still_an_error(void **state)
{
    for (uint64_t nth = 1; nth <= 4; nth++) {
        struct err *err = NULL;
        mem_fail_nth(nth, 1);
        assert_false(err_set_errno(&err, EIO, "reading '%s'", "a"));
        err_prefix(&err, "more: ");
        mem_fail_nth(0, 0);
        assert_non_null(err);
        assert_true(err_code(err) == ENOMEM || err_code(err) == EIO);
        err_free(err);
    }
}

static void the_nth_allocation_fails_once_or_for_good(void **state)
{
    mem_fail_nth(2, 0);
    void *a = mem_alloc(1), *b = mem_alloc(1), *c = mem_alloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    assert_int_equal(mem_count(), 3);
    mem_free(a);
    mem_free(c);
    mem_fail_nth(1, 1);
    assert_null(mem_zalloc(1));
    assert_null(mem_strdup("x"));
    assert_null(mem_printf("%d", 1));
    assert_null(mem_alloc_aligned(1, 4096));
    mem_fail_nth(0, 0);
    assert_null(mem_array(SIZE_MAX / 2, 3)); /* the product overflows */
}

static char last_line[256];

static void keep_line(enum log_level level, const char *line, void *arg)
{
    strncpy(last_line, line, sizeof(last_line) - 1);
}

static void logs_keep_to_their_level(void **state)
{
    log_set_sink(keep_line, NULL);
    log_info("dropped: the level is warn");
    assert_string_equal(last_line, "");
    log_warn("kept %d", 1);
    assert_string_equal(last_line, "kept 1");
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("kept too");
    assert_string_equal(last_line, "kept too");
    log_set_level(LOG_LEVEL_WARN);
    log_set_sink(NULL, NULL);
}

static void the_same_seed_gives_the_same_numbers(void **state)
{
    struct rng a, b, other;
    rng_seed(&a, 42);
    rng_seed(&b, 42);
    rng_seed(&other, 43);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t v = rng_u64(&a);
        assert_true(v == rng_u64(&b));
        same += v == rng_u64(&other);
        assert_true(rng_below(&a, 7) < 7);
        rng_below(&b, 7);
    }
    assert_int_equal(same, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_carries_code_and_message_and_can_be_prefixed),
        cmocka_unit_test(errno_text_is_appended),
        cmocka_unit_test(without_memory_an_error_is_still_an_error),
        cmocka_unit_test(the_nth_allocation_fails_once_or_for_good),
        cmocka_unit_test(logs_keep_to_their_level),
        cmocka_unit_test(the_same_seed_gives_the_same_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
