/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Flush generations, and the order of events around writes and flushes.
 */
#include "tests/unit/block/probe.h"

static struct probe p;
static struct probe top;
static uint8_t buf[65536];

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    memset(&top, 0, sizeof(top));
    return 0;
}

/* A format: its writes go to the child at the same offset, its flush flushes the child. */
static int format_submit(struct node *n, struct req *r)
{
    if (r->op == REQ_FLUSH)
        return node_flush(n->child[0]);
    return node_submit(n->child[0], r);
}

static int format_write_back(struct node *n)
{
    probe_say(&p, "write_back");
    int ret = p.write_back_result;
    return ret < 0 ? ret : node_write(n->child[0], 4096, buf, 512, 0);
}

static const struct driver format_driver = {
    .name = "format", .submit = format_submit, .write_back = format_write_back};

static struct node *format_over(struct node *child)
{
    struct node *n = node_new(&format_driver, "format", NULL);
    assert_true(node_attach(n, child, NULL));
    n->size = child->size;
    return n;
}

SIM_TEST(a_flush_with_nothing_written_since_the_last_is_free)
{
    struct node *n = filter_over(probe_open(&p, &probe_driver));
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "");
    assert_int_equal(node_write(n, 0, buf, 10, 0), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W0+10 F");
    assert_int_equal(node_zero(n, 0, 10, 0), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_discard(n, 0, 10), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_truncate(n, 1000), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "Z0+10 F D0+10 F T1000+0 F");
    node_unref(n);
}

SIM_TEST(a_failed_flush_covers_nothing)
{
    struct node *n = filter_over(probe_open(&p, &probe_driver));
    assert_int_equal(node_write(n, 0, buf, 10, 0), 0);
    p.fail[REQ_FLUSH] = -EIO;
    assert_int_equal(node_flush(n), -EIO);
    assert_int_equal(node_flush(n), -EIO);
    p.fail[REQ_FLUSH] = 0;
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W0+10 F F F");
    node_unref(n);
}

SIM_TEST(a_failed_write_counts_as_written)
{
    struct node *n = probe_open(&p, &probe_driver);
    p.fail[REQ_WRITE] = -EIO;
    assert_int_equal(node_write(n, 0, buf, 10, 0), -EIO);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W0+10 F");
    node_unref(n);
}

SIM_TEST(a_filter_flushes_what_others_wrote_to_its_child)
{
    struct node *leaf = probe_open(&p, &probe_driver);
    struct node *n = filter_over(leaf);
    assert_int_equal(node_write(leaf, 0, buf, 10, 0), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W0+10 F");
    node_unref(n);
}

static struct node *shared;
static int done;

static void flush_co(void *arg)
{
    assert_int_equal(node_flush(shared), 0);
    done++;
}

static void write_co(void *arg)
{
    assert_int_equal(node_write(shared, 0, buf, 10, 0), 0);
    done++;
}

SIM_TEST(concurrent_flushes_take_turns_and_share_the_work)
{
    shared = probe_open(&p, &probe_driver);
    assert_int_equal(node_write(shared, 0, buf, 10, 0), 0);
    p.delay_ns = 1000;
    done = 0;
    for (int i = 0; i < 3; i++)
        assert_true(co_start(flush_co, NULL));
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 3);
    probe_expect(&p, "W0+10 F");
    node_unref(shared);
}

SIM_TEST(a_write_that_ends_during_a_flush_is_not_covered_by_it)
{
    shared = probe_open(&p, &probe_driver);
    assert_int_equal(node_write(shared, 0, buf, 10, 0), 0);
    done = 0;
    p.delay_ns = 1000;
    assert_true(co_start(flush_co, NULL)); /* from 0 to 1000 */
    p.delay_ns = 100;
    assert_true(co_start(write_co, NULL)); /* from 0 to 100 */
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 2);
    assert_int_equal(node_flush(shared), 0);
    assert_int_equal(node_flush(shared), 0);
    probe_expect(&p, "W0+10 F W0+10 F");

    /* Nor is one that runs when the flush begins. */
    done = 0;
    p.delay_ns = 1000;
    assert_true(co_start(write_co, NULL));
    p.delay_ns = 100;
    assert_int_equal(node_write(shared, 20, buf, 10, 0), 0);
    assert_int_equal(node_flush(shared), 0);
    assert_int_equal(done, 0);
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 1);
    assert_int_equal(node_flush(shared), 0);
    probe_expect(&p, "W0+10 W20+10 F F");
    node_unref(shared);
}

SIM_TEST(closing_flushes_what_was_written_last)
{
    struct node *n = probe_open(&p, &probe_driver);
    assert_int_equal(node_write(n, 0, buf, 10, 0), 0);
    node_unref(n);
    probe_expect(&p, "W0+10 F");
    assert_int_equal(p.closed, 1);
}

SIM_TEST(a_format_flushes_in_the_order_of_blkdebugs_events)
{
    struct node *leaf = probe_open(&p, &probe_listener);
    struct node *n = format_over(leaf);
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    probe_expect(&p, "pwritev W0+512 pwritev_done");
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "flush_to_os write_back pwritev W4096+512 pwritev_done flush_to_disk F");
    /* Nothing written to the format since: what its cache wrote is flushed without the event. */
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "flush_to_os write_back pwritev W4096+512 pwritev_done F");
    /* Emulated FUA is the same flush, before the format's own write is done. */
    assert_int_equal(node_write(n, 0, buf, 512, REQ_FUA), 0);
    probe_expect(&p, "pwritev W0+512 pwritev_done flush_to_os write_back pwritev W4096+512 "
                     "pwritev_done flush_to_disk F");
    node_unref(n);
    p.trace[0] = 0;
}

SIM_TEST(an_error_of_write_back_ends_the_flush)
{
    struct node *n = format_over(probe_open(&p, &probe_driver));
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    p.write_back_result = -EIO;
    assert_int_equal(node_flush(n), -EIO);
    probe_expect(&p, "W0+512 write_back");
    p.write_back_result = 0;
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "write_back W4096+512 F");
    node_unref(n);
}

SIM_TEST(every_write_to_a_listening_node_is_announced_once)
{
    struct node *n = probe_open(&p, &probe_listener);
    n->limits.max_len = 16384;
    assert_int_equal(node_write(n, 0, buf, 40000, 0), 0);
    probe_expect(&p, "pwritev W0+16384 W16384+16384 W32768+7232 pwritev_done");
    n->limits.zero_align = 4096;
    p.fail[REQ_ZERO] = -ENOTSUP;
    assert_int_equal(node_zero(n, 1, 5000, 0), 0);
    probe_expect(&p, "pwritev_zero Z1+4095 W1+4095 Z4096+905 W4096+905 pwritev_done");
    p.fail[REQ_WRITE] = -EIO;
    assert_int_equal(node_write(n, 0, buf, 1, 0), -EIO);
    probe_expect(&p, "pwritev W0+1 pwritev_done");
    assert_int_equal(node_write(n, 0, buf, 0, 0), 0);
    assert_int_equal(node_discard(n, 0, 512), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "D0+512 F");
    node_unref(n);
}

SIM_TEST(announcements_pass_filters_and_stop_at_who_hears_them)
{
    struct node *leaf = probe_open(&p, &probe_listener);
    struct node *n = filter_over(filter_over(leaf));
    node_event(n, EV_L2_LOAD);
    probe_expect(&p, "l2_load");
    node_unref(n);

    n = filter_over(probe_open(&p, &probe_driver));
    node_event(n, EV_L2_LOAD);
    probe_expect(&p, "");
    node_unref(n);

    /* The filter's own writes are not announced to what is below it. */
    leaf = probe_open(&p, &probe_driver);
    n = filter_over(leaf);
    assert_int_equal(node_write(n, 0, buf, 1, 0), 0);
    probe_expect(&p, "W0+1");
    node_unref(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_flush_with_nothing_written_since_the_last_is_free, setup),
        cmocka_unit_test_setup(a_failed_flush_covers_nothing, setup),
        cmocka_unit_test_setup(a_failed_write_counts_as_written, setup),
        cmocka_unit_test_setup(a_filter_flushes_what_others_wrote_to_its_child, setup),
        cmocka_unit_test_setup(concurrent_flushes_take_turns_and_share_the_work, setup),
        cmocka_unit_test_setup(a_write_that_ends_during_a_flush_is_not_covered_by_it, setup),
        cmocka_unit_test_setup(closing_flushes_what_was_written_last, setup),
        cmocka_unit_test_setup(a_format_flushes_in_the_order_of_blkdebugs_events, setup),
        cmocka_unit_test_setup(an_error_of_write_back_ends_the_flush, setup),
        cmocka_unit_test_setup(every_write_to_a_listening_node_is_announced_once, setup),
        cmocka_unit_test_setup(announcements_pass_filters_and_stop_at_who_hears_them, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
