/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The copy engine: what is copied, in which order, and what its hooks decide.
 */
#include "base/mem.h"
#include "base/rng.h"
#include "block/concat.h"
#include "block/copy.h"
#include "tests/unit/block/probe.h"

#define K UINT64_C(1024)
#define PIECES 16 /* of 16 KiB, half of it data */

static struct probe src, dst;
static uint64_t seen_done, seen_all, calls;
static int gate_result;
static uint64_t gate_after;
static enum copy_answer answer;

static int setup(void **state)
{
    struct rng rng;
    rng_seed(&rng, 3);
    memset(&src, 0, sizeof(src));
    memset(&dst, 0, sizeof(dst));
    for (unsigned i = 0; i < PROBE_SIZE; i++)
        src.data[i] = (uint8_t)(1 + rng_below(&rng, 255));
    memset(dst.data, 0xee, sizeof(dst.data));
    seen_done = seen_all = calls = gate_after = 0;
    gate_result = 0;
    answer = COPY_FAIL;
    return 0;
}

/* 8 KiB of data, 4 KiB of zeros, 4 KiB to be left alone, and so on. */
static int map_pattern(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    uint64_t in = off % (16 * K);
    *kind = in < 8 * K ? COPY_DATA : in < 12 * K ? COPY_ZERO : COPY_SKIP;
    uint64_t end = in < 8 * K ? 8 * K : in < 12 * K ? 12 * K : 16 * K;
    *got = min_u64(len, end - in);
    return 0;
}

/* The data comes last in each 16 KiB. */
static int map_late(void *arg, uint64_t off, uint64_t len, uint64_t *got, enum copy_kind *kind)
{
    uint64_t in = off % (16 * K), end = in < 8 * K ? 8 * K : 16 * K;
    *kind = in < 8 * K ? COPY_SKIP : COPY_DATA;
    *got = min_u64(len, end - in);
    return 0;
}

static void progress(void *arg, uint64_t done, uint64_t all)
{
    assert_true(done > seen_done && done <= all);
    seen_done = done;
    seen_all = all;
}

static int gate(void *arg)
{
    return calls++ < gate_after ? 0 : gate_result;
}

static enum copy_answer failed(void *arg, bool reading, uint64_t off, uint64_t len, int error)
{
    calls++;
    assert_int_equal(error, EIO);
    if (answer == COPY_RETRY) {
        src.fail[REQ_READ] = dst.fail[REQ_WRITE] = 0; /* whoever paused it has repaired it */
        co_sleep_until(clock_ns() + NS_PER_MS);
    }
    return answer;
}

static int run(const struct copy_opts *opts, struct copy_result *at)
{
    struct node *s = probe_open(&src, &probe_driver), *d = probe_open(&dst, &probe_driver);
    struct copy_opts o = *opts;
    o.src = s;
    o.dst = d;
    if (!o.len)
        o.len = PROBE_SIZE;
    int r = copy_run(&o, at);
    d->flushed_gen = d->write_gen; /* the end of a node is no part of it */
    node_unref(s);
    node_unref(d);
    return r;
}

/* dst holds what the pattern says, in units. */
static void expect_pattern(uint64_t unit)
{
    for (uint64_t i = 0; i < PROBE_SIZE; i++) {
        uint64_t in = i % (16 * K);
        uint8_t want = in < 8 * K || unit > 4 * K ? src.data[i] : in < 12 * K ? 0 : 0xee;
        if (dst.data[i] != want)
            fail_msg("byte %llu is %02x, not %02x", (unsigned long long)i, dst.data[i], want);
    }
}

SIM_TEST(data_is_copied_zeros_are_zeroed_and_the_rest_is_left_alone)
{
    static const struct copy_ops ops = {.map = map_pattern, .progress = progress};
    assert_int_equal(run(&(struct copy_opts){.ops = &ops, .zero_unit = 4096}, NULL), 0);
    expect_pattern(4 * K);
    assert_int_equal(seen_done, PROBE_SIZE);
    assert_int_equal(seen_all, PROBE_SIZE);
    assert_null(strstr(dst.trace, "W8192+4096"));
}

SIM_TEST(a_unit_that_is_mixed_is_copied_whole)
{
    static const struct copy_ops ops = {.map = map_pattern};
    assert_int_equal(
        run(&(struct copy_opts){.ops = &ops, .unit = 16 * K, .zero_unit = 16 * K}, NULL), 0);
    expect_pattern(16 * K);
    setup(NULL);
    static const struct copy_ops late = {.map = map_late};
    assert_int_equal(run(&(struct copy_opts){.ops = &late, .unit = 16 * K}, NULL), 0);
    assert_memory_equal(src.data, dst.data, PROBE_SIZE);
    setup(NULL);
    assert_int_equal(run(&(struct copy_opts){.ops = &late, .unit = 8 * K}, NULL), 0);
    assert_int_equal(dst.data[0], 0xee);
}

SIM_TEST(zeros_within_the_data_are_found)
{
    memset(src.data + 20 * K, 0, 12 * K);
    memset(src.data + 100 * K + 1, 0, 4 * K); /* not aligned: no whole unit of it */
    src.fail[REQ_STATUS] = -ENOTSUP;          /* all is data */
    assert_int_equal(run(&(struct copy_opts){.zero_unit = 4096, .in_flight = 1}, NULL), 0);
    assert_string_equal(dst.trace, "W0+20480 Z20480+12288u W32768+229376");
    assert_memory_equal(src.data, dst.data, PROBE_SIZE);
}

SIM_TEST(a_target_that_is_zero_is_not_zeroed_and_without_a_unit_all_is_written)
{
    memset(src.data + 20 * K, 0, 12 * K);
    src.fail[REQ_STATUS] = -ENOTSUP;
    assert_int_equal(
        run(&(struct copy_opts){.zero_unit = 4096, .dst_zero = true, .in_flight = 1}, NULL), 0);
    assert_string_equal(dst.trace, "W0+20480 W32768+229376");
    dst.trace[0] = 0;
    assert_int_equal(run(&(struct copy_opts){.dst_zero = true, .in_flight = 1}, NULL), 0);
    assert_string_equal(dst.trace, "W0+262144");
}

/* The offsets of the writes in the order in which they began rise. */
static bool writes_rise(void)
{
    unsigned long long last = 0, off;
    for (const char *p = dst.trace; (p = strchr(p, 'W')); p++) {
        sscanf(p, "W%llu", &off);
        if (off < last)
            return false;
        last = off;
    }
    return true;
}

/* A leaf whose reads take longer the nearer they are to the start. */
static int slow_submit(struct node *n, struct req *r)
{
    if (r->op == REQ_READ)
        co_sleep_until(clock_ns() + (int64_t)(PROBE_SIZE - r->off) * 1000);
    return probe_submit(n, r);
}

static const struct driver slow_driver = {
    .name = "slow", .state_size = sizeof(struct probe *), .submit = slow_submit};

static int run_slow(bool unordered)
{
    static const struct copy_ops ops = {.map = map_pattern};
    struct node *s = probe_open(&src, &slow_driver), *d = probe_open(&dst, &probe_driver);
    dst.delay_ns = NS_PER_MS;
    const struct copy_opts o = {.src = s,
                                .dst = d,
                                .len = PROBE_SIZE,
                                .zero_unit = 4096,
                                .dst_zero = true,
                                .unordered = unordered,
                                .ops = &ops};
    int r = copy_run(&o, NULL);
    node_unref(s);
    node_unref(d);
    return r;
}

SIM_TEST(writes_begin_in_order_and_overlap)
{
    assert_int_equal(run_slow(false), 0);
    assert_true(writes_rise());
    assert_true(dst.most_running > 1);
    setup(NULL);
    assert_int_equal(run_slow(true), 0);
    assert_false(writes_rise());
    assert_true(dst.most_running > 1);
}

SIM_TEST(a_failure_ends_the_copy_and_says_where)
{
    static const struct copy_ops ops = {.map = map_pattern};
    struct copy_result at;
    dst.fail[REQ_WRITE] = -ENOSPC;
    assert_int_equal(run(&(struct copy_opts){.ops = &ops, .zero_unit = 4096, .in_flight = 1}, &at),
                     -ENOSPC);
    assert_false(at.reading);
    assert_int_equal(at.off, 0);
    assert_int_equal(at.len, 8192);
    assert_string_equal(dst.trace, "W0+8192"); /* nothing after it */
    setup(NULL);
    src.fail[REQ_READ] = -EIO;
    assert_int_equal(run(&(struct copy_opts){.ops = &ops, .zero_unit = 4096}, &at), -EIO);
    assert_true(at.reading);
    assert_string_equal(dst.trace, "");
}

SIM_TEST(who_is_asked_may_retry_or_do_without)
{
    static const struct copy_ops ops = {.map = map_pattern, .failed = failed};
    const struct copy_opts o = {.ops = &ops, .zero_unit = 4096, .in_flight = 2};
    src.fail[REQ_READ] = -EIO;
    answer = COPY_RETRY;
    assert_int_equal(run(&o, NULL), 0);
    expect_pattern(4 * K);
    setup(NULL);
    dst.fail[REQ_WRITE] = -EIO;
    answer = COPY_RETRY;
    assert_int_equal(run(&o, NULL), 0);
    expect_pattern(4 * K);
    setup(NULL);
    src.fail[REQ_READ] = -EIO;
    answer = COPY_IGNORE;
    assert_int_equal(run(&o, NULL), 0);
    assert_int_equal(calls, PIECES * 8192 / 512);
    memset(src.data, 0, sizeof(src.data));
    expect_pattern(4 * K);
    setup(NULL);
    src.fail[REQ_READ] = -EIO;
    assert_int_equal(run(&o, NULL), -EIO);
    assert_true(calls >= 1 && calls <= 2);
}

static uint64_t written_bytes;

static void written(void *arg, uint64_t off, uint64_t len)
{
    written_bytes += len;
}

static int pace(void *arg, uint64_t len)
{
    co_sleep_until(clock_ns() + NS_PER_MS);
    return ++calls <= gate_after ? 0 : gate_result;
}

SIM_TEST(whole_pieces_are_asked_about_if_that_is_wanted)
{
    static const struct copy_ops ops = {.map = map_pattern, .failed = failed, .written = written};
    const struct copy_opts o = {
        .ops = &ops, .zero_unit = 4096, .in_flight = 1, .whole_reads = true};
    src.fail[REQ_READ] = -EIO;
    answer = COPY_RETRY;
    written_bytes = 0;
    assert_int_equal(run(&o, NULL), 0);
    expect_pattern(4 * K);
    assert_int_equal(calls, 1);
    assert_int_equal(written_bytes, PROBE_SIZE * 3 / 4); /* but what is left alone */
    setup(NULL);
    src.fail[REQ_READ] = -EIO;
    answer = COPY_FAIL;
    written_bytes = 0;
    assert_int_equal(run(&o, NULL), -EIO);
    assert_int_equal(calls, 1);
    assert_int_equal(written_bytes, 0);
}

SIM_TEST(who_paces_it_can_end_it)
{
    static const struct copy_ops ops = {.map = map_pattern, .pace = pace, .written = written};
    const struct copy_opts o = {.ops = &ops, .zero_unit = 4096, .in_flight = 1};
    int64_t start = clock_ns();
    gate_after = PIECES;
    assert_int_equal(run(&o, NULL), 0);
    assert_int_equal(clock_ns() - start, PIECES * NS_PER_MS);
    setup(NULL);
    gate_after = 2;
    gate_result = -ECANCELED;
    written_bytes = 0;
    assert_int_equal(run(&o, NULL), -ECANCELED);
    assert_int_equal(written_bytes, 2 * 12 * K);
}

SIM_TEST(a_gate_can_end_it)
{
    static const struct copy_ops ops = {.map = map_pattern, .gate = gate};
    gate_after = 4;
    gate_result = -ECANCELED;
    assert_int_equal(run(&(struct copy_opts){.ops = &ops, .zero_unit = 4096}, NULL), -ECANCELED);
    assert_non_null(strstr(dst.trace, "W0+8192"));
    assert_null(strstr(dst.trace, "W131072"));
}

SIM_TEST(a_rate_is_kept)
{
    static const struct copy_ops ops = {.map = map_pattern};
    int64_t before = clock_ns();
    assert_int_equal(run(&(struct copy_opts){.ops = &ops, .zero_unit = 4096, .rate = 64 * K}, NULL),
                     0);
    int64_t ms = (clock_ns() - before) / NS_PER_MS;
    /* 128 KiB of data, of which the last piece need not be waited for. */
    if (ms < 1800 || ms > 2100)
        fail_msg("%lld ms", (long long)ms);
}

static int baseline(void *arg, uint64_t off, uint8_t *buf, uint64_t len)
{
    memcpy(buf, (uint8_t *)arg + off, len);
    return 0;
}

SIM_TEST(what_is_there_anyway_is_left_out)
{
    static const struct copy_ops ops = {.baseline = baseline};
    static uint8_t there[PROBE_SIZE];
    src.fail[REQ_STATUS] = -ENOTSUP;
    memset(src.data + 40 * K, 0, 4 * K);
    memcpy(there, src.data, PROBE_SIZE);
    there[5000] ^= 1;
    there[40 * K] ^= 1;
    there[PROBE_SIZE - 1] ^= 1;
    assert_int_equal(
        run(&(struct copy_opts){.ops = &ops, .zero_unit = 4096, .arg = there, .in_flight = 1},
            NULL),
        0);
    assert_string_equal(dst.trace, "W4096+4096 Z40960+4096u W258048+4096");
}

SIM_TEST(concatenated_disks_are_read_as_one)
{
    static uint8_t buf[2 * PROBE_SIZE];
    struct node *part[2] = {probe_open(&src, &probe_driver), probe_open(&dst, &probe_driver)};
    part[0]->size = 1000;
    struct node *all = concat_new(part, 2, NULL);
    assert_non_null(all);
    assert_int_equal(all->size, 1024 + PROBE_SIZE);
    memset(buf, 0xaa, sizeof(buf));
    assert_int_equal(node_read(all, 0, buf, all->size), 0);
    assert_memory_equal(buf, src.data, 1000);
    for (unsigned i = 1000; i < 1024; i++)
        assert_int_equal(buf[i], 0);
    assert_memory_equal(buf + 1024, dst.data, PROBE_SIZE);
    assert_int_equal(node_read(all, 1023, buf, 2), 0);
    assert_int_equal(buf[0], 0);
    assert_int_equal(buf[1], 0xee);
    assert_int_equal(node_write(all, 0, buf, 512, 0), -EPERM);
    node_unref(all);
}

#define CASE(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(data_is_copied_zeros_are_zeroed_and_the_rest_is_left_alone),
        CASE(a_unit_that_is_mixed_is_copied_whole),
        CASE(zeros_within_the_data_are_found),
        CASE(a_target_that_is_zero_is_not_zeroed_and_without_a_unit_all_is_written),
        CASE(writes_begin_in_order_and_overlap),
        CASE(a_failure_ends_the_copy_and_says_where),
        CASE(who_is_asked_may_retry_or_do_without),
        CASE(whole_pieces_are_asked_about_if_that_is_wanted),
        CASE(who_paces_it_can_end_it),
        CASE(a_gate_can_end_it),
        CASE(a_rate_is_kept),
        CASE(what_is_there_anyway_is_left_out),
        CASE(concatenated_disks_are_read_as_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
