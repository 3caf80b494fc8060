/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The throttle filter on the simulated clock: what passes in a given time, who goes first, and what
 * does not wait at all.
 */
#include "tests/unit/block/probe.h"

#include "filters/throttle.h"

static struct probe p;
static uint8_t buf[PROBE_SIZE];
static struct throttle_limits limits;

static struct node *over_probe(struct throttle_group *g)
{
    struct node *n = throttle_open(probe_open(&p, &probe_fua), g, NULL);

    assert_non_null(n);
    return n;
}

static struct throttle_group *group_of(enum throttle_bucket kind, uint64_t avg, uint64_t max,
                                       uint64_t burst_s)
{
    struct throttle_group *g;

    throttle_limits_init(&limits);
    limits.rate[kind] = (struct throttle_rate){avg, max, burst_s};
    g = throttle_group_new(&limits, NULL);
    assert_non_null(g);
    memset(&p, 0, sizeof(p));
    return g;
}

/* Seconds that n requests of len bytes take, one after the other. */
static double take(struct node *n, enum req_op op, unsigned count, uint64_t len)
{
    int64_t start = clock_ns();

    for (unsigned i = 0; i < count; i++) {
        struct req r = {.op = op, .len = len, .buf = buf};

        assert_int_equal(node_submit(n, &r), 0);
    }
    return (double)(clock_ns() - start) / NS_PER_S;
}

static void expect_s(double got, double wanted)
{
    if (got < wanted * 0.99 - 1e-6 || got > wanted * 1.01 + 1e-6)
        fail_msg("it took %f s, not %f s", got, wanted);
}

SIM_TEST(bytes_per_second_are_held_in_the_long_run)
{
    struct throttle_group *g = group_of(THROTTLE_BPS_TOTAL, 100000, 0, 1);
    struct node *n = over_probe(g);

    /* A tenth of a second's worth goes at once, and the last one pays nothing. */
    expect_s(take(n, REQ_WRITE, 101, 10000), 9.9 - 0.0);
    expect_s(take(n, REQ_READ, 100, 10000), 10);
    expect_s(take(n, REQ_ZERO, 50, 20000), 9.9);
    expect_s(take(n, REQ_DISCARD, 50, 20000), 10);
    throttle_group_unref(g);
    node_unref(n);
}

SIM_TEST(reads_and_writes_have_limits_of_their_own)
{
    struct throttle_group *g = group_of(THROTTLE_IOPS_READ, 10, 0, 1);
    struct node *n = over_probe(g);
    struct extents ext;

    expect_s(take(n, REQ_READ, 21, 512), 1.9);
    expect_s(take(n, REQ_WRITE, 1000, 512), 0);
    node_unref(n);
    throttle_group_unref(g);

    g = group_of(THROTTLE_IOPS_WRITE, 10, 0, 1);
    n = over_probe(g);
    expect_s(take(n, REQ_READ, 1000, 512), 0);
    expect_s(take(n, REQ_WRITE, 21, 512), 1.9);
    int64_t start = clock_ns();
    extents_init(&ext, 1);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_status(n, 0, 512, &ext), 0);
    extents_free(&ext);
    assert_int_equal(clock_ns(), start);
    node_unref(n);
    throttle_group_unref(g);
}

SIM_TEST(a_large_request_counts_as_several_operations)
{
    struct throttle_group *g;
    struct node *n;

    throttle_limits_init(&limits);
    limits.rate[THROTTLE_IOPS_TOTAL].avg = 10;
    limits.iops_size = 4096;
    g = throttle_group_new(&limits, NULL);
    memset(&p, 0, sizeof(p));
    n = over_probe(g);
    expect_s(take(n, REQ_WRITE, 11, 6 * 4096), 5.9);
    throttle_group_unref(g);
    node_unref(n);
}

SIM_TEST(a_burst_lasts_as_long_as_it_may_and_no_longer)
{
    /* 10 a second; 100 a second for up to 3 s. */
    struct throttle_group *g = group_of(THROTTLE_IOPS_TOTAL, 10, 100, 3);
    struct node *n = over_probe(g);

    /* The bucket of 300 leaks 10 a second while it is filled with 100 a second. */
    expect_s(take(n, REQ_WRITE, 300, 512), 2.88);
    double s = take(n, REQ_WRITE, 200, 512);
    if (s < 16 || s > 18)
        fail_msg("after the burst 200 took %f s", s);
    /* Rested, it may burst again. */
    co_sleep_until(clock_ns() + 40 * NS_PER_S);
    expect_s(take(n, REQ_WRITE, 300, 512), 2.88);
    throttle_group_unref(g);
    node_unref(n);
}

struct racer {
    struct node *n;
    unsigned done;
    bool stop;
    struct co_group *all;
};

static void race(void *arg)
{
    struct racer *r = arg;

    while (!r->stop) {
        assert_int_equal(node_write(r->n, 0, buf, 512, 0), 0);
        r->done++;
    }
    co_group_done(r->all);
}

SIM_TEST(nodes_of_a_group_share_its_limit_and_take_turns)
{
    struct throttle_group *g = group_of(THROTTLE_IOPS_TOTAL, 100, 0, 1);
    struct node *busy = over_probe(g), *quiet = over_probe(g);
    struct co_group all = {0};
    struct racer r[9] = {0};
    unsigned done = 0;

    assert_int_equal(throttle_group_members(g), 2);
    for (unsigned i = 0; i < 9; i++) {
        r[i].n = i < 8 ? busy : quiet;
        r[i].all = &all;
        co_group_add(&all);
        assert_true(co_start(race, &r[i]));
    }
    co_sleep_until(clock_ns() + 10 * NS_PER_S);
    for (unsigned i = 0; i < 9; i++) {
        r[i].stop = true;
        done += r[i].done;
    }
    if (done < 1000 || done > 1012)
        fail_msg("%u in 10 s at 100 a second", done);
    if (r[8].done < 495 || r[8].done > 506)
        fail_msg("the quiet node had %u of %u", r[8].done, done);
    co_group_wait(&all);
    node_unref(busy);
    assert_int_equal(throttle_group_members(g), 1);
    expect_s(take(quiet, REQ_WRITE, 200, 512), 2);
    node_unref(quiet);
    throttle_group_unref(g);
}

static void write_one(void *arg)
{
    struct racer *r = arg;

    assert_int_equal(node_write(r->n, 0, buf, sizeof(buf), 0), 0);
    r->done++;
    co_group_done(r->all);
}

SIM_TEST(lifted_limits_let_all_pass_at_once)
{
    struct throttle_group *g = group_of(THROTTLE_BPS_TOTAL, 1, 0, 1);
    struct node *n = over_probe(g), *other = over_probe(g);
    struct co_group all = {0};
    struct racer r = {.n = n, .all = &all}, o = {.n = other, .all = &all};
    int64_t start = clock_ns();

    for (unsigned i = 0; i < 4; i++) {
        co_group_add(&all);
        assert_true(co_start(write_one, i < 3 ? &r : &o));
    }
    assert_int_equal(r.done, 1);
    throttle_lift(n, true);
    expect_s(take(n, REQ_WRITE, 10, 4096), 0);
    co_reschedule();
    assert_int_equal(r.done, 3);
    assert_int_equal(o.done, 0);
    throttle_lift(n, false);
    throttle_lift(other, true);
    co_group_wait(&all);
    assert_int_equal(clock_ns(), start);
    throttle_lift(other, false);
    node_unref(n);
    node_unref(other);
    throttle_group_unref(g);
}

static void refused(enum throttle_bucket kind, uint64_t avg, uint64_t max, uint64_t burst_s,
                    const char *text)
{
    struct err *e = NULL;

    limits.rate[kind] = (struct throttle_rate){avg, max, burst_s};
    assert_null(throttle_group_new(&limits, &e));
    assert_non_null(strstr(err_msg(e), text));
    err_free(e);
    limits.rate[kind] = (struct throttle_rate){0, 0, 1};
}

SIM_TEST(limits_that_contradict_are_refused)
{
    throttle_limits_init(&limits);
    refused(THROTTLE_BPS_READ, 10, 5, 1, "cannot be lower");
    refused(THROTTLE_BPS_READ, 0, 5, 1, "require corresponding");
    refused(THROTTLE_IOPS_WRITE, 5, 0, 2, "without burst rate");
    refused(THROTTLE_IOPS_WRITE, 5, 0, 0, "cannot be 0");
    refused(THROTTLE_IOPS_WRITE, 5, 1000000000, 1000001, "too high");
    refused(THROTTLE_IOPS_WRITE, UINT64_C(1000000000000001), 0, 1, "must be within");
    limits.rate[THROTTLE_BPS_TOTAL].avg = 1;
    refused(THROTTLE_BPS_WRITE, 1, 0, 1, "at the same time");
    limits.iops_size = 1;
    refused(THROTTLE_BPS_READ, 0, 0, 1, "requires an iops value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_per_second_are_held_in_the_long_run),
        cmocka_unit_test(reads_and_writes_have_limits_of_their_own),
        cmocka_unit_test(a_large_request_counts_as_several_operations),
        cmocka_unit_test(a_burst_lasts_as_long_as_it_may_and_no_longer),
        cmocka_unit_test(nodes_of_a_group_share_its_limit_and_take_turns),
        cmocka_unit_test(lifted_limits_let_all_pass_at_once),
        cmocka_unit_test(limits_that_contradict_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
