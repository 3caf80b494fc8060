/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Nodes with blocks: padding, read-modify-write, bounce buffers.
 */
#include "base/mem.h"
#include "base/rng.h"
#include "block/sim.h"
#include "tests/unit/block/probe.h"

static struct probe p;
static uint8_t buf[PROBE_SIZE] __attribute__((aligned(4096)));

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    for (unsigned i = 0; i < PROBE_SIZE; i++)
        p.data[i] = (uint8_t)(i / 512);
    memset(buf, 0xaa, sizeof(buf));
    return 0;
}

static struct node *blocks_open(const struct driver *drv)
{
    struct node *n = probe_open(&p, drv);
    n->limits.align = 512;
    return n;
}

/* Only [off, off + len) holds value; the rest is as setup made it. */
static void expect_only(uint64_t off, uint64_t len, uint8_t value)
{
    for (uint64_t i = 0; i < PROBE_SIZE; i++) {
        uint8_t want = i >= off && i < off + len ? value : (uint8_t)(i / 512);
        if (p.data[i] != want)
            fail_msg("byte %llu is %02x, not %02x", (unsigned long long)i, p.data[i], want);
    }
}

SIM_TEST(events_of_read_modify_write_come_in_blkdebugs_order)
{
    struct node *n = blocks_open(&probe_listener);
    /* Within one block: both ends in one read. */
    assert_int_equal(node_write(n, 1000, buf, 10, 0), 0);
    probe_expect(&p, "pwritev_rmw_head pwritev_rmw_tail R512+512 pwritev_rmw_after_head "
                     "pwritev_rmw_after_tail pwritev W512+512 pwritev_done");
    /* Two neighbouring blocks: the same. */
    assert_int_equal(node_write(n, 1000, buf, 100, 0), 0);
    probe_expect(&p, "pwritev_rmw_head pwritev_rmw_tail R512+1024 pwritev_rmw_after_head "
                     "pwritev_rmw_after_tail pwritev W512+1024 pwritev_done");
    /* Ends apart. */
    assert_int_equal(node_write(n, 1000, buf, 1000, 0), 0);
    probe_expect(&p, "pwritev_rmw_head R512+512 pwritev_rmw_after_head pwritev_rmw_tail R1536+512 "
                     "pwritev_rmw_after_tail pwritev W512+1536 pwritev_done");
    /* One end only. */
    assert_int_equal(node_write(n, 512, buf, 10, 0), 0);
    probe_expect(&p, "pwritev_rmw_tail R512+512 pwritev_rmw_after_tail pwritev W512+512 "
                     "pwritev_done");
    assert_int_equal(node_write(n, 1000, buf, 24, 0), 0);
    probe_expect(&p, "pwritev_rmw_head R512+512 pwritev_rmw_after_head pwritev W512+512 "
                     "pwritev_done");
    node_unref(n);
}

SIM_TEST(an_unaligned_write_changes_its_bytes_only)
{
    struct node *n = blocks_open(&probe_driver);
    assert_int_equal(node_write(n, 1000, buf, 10, 0), 0);
    expect_only(1000, 10, 0xaa);
    setup(NULL);
    assert_int_equal(node_write(n, 700, buf, 5000, 0), 0);
    expect_only(700, 5000, 0xaa);
    setup(NULL);
    n->limits.max_len = 1024;
    assert_int_equal(node_write(n, 511, buf, 5000, 0), 0);
    expect_only(511, 5000, 0xaa);
    p.trace[0] = 0;
    node_unref(n);
}

SIM_TEST(unaligned_zeros_take_whole_blocks_the_fast_way)
{
    struct node *n = blocks_open(&probe_listener);
    assert_int_equal(node_zero(n, 1000, 3000, 0), 0);
    probe_expect(&p, "pwritev_rmw_head R512+512 pwritev_rmw_after_head pwritev_rmw_tail R3584+512 "
                     "pwritev_rmw_after_tail pwritev W512+512 pwritev_done pwritev_zero "
                     "Z1024+2560 pwritev_done pwritev W3584+512 pwritev_done");
    expect_only(1000, 3000, 0);
    setup(NULL);
    assert_int_equal(node_zero(n, 1000, 10, 0), 0);
    expect_only(1000, 10, 0);
    assert_int_equal(node_zero(n, 1000, 10, REQ_NO_FALLBACK), -ENOTSUP);
    p.trace[0] = 0;
    node_unref(n);
}

SIM_TEST(discards_leave_out_blocks_that_they_cover_in_part)
{
    struct node *n = blocks_open(&probe_driver);
    n->growable = true;
    n->size = 10000; /* the last block sticks out */
    assert_int_equal(node_discard(n, 100, 1000), 0);
    probe_expect(&p, "D512+512");
    assert_int_equal(node_discard(n, 100, 400), 0);
    probe_expect(&p, "");
    assert_int_equal(node_discard(n, 9000, 1000), 0);
    probe_expect(&p, "D9216+1024");
    node_unref(n);
}

SIM_TEST(a_failed_read_of_the_old_block_fails_the_write)
{
    struct node *n = blocks_open(&probe_driver);
    p.fail[REQ_READ] = -EIO;
    assert_int_equal(node_write(n, 1000, buf, 10, 0), -EIO);
    assert_int_equal(node_zero(n, 1000, 5000, 0), -EIO);
    probe_expect(&p, "R512+512 R512+512");
    expect_only(0, 0, 0);
    node_unref(n);
}

SIM_TEST(without_memory_for_a_bounce_buffer_nothing_is_written)
{
    struct node *n = blocks_open(&probe_driver);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        mem_fail_nth(nth, 0);
        assert_int_equal(node_write(n, 1000, buf, 10, 0), -ENOMEM);
        mem_fail_nth(0, 0);
    }
    expect_only(0, 0, 0);
    p.trace[0] = 0;
    node_unref(n);
}

SIM_TEST(unaligned_reads_and_unfit_memory_go_through_a_buffer)
{
    struct node *n = blocks_open(&probe_driver);
    n->limits.mem_align = 512;
    static uint8_t odd[8192] __attribute__((aligned(512)));
    for (unsigned i = 0; i < PROBE_SIZE; i++)
        p.data[i] = (uint8_t)(i * 7 / 5);
    assert_int_equal(node_read(n, 1000, odd + 1, 3000), 0);
    probe_expect(&p, "R512+3584");
    assert_memory_equal(odd + 1, p.data + 1000, 3000);
    assert_int_equal(node_read(n, 512, odd + 1, 512), 0);
    assert_memory_equal(odd + 1, p.data + 512, 512);
    assert_int_equal(node_read(n, 512, odd, 512), 0);
    probe_expect(&p, "R512+512 R512+512");
    assert_int_equal(node_write(n, 1024, odd + 3, 1024, 0), 0);
    probe_expect(&p, "W1024+1024");
    assert_memory_equal(odd + 3, p.data + 1024, 1024);
    n->limits.max_len = 1024;
    assert_int_equal(node_read(n, 1000, odd + 1, 3000), 0);
    assert_memory_equal(odd + 1, p.data + 1000, 3000);
    p.trace[0] = 0;
    node_unref(n);
}

/* Concurrent writers, each with its own bytes, on a disk with random latency. */
#define WRITERS 32
#define AREA 4096

static struct node *area;
static unsigned finished;

static void writer(void *arg)
{
    /* Interleaved ownership: byte i belongs to writer i / 13 % WRITERS. */
    unsigned id = (unsigned)(uintptr_t)arg;
    uint8_t mine[13];
    memset(mine, (int)id + 1, sizeof(mine));
    for (unsigned off = id * 13; off + 13 <= AREA; off += WRITERS * 13) {
        if (off % 3)
            assert_int_equal(node_write(area, off, mine, sizeof(mine), 0), 0);
        else
            assert_int_equal(node_zero(area, off, sizeof(mine), 0), 0);
    }
    finished++;
}

static void block_writer(void *arg)
{
    /* Whole blocks beside them: these must not be undone either. */
    static uint8_t block[512];
    memset(block, 0xee, sizeof(block));
    assert_int_equal(node_write(area, AREA, block, 512, 0), 0);
    assert_int_equal(node_write(area, AREA + 512 + 100, block, 412, 0), 0);
    finished++;
}

SIM_TEST(concurrent_unaligned_writes_lose_no_byte)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_disk *d = sim_disk_new(AREA + 1024);
        sim_set_latency(d, 0, 1000, seed);
        area = sim_open(d, false, NULL);
        area->limits.align = 512;
        finished = 0;
        for (unsigned i = 0; i < WRITERS; i++)
            assert_true(co_start(writer, (void *)(uintptr_t)i));
        assert_true(co_start(block_writer, NULL));
        assert_int_equal(node_write(area, AREA + 10, "x", 1, 0), 0);
        assert_int_equal(node_write(area, AREA + 512 + 10, "x", 1, 0), 0);
        while (finished < WRITERS + 1)
            co_sleep_until(clock_ns() + 1000);
        static uint8_t got[AREA + 1024];
        sim_disk_peek(d, 0, got, sizeof(got));
        for (unsigned i = 0; i / 13 * 13 + 13 <= AREA; i++) {
            unsigned start = i / 13 * 13;
            uint8_t want = start % 3 ? (uint8_t)(i / 13 % WRITERS + 1) : 0;
            if (got[i] != want)
                fail_msg("seed %llu: byte %u is %u, not %u", (unsigned long long)seed, i, got[i],
                         want);
        }
        assert_int_equal(got[AREA + 512 + 10], 'x');
        assert_int_equal(got[AREA + 512 + 100], 0xee);
        node_unref(area);
        sim_disk_free(d);
    }
}

SIM_TEST(a_whole_block_write_is_not_undone_by_a_cycle_around_it)
{
    /* The cycle reads the block, then the whole write would come, then the cycle writes. */
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_disk *d = sim_disk_new(AREA + 1024);
        sim_set_latency(d, 10, 1000, seed);
        area = sim_open(d, false, NULL);
        area->limits.align = 512;
        finished = 0;
        static uint8_t block[512];
        assert_true(co_start(block_writer, NULL));
        assert_int_equal(node_write(area, AREA + 10, "x", 1, 0), 0);
        while (finished < 1)
            co_sleep_until(clock_ns() + 1000);
        sim_disk_peek(d, AREA, block, 512);
        /* First come, first served: the whole block, then the byte. */
        for (unsigned i = 0; i < 512; i++)
            assert_int_equal(block[i], i == 10 ? 'x' : 0xee);
        node_unref(area);
        sim_disk_free(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(events_of_read_modify_write_come_in_blkdebugs_order, setup),
        cmocka_unit_test_setup(an_unaligned_write_changes_its_bytes_only, setup),
        cmocka_unit_test_setup(unaligned_zeros_take_whole_blocks_the_fast_way, setup),
        cmocka_unit_test_setup(discards_leave_out_blocks_that_they_cover_in_part, setup),
        cmocka_unit_test_setup(a_failed_read_of_the_old_block_fails_the_write, setup),
        cmocka_unit_test_setup(without_memory_for_a_bounce_buffer_nothing_is_written, setup),
        cmocka_unit_test_setup(unaligned_reads_and_unfit_memory_go_through_a_buffer, setup),
        cmocka_unit_test_setup(concurrent_unaligned_writes_lose_no_byte, setup),
        cmocka_unit_test_setup(a_whole_block_write_is_not_undone_by_a_cycle_around_it, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
