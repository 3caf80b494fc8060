/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What torn and corrupt requests look like, byte by byte.
 */
#include "tests/unit/faults/fault_test.h"

#define LEN 8192

static struct fault_decision decide(const char *option, enum fault_io op, uint64_t off,
                                    uint64_t len)
{
    struct rules *r = FAULTS(option);
    struct fault_decision d = ask(r, op, off, len);

    rules_free(r);
    return d;
}

/* Which bytes of [off, off + len) are kept; checks that the runs are in order and do not touch. */
static unsigned tear(const struct fault_tear *t, uint64_t off, uint64_t len, bool kept[LEN])
{
    uint64_t at = off, n, last = off;
    unsigned runs = 0;

    memset(kept, 0, LEN);
    for (; fault_torn_next(t, off, len, &at, &n); at += n, runs++) {
        assert_true(n > 0 && at >= off && at + n <= off + len);
        assert_true(runs == 0 || at > last);
        memset(kept + (at - off), 1, n);
        last = at + n;
    }
    return runs;
}

static uint64_t count(const bool kept[LEN], uint64_t from, uint64_t to)
{
    uint64_t n = 0;

    while (from < to)
        n += kept[from++];
    return n;
}

static void halves_are_kept_in_units_of_the_disk(void **state)
{
    struct fault_decision d = decide("action=torn", FAULT_WRITE, 0, 4096);
    bool kept[LEN];
    (void)state;

    assert_int_equal(d.deed, FAULT_TORN);
    assert_int_equal(tear(&d.tear, 0, 4096, kept), 1);
    assert_int_equal(count(kept, 0, 2048), 2048);
    assert_int_equal(count(kept, 2048, 4096), 0);
    /* 100..1636 lies in units 0 to 3; the first two are kept, the first of them in part. */
    tear(&d.tear, 100, 1536, kept);
    assert_int_equal(count(kept, 0, LEN), 1024 - 100);
    assert_int_equal(count(kept, 0, 1024 - 100), 1024 - 100);
    d = decide("action=torn keep=suffix", FAULT_WRITE, 0, 1000); /* the end is within a unit */
    assert_int_equal(tear(&d.tear, 0, 1000, kept), 1);
    assert_int_equal(count(kept, 512, 1000), 1000 - 512);
    d = decide("action=torn keep=suffix unit=4k", FAULT_WRITE, 4096, 8192);
    tear(&d.tear, 4096, 8192, kept);
    assert_int_equal(count(kept, 0, 4096), 0);
    assert_int_equal(count(kept, 4096, 8192), 4096);
}

static void a_mask_names_the_units_that_are_kept(void **state)
{
    struct fault_decision d = decide("action=torn mask=0x8005", FAULT_WRITE, 0, LEN);
    bool kept[LEN];
    (void)state;

    assert_int_equal(tear(&d.tear, 0, LEN, kept), 3);
    assert_int_equal(count(kept, 0, LEN), 3 * 512);
    assert_int_equal(count(kept, 0, 512), 512);
    assert_int_equal(count(kept, 1024, 1536), 512);
    assert_int_equal(count(kept, 15 * 512, LEN), 512);
    /* The first unit is that of the request's first byte, of which it may hold a part. */
    tear(&d.tear, 4196, 1536, kept);
    assert_int_equal(count(kept, 0, 412), 412);
    assert_int_equal(count(kept, 412, 924), 0);
    assert_int_equal(count(kept, 924, 1436), 512);
    assert_int_equal(count(kept, 1436, 1536), 0);
    d = decide("action=torn mask=3", FAULT_WRITE, 0, 1024); /* all that there is */
    assert_int_equal(tear(&d.tear, 0, 1024, kept), 1);
    assert_int_equal(count(kept, 0, 1024), 1024);
}

static void behind_the_mask_all_is_lost(void **state)
{
    struct fault_decision d =
        decide("action=torn mask=0xffffffffffffffff", FAULT_WRITE, 0, 66 * 512);
    uint64_t at = 0, n;
    (void)state;

    assert_true(fault_torn_next(&d.tear, 0, 66 * 512, &at, &n));
    assert_int_equal(at, 0);
    assert_int_equal(n, 64 * 512);
    at += n;
    assert_false(fault_torn_next(&d.tear, 0, 66 * 512, &at, &n));
}

static void something_is_always_lost(void **state)
{
    static const char *const options[] = {
        "action=torn", "action=torn keep=suffix", "action=torn keep=random",
        "action=torn keep=prefix:random", "action=torn keep=suffix:random"};
    bool kept[LEN];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        for (uint64_t at = 0; at < 100; at++) {
            struct fault_decision d = decide(options[i], FAULT_WRITE, at * 512, 2048);

            tear(&d.tear, at * 512, 2048, kept);
            assert_true(count(kept, 0, 2048) < 2048);
            assert_int_equal(tear(&d.tear, at * 512, 512, kept), 0); /* the only one */
        }
    }
}

static void random_tears_differ_and_keep_whole_units(void **state)
{
    bool kept[LEN], unit_seen[16] = {false};
    unsigned scattered = 0;
    (void)state;

    for (uint64_t at = 0; at < 100; at++) {
        struct fault_decision d = decide("action=torn keep=random", FAULT_WRITE, at * LEN, LEN);

        scattered += tear(&d.tear, at * LEN, LEN, kept) > 1;
        for (unsigned u = 0; u < 16; u++) {
            uint64_t n = count(kept, u * 512, u * 512 + 512);

            assert_true(n == 0 || n == 512);
            unit_seen[u] |= n > 0;
        }
    }
    assert_true(scattered > 90);
    for (unsigned u = 0; u < 16; u++)
        assert_true(unit_seen[u]);
}

static void delays_queue_in_their_lanes(void **state)
{
    static const unsigned at_ms[] = {0, 0, 0, 5, 100}, want_ms[] = {10, 10, 20, 15, 10};
    struct rules *r = FAULTS("op=read action=delay ms=10 lanes=2");
    (void)state;

    for (unsigned i = 0; i < ARRAY_LEN(at_ms); i++) {
        struct fault_req q = {.op = FAULT_READ, .len = 512, .at_ms = at_ms[i]};
        struct fault_decision d;

        rules_decide(r, &q, &d);
        assert_int_equal(d.delay_ns, want_ms[i] * UINT64_C(1000000));
    }
    rules_free(r);
}

static unsigned flipped(const uint8_t *p, uint64_t len)
{
    unsigned n = 0;

    for (uint64_t i = 0; i < len; i++)
        n += (unsigned)__builtin_popcount(p[i]);
    return n;
}

static void exactly_so_many_bits_flip_and_only_in_the_range(void **state)
{
    static const char *const options[] = {
        "action=corrupt range=1024+3 bits=1", "action=corrupt range=1024+3 bits=20",
        "action=corrupt range=1024+3 bits=24", "action=corrupt range=1024+3 bits=64"};
    static const unsigned n[] = {1, 20, 24, 24};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        struct fault_decision d = decide(options[i], FAULT_READ, 512, 1024);
        uint8_t buf[1024] = {0};

        assert_int_equal(d.deed, FAULT_CORRUPT);
        fault_damage(&d.damage, buf, 512, sizeof(buf));
        assert_int_equal(flipped(buf, sizeof(buf)), n[i]);
        assert_int_equal(flipped(buf + 512, 3), n[i]);
    }
}

static void bytes_are_filled(void **state)
{
    struct fault_decision d = decide("action=corrupt byte=0xa5", FAULT_READ, 0, 16);
    uint8_t buf[16] = {1}, want[16];
    (void)state;

    fault_damage(&d.damage, buf, 0, sizeof(buf));
    memset(want, 0xa5, sizeof(want));
    assert_memory_equal(buf, want, sizeof(buf));
    d = decide("op=write action=corrupt zero=on range=4+4", FAULT_WRITE, 0, 16);
    fault_damage(&d.damage, buf, 0, sizeof(buf));
    memset(want + 4, 0, 4);
    assert_memory_equal(buf, want, sizeof(buf));
}

static void a_short_request_never_gets_through(void **state)
{
    (void)state;
    assert_int_equal(decide("action=short", FAULT_READ, 0, 4096).done, 2048);
    assert_int_equal(decide("action=short", FAULT_READ, 0, 1536).done, 512);
    assert_int_equal(decide("action=short", FAULT_READ, 0, 512).done, 0);
    assert_int_equal(decide("action=short bytes=1k", FAULT_READ, 0, 4096).done, 1024);
    assert_int_equal(decide("action=short bytes=1M", FAULT_READ, 0, 4096).done, 4095);
    assert_int_equal(decide("action=short errno=ENOSPC", FAULT_WRITE, 0, 4096).error, ENOSPC);
}

static void other_actions_say_what_to_do(void **state)
{
    (void)state;
    assert_int_equal(decide("op=flush action=lost", FAULT_FLUSH, 0, 0).deed, FAULT_LOST);
    assert_int_equal(decide("action=hang", FAULT_READ, 0, 1).deed, FAULT_HANG);
    assert_int_equal(decide("action=misdirect delta=-64k", FAULT_WRITE, 0, 1).delta, -65536);
    assert_int_equal(decide("action=misdirect delta=+1M", FAULT_WRITE, 0, 1).delta, 1048576);
    assert_int_equal(decide("action=misdirect to=1M", FAULT_WRITE, 4096, 1).delta, 1044480);
    assert_int_equal(decide("action=misdirect to=0", FAULT_WRITE, 4096, 1).delta, -4096);
    assert_false(decide("action=misdirect to=0", FAULT_WRITE, 4096, 1).swap);
    assert_true(decide("action=misdirect to=0 swap=on", FAULT_WRITE, 4096, 1).swap);
    assert_int_equal(decide("action=error errno=28", FAULT_WRITE, 0, 1).error, 28);
    assert_int_equal(decide("action=error", FAULT_BLOCK_STATUS, 0, 1).deed, FAULT_PASS);
}

static char logged[500];

static void sink(enum log_level level, const char *line, void *arg)
{
    snprintf(logged, sizeof(logged), "%s", line);
}

static void log_writes_a_line_and_lets_pass(void **state)
{
    (void)state;
    log_set_sink(sink, NULL);
    log_set_level(LOG_LEVEL_INFO);
    assert_int_equal(decide("id=look op=write action=log", FAULT_WRITE, 4096, 512).deed,
                     FAULT_PASS);
    log_set_level(LOG_LEVEL_WARN);
    log_set_sink(NULL, NULL);
    assert_string_equal(logged, "--fault 1 look: host write 4096+512");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_are_kept_in_units_of_the_disk),
        cmocka_unit_test(something_is_always_lost),
        cmocka_unit_test(a_mask_names_the_units_that_are_kept),
        cmocka_unit_test(behind_the_mask_all_is_lost),
        cmocka_unit_test(delays_queue_in_their_lanes),
        cmocka_unit_test(random_tears_differ_and_keep_whole_units),
        cmocka_unit_test(exactly_so_many_bits_flip_and_only_in_the_range),
        cmocka_unit_test(bytes_are_filled),
        cmocka_unit_test(a_short_request_never_gets_through),
        cmocka_unit_test(other_actions_say_what_to_do),
        cmocka_unit_test(log_writes_a_line_and_lets_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
