/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The simulated disk: failures, the log, and crash states worked out by hand.
 */
#include "base/rng.h"
#include "block/sim.h"
#include "tests/unit/block/probe.h"

#define SECTOR 512

static struct sim_disk *d;
static struct node *n;
static uint8_t buf[16 * SECTOR];

static void open_disk(uint64_t sectors)
{
    d = sim_disk_new(sectors * SECTOR);
    assert_non_null(d);
    n = sim_open(d, false, NULL);
    assert_non_null(n);
}

static void close_disk(void)
{
    node_unref(n);
    sim_disk_free(d);
}

static void put(uint64_t sector, char value, unsigned count, uint32_t flags)
{
    memset(buf, value, sizeof(buf));
    assert_int_equal(node_write(n, sector * SECTOR, buf, count * SECTOR, flags), 0);
}

/* The disk as a text: one letter a sector, '.' for zeros, '?' for a mixture. */
static const char *text_of(const struct sim_disk *disk)
{
    static char text[64];
    uint64_t sectors = sim_disk_size(disk) / SECTOR;
    assert_true(sectors < sizeof(text));
    for (uint64_t s = 0; s < sectors; s++) {
        uint8_t b[SECTOR];
        sim_disk_peek(disk, s * SECTOR, b, SECTOR);
        text[s] = b[0] ? (char)b[0] : '.';
        for (unsigned i = 1; i < SECTOR; i++) {
            if (b[i] != b[0])
                text[s] = '?';
        }
    }
    text[sectors] = 0;
    return text;
}

/* What a cut at `at` leaves when keep says so, one digit a volatile entry. */
static void expect_crash(uint64_t at, const char *keep, const char *text)
{
    uint8_t k[64];
    for (unsigned i = 0; keep[i]; i++)
        k[i] = (uint8_t)(keep[i] - '0');
    assert_int_equal(sim_volatile(d, at, NULL, 0), strlen(keep));
    struct sim_crash c = {.at = at, .keep = k, .tear_seed = 1, .unit = SECTOR};
    struct sim_disk *state = sim_crash_disk(d, &c);
    assert_non_null(state);
    assert_string_equal(text_of(state), text);
    sim_disk_free(state);
}

SIM_TEST(a_flush_makes_durable_what_had_completed_before_it)
{
    open_disk(4);
    put(0, 'a', 1, 0);
    put(1, 'b', 1, 0);
    expect_crash(sim_seq(d), "00", "....");
    expect_crash(sim_seq(d), "01", ".b..");
    expect_crash(sim_seq(d), "11", "ab..");
    assert_int_equal(node_flush(n), 0);
    expect_crash(sim_seq(d), "", "ab..");
    put(0, 'c', 1, 0);
    expect_crash(sim_seq(d), "0", "ab..");
    expect_crash(sim_seq(d), "1", "cb..");
    /* Back in time: the moment before the flush ended, and before the second write. */
    uint64_t flush_end = sim_log_at(d, 2)->completed;
    expect_crash(flush_end, "10", "a...");
    expect_crash(flush_end + 1, "", "ab..");
    expect_crash(sim_log_at(d, 1)->issued, "0", "....");
    expect_crash(1, "", "....");
    close_disk();
}

SIM_TEST(a_fua_write_is_durable_alone)
{
    open_disk(4);
    put(0, 'a', 1, 0);
    put(1, 'b', 1, REQ_FUA);
    expect_crash(sim_seq(d), "0", ".b..");
    expect_crash(sim_seq(d), "1", "ab..");
    /* While it runs it may be lost. */
    expect_crash(sim_log_at(d, 1)->completed, "00", "....");
    assert_int_equal(node_zero(n, SECTOR, SECTOR, REQ_FUA), 0);
    expect_crash(sim_seq(d), "0", "....");
    close_disk();
}

SIM_TEST(a_failed_flush_leaves_what_it_covered_in_doubt_for_ever)
{
    open_disk(4);
    put(0, 'a', 1, 0);
    sim_fail_nth(d, &(struct sim_fail){.nth = 1, .error = EIO, .op_mask = 1u << REQ_FLUSH});
    assert_int_equal(node_flush(n), -EIO);
    assert_true(sim_fired(d));
    put(1, 'b', 1, 0);
    assert_int_equal(node_flush(n), 0);
    expect_crash(sim_seq(d), "0", ".b..");
    expect_crash(sim_seq(d), "1", "ab..");
    /* What it left in doubt does not come back over what was written later. */
    put(0, 'c', 1, 0);
    assert_int_equal(node_flush(n), 0);
    expect_crash(sim_seq(d), "1", "cb..");
    close_disk();
}

SIM_TEST(zero_discard_and_truncate_are_writes_too)
{
    open_disk(4);
    put(0, 'a', 4, 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_zero(n, 0, SECTOR, 0), 0);
    assert_int_equal(node_discard(n, SECTOR, SECTOR), 0);
    assert_int_equal(node_truncate(n, 3 * SECTOR), 0);
    assert_int_equal(node_truncate(n, 5 * SECTOR), 0);
    assert_string_equal(text_of(d), "..a..");
    expect_crash(sim_seq(d), "0000", "aaaa");
    expect_crash(sim_seq(d), "1000", ".aaa");
    expect_crash(sim_seq(d), "0100", "a.aa");
    expect_crash(sim_seq(d), "0010", "aaa");
    expect_crash(sim_seq(d), "0001", "aaaa.");
    expect_crash(sim_seq(d), "1111", "..a..");
    close_disk();
}

SIM_TEST(growth_is_lost_with_the_write_that_caused_it)
{
    open_disk(1);
    put(1, 'a', 2, 0);
    put(3, 'b', 1, 0);
    assert_int_equal(n->size, 4 * SECTOR);
    expect_crash(sim_seq(d), "00", ".");
    expect_crash(sim_seq(d), "10", ".aa");
    expect_crash(sim_seq(d), "01", "...b");
    close_disk();
}

SIM_TEST(a_torn_write_keeps_some_of_its_sectors_and_loses_some)
{
    open_disk(16);
    put(0, 'a', 16, 0);
    assert_int_equal(node_flush(n), 0);
    put(2, 'b', 8, 0);
    unsigned seen[17] = {0};
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint8_t keep = 2;
        struct sim_crash c = {.at = sim_seq(d), .keep = &keep, .tear_seed = seed, .unit = SECTOR};
        struct sim_disk *state = sim_crash_disk(d, &c);
        const char *text = text_of(state);
        assert_null(strchr(text, '?'));
        assert_memory_equal(text, "aa", 2);
        assert_memory_equal(text + 10, "aaaaaa", 6);
        unsigned kept = 0;
        for (unsigned i = 2; i < 10; i++)
            kept += text[i] == 'b';
        assert_in_range(kept, 1, 7);
        seen[kept]++;
        sim_disk_free(state);

        /* A unit of 4096 tears at multiples of it only: here sector 8. */
        c.unit = 4096;
        state = sim_crash_disk(d, &c);
        text = text_of(state);
        assert_true(!strcmp(text, "aabbbbbbaaaaaaaa") || !strcmp(text, "aaaaaaaabbaaaaaa"));
        sim_disk_free(state);
    }
    assert_true(seen[1] + seen[2] > 0 && seen[4] > 0 && seen[6] + seen[7] > 0);

    /* A single unit cannot tear: it is there or not. */
    assert_int_equal(node_flush(n), 0);
    put(0, 'c', 1, 0);
    unsigned there = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        uint8_t keep = 2;
        struct sim_crash c = {.at = sim_seq(d), .keep = &keep, .tear_seed = seed, .unit = SECTOR};
        struct sim_disk *state = sim_crash_disk(d, &c);
        assert_true(text_of(state)[0] == 'a' || text_of(state)[0] == 'c');
        there += text_of(state)[0] == 'c';
        sim_disk_free(state);
    }
    assert_in_range(there, 1, 49);
    close_disk();
}

SIM_TEST(the_nth_io_fails_and_nothing_else)
{
    open_disk(8);
    sim_fail_nth(d, &(struct sim_fail){.nth = 3, .error = ENOSPC});
    put(0, 'a', 1, 0);
    assert_int_equal(node_read(n, 0, buf, SECTOR), 0);
    assert_false(sim_fired(d));
    assert_int_equal(node_write(n, 0, "x", 1, 0), -ENOSPC);
    assert_true(sim_fired(d));
    assert_string_equal(text_of(d), "a.......");
    put(1, 'b', 1, 0);
    assert_int_equal(sim_io_count(d), 4);

    /* Only some operations, and from then on always. */
    sim_fail_nth(
        d, &(struct sim_fail){.nth = 2, .error = EIO, .op_mask = 1u << REQ_READ, .sticky = true});
    assert_int_equal(node_read(n, 0, buf, SECTOR), 0);
    put(2, 'c', 1, 0);
    assert_int_equal(node_read(n, 0, buf, SECTOR), -EIO);
    assert_int_equal(node_read(n, 0, buf, SECTOR), -EIO);
    assert_int_equal(node_flush(n), 0);
    sim_fail_nth(d, &(struct sim_fail){0});
    assert_int_equal(node_read(n, 0, buf, SECTOR), 0);
    assert_false(sim_fired(d));
    close_disk();
}

SIM_TEST(a_write_that_fails_half_way_leaves_its_first_half_in_doubt)
{
    open_disk(8);
    put(0, 'a', 8, 0);
    assert_int_equal(node_flush(n), 0);
    sim_fail_nth(d, &(struct sim_fail){.nth = 1, .error = EIO, .partial = true});
    memset(buf, 'b', sizeof(buf));
    assert_int_equal(node_write(n, 0, buf, 4 * SECTOR, 0), -EIO);
    assert_string_equal(text_of(d), "bbaaaaaa");
    assert_int_equal(node_flush(n), 0);
    expect_crash(sim_seq(d), "0", "aaaaaaaa");
    expect_crash(sim_seq(d), "1", "bbaaaaaa");
    /* One that fails outright is never there, not even while it runs. */
    sim_fail_nth(d, &(struct sim_fail){.nth = 1, .error = EIO});
    assert_int_equal(node_write(n, 4 * SECTOR, buf, SECTOR, 0), -EIO);
    expect_crash(sim_seq(d), "1", "bbaaaaaa");
    close_disk();
}

SIM_TEST(the_log_tells_every_change_in_order)
{
    open_disk(8);
    struct req r = {.op = REQ_WRITE,
                    .kind = KIND_L2,
                    .flags = REQ_FUA,
                    .off = SECTOR,
                    .len = SECTOR,
                    .buf = buf};
    memset(buf, 'k', SECTOR);
    assert_int_equal(node_submit(n, &r), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_truncate(n, 100), 0);
    assert_int_equal(node_read(n, 0, buf, 10), 0);
    assert_int_equal(sim_log_len(d), 3);
    const struct sim_entry *e = sim_log_at(d, 0);
    assert_int_equal(e->op, REQ_WRITE);
    assert_int_equal(e->kind, KIND_L2);
    assert_int_equal(e->flags, REQ_FUA);
    assert_int_equal(e->off, SECTOR);
    assert_int_equal(e->len, SECTOR);
    assert_int_equal(((const char *)e->data)[SECTOR - 1], 'k');
    assert_int_equal(e->issued, 1);
    assert_int_equal(e->completed, 2);
    assert_int_equal(sim_log_at(d, 1)->op, REQ_FLUSH);
    assert_int_equal(sim_log_at(d, 2)->op, REQ_TRUNCATE);
    assert_int_equal(sim_log_at(d, 2)->off, 100);
    assert_null(sim_log_at(d, 3));
    assert_true(sim_log_mark(d));
    assert_int_equal(sim_log_len(d), 0);
    expect_crash(sim_seq(d), "", "");
    close_disk();
}

SIM_TEST(a_disk_has_one_writer_and_outlives_it)
{
    open_disk(4);
    struct err *err = NULL;
    assert_null(sim_open(d, false, &err));
    assert_int_equal(err_code(err), EBUSY);
    err_free(err);
    struct node *ro = sim_open(d, true, NULL);
    assert_int_equal(node_write(ro, 0, buf, 1, 0), -EPERM);
    put(0, 'a', 1, 0);
    assert_int_equal(node_read(ro, 0, buf, SECTOR), 0);
    assert_int_equal(buf[0], 'a');
    node_unref(ro);
    node_unref(n);
    n = sim_open(d, false, NULL);
    assert_string_equal(text_of(d), "a...");
    assert_true(sim_disk_load(d, "zzzz", 4));
    assert_int_equal(sim_disk_size(d), 4);
    sim_disk_peek(d, 0, buf, 6);
    assert_memory_equal(buf, "zzzz\0\0", 6);
    close_disk();
}

/* --- Concurrency. --- */

static unsigned ended;

static void write_one(void *arg)
{
    unsigned id = (unsigned)(uintptr_t)arg;
    uint8_t b[SECTOR];
    memset(b, 'a' + (int)id, sizeof(b));
    assert_int_equal(node_write(n, (uint64_t)(id % 4) * SECTOR, b, sizeof(b), 0), 0);
    ended++;
}

SIM_TEST(a_second_part_has_its_own_flushes_and_size)
{
    open_disk(2);
    struct node *second = sim_open_second(d, false, NULL);
    assert_non_null(second);
    assert_null(sim_open_second(d, false, NULL));
    put(0, 'a', 1, 0);
    memset(buf, 'z', SECTOR);
    assert_int_equal(node_write(second, SECTOR, buf, SECTOR, 0), 0);
    assert_int_equal(sim_disk_size(d), 2 * SECTOR);
    assert_int_equal(sim_second_size(d), 2 * SECTOR);
    assert_int_equal(sim_log_at(d, 0)->part, 0);
    assert_int_equal(sim_log_at(d, 1)->part, 1);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(sim_volatile(d, sim_seq(d), NULL, 0), 1);
    expect_crash(sim_seq(d), "0", "a.");
    assert_int_equal(node_flush(second), 0);
    assert_int_equal(sim_volatile(d, sim_seq(d), NULL, 0), 0);
    assert_int_equal(node_read(second, SECTOR, buf, SECTOR), 0);
    assert_int_equal(buf[0], 'z');
    assert_int_equal(node_read(second, 0, buf, SECTOR), 0);
    assert_int_equal(buf[0], 0);
    sim_disk_peek(d, SIM_SECOND + SECTOR, buf, 1);
    assert_int_equal(buf[0], 'z');
    node_unref(second);
    close_disk();
}

SIM_TEST(what_is_in_flight_when_the_flush_is_issued_stays_volatile)
{
    open_disk(4);
    sim_set_latency(d, 100, 100, 1);
    ended = 0;
    assert_true(co_start(write_one, (void *)0)); /* ends before the flush is issued */
    co_sleep_until(clock_ns() + 150);
    assert_true(co_start(write_one, (void *)1)); /* issued before, ends during */
    co_sleep_until(clock_ns() + 50);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(ended, 2);
    expect_crash(sim_seq(d), "0", "a...");
    expect_crash(sim_seq(d), "1", "ab..");
    close_disk();
}

SIM_TEST(what_is_in_flight_may_have_arrived)
{
    open_disk(4);
    put(0, 'z', 1, 0);
    sim_set_latency(d, 100, 100, 1);
    ended = 0;
    assert_true(co_start(write_one, (void *)0));
    assert_int_equal(ended, 0);
    expect_crash(sim_seq(d), "10", "z...");
    expect_crash(sim_seq(d), "11", "a...");
    expect_crash(sim_seq(d), "01", "a...");
    co_sleep_until(clock_ns() + 150);
    close_disk();
}

SIM_TEST(a_failed_flush_does_so_also_beside_requests_in_flight)
{
    open_disk(4);
    sim_set_latency(d, 1000, 1000, 1);
    ended = 0;
    assert_true(co_start(write_one, (void *)0));
    sim_set_latency(d, 100, 100, 1);
    put(1, 'x', 1, 0);
    sim_fail_nth(d, &(struct sim_fail){.nth = 1, .error = EIO, .op_mask = 1u << REQ_FLUSH});
    assert_int_equal(node_flush(n), -EIO);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(ended, 0);
    expect_crash(sim_seq(d), "00", "....");
    expect_crash(sim_seq(d), "01", ".x..");
    co_sleep_until(clock_ns() + 2000);
    assert_int_equal(node_flush(n), 0);
    expect_crash(sim_seq(d), "0", "a...");
    close_disk();
}

SIM_TEST(keeping_everything_gives_what_a_reader_saw)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        open_disk(4);
        sim_set_latency(d, 0, 1000, seed);
        ended = 0;
        for (uintptr_t i = 0; i < 20; i++)
            assert_true(co_start(write_one, (void *)i));
        for (int step = 0; ended < 20; step++) {
            if (step % 7 == 3)
                assert_int_equal(node_flush(n), 0);
            /* In-flight entries must be lost to see what the reader saw. */
            uint64_t idx[64];
            uint8_t keep[64];
            unsigned k = sim_volatile(d, sim_seq(d), idx, 64);
            for (unsigned i = 0; i < k; i++)
                keep[i] = sim_log_at(d, idx[i])->completed != 0;
            struct sim_crash c = {.at = sim_seq(d), .keep = keep, .unit = SECTOR};
            struct sim_disk *state = sim_crash_disk(d, &c);
            char now[64];
            strcpy(now, text_of(d));
            if (strcmp(text_of(state), now))
                fail_msg("seed %llu step %d", (unsigned long long)seed, step);
            sim_disk_free(state);
            co_sleep_until(clock_ns() + 40);
        }
        close_disk();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flush_makes_durable_what_had_completed_before_it),
        cmocka_unit_test(a_fua_write_is_durable_alone),
        cmocka_unit_test(a_failed_flush_leaves_what_it_covered_in_doubt_for_ever),
        cmocka_unit_test(zero_discard_and_truncate_are_writes_too),
        cmocka_unit_test(growth_is_lost_with_the_write_that_caused_it),
        cmocka_unit_test(a_torn_write_keeps_some_of_its_sectors_and_loses_some),
        cmocka_unit_test(the_nth_io_fails_and_nothing_else),
        cmocka_unit_test(a_write_that_fails_half_way_leaves_its_first_half_in_doubt),
        cmocka_unit_test(the_log_tells_every_change_in_order),
        cmocka_unit_test(a_disk_has_one_writer_and_outlives_it),
        cmocka_unit_test(a_second_part_has_its_own_flushes_and_size),
        cmocka_unit_test(what_is_in_flight_when_the_flush_is_issued_stays_volatile),
        cmocka_unit_test(what_is_in_flight_may_have_arrived),
        cmocka_unit_test(a_failed_flush_does_so_also_beside_requests_in_flight),
        cmocka_unit_test(keeping_everything_gives_what_a_reader_saw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
