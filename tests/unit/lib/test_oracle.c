/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The oracle allows what a disk may do, and nothing else.
 */
#include "tests/lib/oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECTORS 4

static struct oracle *o;
static uint64_t now; /* the moment, as a disk would count it */

static int begin(void **state)
{
    o = oracle_new(SECTORS * SECTOR, SECTORS * SECTOR);
    now = 1;
    return 0;
}

static int end(void **state)
{
    oracle_free(o);
    return 0;
}

static struct oracle_op *issue(char c, uint64_t off, uint64_t len)
{
    char data[SECTORS * SECTOR];
    memset(data, c, sizeof(data));
    return oracle_begin(o, c ? ORACLE_WRITE : ORACLE_ZERO, off, len, data, now++);
}

static void put(char c, uint64_t off, uint64_t len, bool ok, bool fua)
{
    oracle_end(o, issue(c, off, len), ok, fua, ++now);
}

static void flush(void)
{
    uint64_t since = oracle_tick(o);
    oracle_flushed(o, since, ++now);
}

static bool legal_of(const struct oracle_view *view, const char *content)
{
    char text[ORACLE_TEXT_LEN];
    return oracle_judge(o, view, 0, content, SECTOR, text);
}

/* May sector 0 hold n bytes of a, and b in the rest? */
static bool mixed(uint64_t at, char a, size_t n, char b)
{
    char content[SECTOR];
    memset(content, a, n);
    memset(content + n, b, SECTOR - n);
    return legal_of(&(struct oracle_view){.at = at}, content);
}

static bool live(char c)
{
    return mixed(0, c, SECTOR, c);
}

static bool cut(char c)
{
    return mixed(now, c, SECTOR, c);
}

static void an_acknowledged_write_replaces_live_but_not_after_a_cut(void **state)
{
    assert_true(live(0));
    put('a', 0, SECTOR, true, false);
    assert_true(live('a') && !live(0) && !live('b'));
    assert_true(cut('a') && cut(0) && !cut('b'));
    flush();
    assert_true(cut('a') && !cut(0));
    assert_true(mixed(1, 0, SECTOR, 0)); /* before all that */
}

static void only_what_ended_before_a_flush_is_covered_by_it(void **state)
{
    struct oracle_op *op = issue('a', 0, SECTOR);
    flush();
    oracle_end(o, op, true, false, ++now);
    assert_true(cut(0) && cut('a') && !live(0));
    uint64_t since = oracle_tick(o);
    put('b', 0, SECTOR, true, false);
    oracle_flushed(o, since, ++now);
    assert_true(cut('a') && cut('b') && !cut(0));
}

static void a_failed_write_leaves_both(void **state)
{
    put('a', 0, SECTOR, true, true);
    put('b', 0, SECTOR, false, true);
    flush();
    assert_true(live('a') && live('b') && cut('a') && cut('b') && !cut(0));
    put('c', 0, SECTOR, true, true);
    assert_true(live('c') && !live('a') && !live('b') && !cut('b'));
}

static void two_at_once_may_end_in_either_order(void **state)
{
    struct oracle_op *a = issue('a', 0, SECTOR), *b = issue('b', 0, SECTOR);
    oracle_end(o, a, true, true, ++now);
    oracle_end(o, b, true, true, ++now);
    assert_true(live('a') && live('b') && !live(0) && cut('a') && cut('b') && !cut(0));
    assert_false(mixed(0, 'a', 100, 'b') || mixed(now, 'a', 100, 'b'));
}

static void a_part_of_a_sector_goes_over_what_may_be_there(void **state)
{
    put('a', 0, SECTOR, true, false);
    put('b', 0, 100, true, true);
    assert_true(mixed(0, 'b', 100, 'a') && !mixed(0, 'b', 100, 0) && !live('a'));
    assert_true(mixed(now, 'b', 100, 'a') && mixed(now, 'b', 100, 0) && !cut('a') && !cut('b'));
}

static void a_discard_allows_zeros_and_forbids_nothing(void **state)
{
    put('a', 0, SECTOR, true, true);
    struct oracle_op *op = oracle_begin(o, ORACLE_DISCARD, 0, SECTOR, NULL, now++);
    oracle_end(o, op, true, false, ++now);
    flush();
    assert_true(live('a') && live(0) && cut('a') && cut(0) && !live('b'));
    put(0, 0, SECTOR, true, true);
    assert_true(live(0) && !live('a') && !cut('a'));
}

static void a_read_in_flight_may_see_parts(void **state)
{
    char content[SECTOR];
    put('a', 0, SECTOR, true, false);
    struct oracle_view reading = {.since = oracle_tick(o)};
    put('b', 0, SECTOR, true, false);
    memset(content, 'a', 100);
    memset(content + 100, 'b', SECTOR - 100);
    assert_true(legal_of(&reading, content));
    assert_false(legal_of(&(struct oracle_view){0}, content));
    content[0] = 'c';
    assert_false(legal_of(&reading, content));
}

static void the_size_is_judged_like_a_sector(void **state)
{
    struct oracle *grows = oracle_new(SECTOR, 3 * SECTOR);
    const struct oracle_view seen = {0}, later = {.at = 9};
    oracle_resize_begin(grows, 2 * SECTOR, 5);
    assert_true(oracle_judge_size(grows, &seen, SECTOR));
    assert_true(oracle_judge_size(grows, &seen, 2 * SECTOR));
    oracle_resize_end(grows, true, 6);
    assert_false(oracle_judge_size(grows, &seen, SECTOR));
    assert_true(oracle_judge_size(grows, &later, SECTOR));
    assert_int_equal(oracle_size(grows), 2 * SECTOR);
    oracle_flushed(grows, oracle_tick(grows), 8);
    assert_false(oracle_judge_size(grows, &later, SECTOR));
    assert_false(oracle_judge_size(grows, &later, 3 * SECTOR));
    oracle_free(grows);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        T(an_acknowledged_write_replaces_live_but_not_after_a_cut),
        T(only_what_ended_before_a_flush_is_covered_by_it),
        T(a_failed_write_leaves_both),
        T(two_at_once_may_end_in_either_order),
        T(a_part_of_a_sector_goes_over_what_may_be_there),
        T(a_discard_allows_zeros_and_forbids_nothing),
        T(a_read_in_flight_may_see_parts),
        T(the_size_is_judged_like_a_sector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
