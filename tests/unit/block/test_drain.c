/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Drain, and ranges that wait for each other.
 */
#include "base/rng.h"
#include "block/overlap.h"
#include "tests/unit/block/probe.h"

static struct probe p;
static struct node *node;
static uint8_t buf[4096];
static unsigned done;

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    done = 0;
    return 0;
}

static void reader(void *arg)
{
    assert_int_equal(node_read(node, 0, buf, 512), 0);
    done++;
}

SIM_TEST(drain_waits_for_what_runs_and_holds_back_what_comes)
{
    node = probe_open(&p, &probe_driver);
    p.delay_ns = 1000;
    for (int i = 0; i < 3; i++)
        assert_true(co_start(reader, NULL));
    assert_int_equal(node->in_flight, 3);
    node_drain_begin(node);
    assert_int_equal(node->in_flight, 0);
    assert_int_equal(done, 3);

    assert_true(co_start(reader, NULL));
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 3);
    node_drain_begin(node); /* nests */
    node_drain_end(node);
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 3);
    node_drain_end(node);
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 4);
    node_unref(node);
}

SIM_TEST(a_drained_filter_lets_its_own_requests_end)
{
    struct node *leaf = probe_open(&p, &probe_driver);
    node = filter_over(leaf);
    leaf->limits.max_len = 100;
    p.delay_ns = 1000;
    assert_true(co_start(reader, NULL)); /* six pieces, each of which enters the leaf anew */
    node_drain_begin(node);
    assert_int_equal(done, 1);
    assert_int_equal(leaf->in_flight, 0);
    node_drain_end(node);
    node_unref(node);
    p.trace[0] = 0;
}

SIM_TEST(requests_that_wait_go_where_they_are_redirected)
{
    static struct probe other;
    node = probe_open(&p, &probe_driver);
    struct node *to = probe_open(&other, &probe_driver);
    node_drain_begin(node);
    for (int i = 0; i < 3; i++)
        assert_true(co_start(reader, NULL));
    node_drain_begin(to);
    node_redirect(node, to);
    node_drain_end(node);
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 0);

    /* Back again, before any of them has noticed. */
    node_drain_begin(node);
    node_redirect(to, node);
    node_redirect(node, to);
    node_drain_end(node);
    node_drain_end(to);
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 3);
    assert_int_equal(node->in_flight, 0);
    probe_expect(&p, "");
    probe_expect(&other, "R0+512 R0+512 R0+512");
    node_unref(node);
    node_unref(to);
}

static void fua_writer(void *arg)
{
    assert_int_equal(node_write(node, 0, buf, 512, REQ_FUA), 0);
    done++;
}

SIM_TEST(a_write_with_emulated_fua_ends_before_the_drain_does)
{
    node = probe_open(&p, &probe_driver);
    p.delay_ns = 1000;
    assert_true(co_start(fua_writer, NULL));
    node_drain_begin(node);
    assert_int_equal(done, 1);
    probe_expect(&p, "W0+512 F");
    node_drain_end(node);
    node_unref(node);
}

/* --- Ranges. --- */

struct user {
    uint64_t off, len;
    bool exclusive;
    char name;
};

static struct overlap_list list;
static char order[64];
static struct overlap held[16];

static void enter(void *arg)
{
    const struct user *u = arg;
    struct overlap o;
    overlap_begin(&list, &o, u->off, u->len, u->exclusive);
    strncat(order, &u->name, 1);
    co_sleep_until(clock_ns() + 100);
    overlap_end(&list, &o);
}

static void enter_all(struct user *u, unsigned n)
{
    order[0] = 0;
    for (unsigned i = 0; i < n; i++)
        assert_true(co_start(enter, &u[i]));
}

SIM_TEST(ranges_that_touch_no_byte_of_each_other_do_not_wait)
{
    struct user u[] = {{0, 10, true, 'a'}, {10, 10, true, 'b'}, {5, 0, true, 'c'}};
    enter_all(u, 2);
    assert_string_equal(order, "ab");
    co_sleep_until(clock_ns() + 1000);
    assert_null(list.head);
}

SIM_TEST(shared_ranges_do_not_wait_for_each_other)
{
    struct user u[] = {{0, 10, false, 'a'}, {5, 10, false, 'b'}, {0, 1, true, 'c'}};
    enter_all(u, 3);
    assert_string_equal(order, "ab");
    co_sleep_until(clock_ns() + 1000);
    assert_string_equal(order, "abc");
    assert_null(list.head);
}

SIM_TEST(whoever_came_first_goes_first)
{
    /* c could enter beside a, but b waits and came before it: else a stream of sharers would
     * starve b. d touches none of them. */
    struct user u[] = {{0, 10, false, 'a'},
                       {0, 20, true, 'b'},
                       {0, 10, false, 'c'},
                       {30, 10, true, 'd'},
                       {15, 1, false, 'e'}};
    enter_all(u, ARRAY_LEN(u));
    assert_string_equal(order, "ad");
    co_sleep_until(clock_ns() + 150);
    assert_string_equal(order, "adb");
    co_sleep_until(clock_ns() + 1000);
    assert_string_equal(order, "adbce");
    assert_null(list.head);
}

#define SPACE 64
static int writers[SPACE], readers[SPACE];
static unsigned entered;

static void random_user(void *arg)
{
    struct rng r;
    rng_seed(&r, (uintptr_t)arg);
    for (int k = 0; k < 20; k++) {
        uint64_t off = rng_below(&r, SPACE - 1), len = 1 + rng_below(&r, SPACE - off - 1);
        bool excl = rng_below(&r, 2);
        struct overlap o;
        overlap_begin(&list, &o, off, len, excl);
        for (uint64_t i = off; i < off + len; i++) {
            assert_int_equal(writers[i], 0);
            if (excl)
                assert_int_equal(readers[i], 0);
            (excl ? writers : readers)[i]++;
        }
        co_sleep_until(clock_ns() + 1 + (int64_t)rng_below(&r, 50));
        for (uint64_t i = off; i < off + len; i++)
            (excl ? writers : readers)[i]--;
        overlap_end(&list, &o);
        entered++;
    }
}

SIM_TEST(random_users_never_meet_and_all_get_through)
{
    entered = 0;
    for (uintptr_t i = 1; i <= 40; i++)
        assert_true(co_start(random_user, (void *)i));
    co_sleep_until(clock_ns() + 10 * NS_PER_MS);
    assert_int_equal(entered, 800);
    assert_null(list.head);
}

SIM_TEST(leaving_in_any_order_keeps_the_list_whole)
{
    for (unsigned i = 0; i < 16; i++)
        overlap_begin(&list, &held[i], i, 1, false);
    static const unsigned out[16] = {7, 0, 15, 3, 1, 14, 8, 2, 9, 13, 4, 12, 5, 11, 6, 10};
    for (unsigned i = 0; i < 16; i++)
        overlap_end(&list, &held[out[i]]);
    assert_null(list.head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(drain_waits_for_what_runs_and_holds_back_what_comes, setup),
        cmocka_unit_test_setup(a_drained_filter_lets_its_own_requests_end, setup),
        cmocka_unit_test_setup(requests_that_wait_go_where_they_are_redirected, setup),
        cmocka_unit_test_setup(a_write_with_emulated_fua_ends_before_the_drain_does, setup),
        cmocka_unit_test(ranges_that_touch_no_byte_of_each_other_do_not_wait),
        cmocka_unit_test(shared_ranges_do_not_wait_for_each_other),
        cmocka_unit_test(whoever_came_first_goes_first),
        cmocka_unit_test(random_users_never_meet_and_all_get_through),
        cmocka_unit_test(leaving_in_any_order_keeps_the_list_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
