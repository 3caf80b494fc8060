/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Copy-before-write, one rule at a time. Random concurrency is in test_cbw_random.c.
 */
#include "tests/unit/block/probe.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/sim.h"
#include "filters/filters.h"

#define UNIT (64 * KiB)
#define DISK (1 * MiB)

static struct sim_disk *disk;
static struct node *live, *cbw;
static uint8_t buf[DISK], want[DISK];

static void open_all(uint64_t size)
{
    memset(want, 0x11, size);
    disk = sim_disk_new(size);
    assert_true(sim_disk_load(disk, want, size));
    live = sim_open(disk, false, NULL);
    live->growable = false;
    cbw = cbw_open(live, NULL);
    assert_non_null(cbw);
}

static void close_all(void)
{
    node_unref(cbw);
    sim_disk_free(disk);
}

static struct node *view_with(uint32_t unit, uint64_t limit)
{
    struct cbw_view_opts opts = {.cluster = unit, .scratch_limit = limit, .scratch_fd = -1};
    struct node *v = cbw_view_open(cbw, &opts, NULL);

    assert_non_null(v);
    return v;
}

static void put(uint64_t off, uint64_t len, int byte)
{
    memset(buf, byte, len);
    assert_int_equal(node_write(cbw, off, buf, len, 0), 0);
}

/* The view's bytes in [off, off + len) are all `byte`. */
static void expect_bytes(struct node *view, uint64_t off, uint64_t len, int byte)
{
    memset(buf, ~byte, len);
    assert_int_equal(node_read(view, off, buf, len), 0);
    for (uint64_t i = 0; i < len; i++)
        assert_int_equal(buf[i], byte);
}

static void count_from_now(void)
{
    sim_fail_nth(disk, &(struct sim_fail){0});
}

SIM_TEST(without_a_view_requests_only_pass)
{
    open_all(DISK);
    count_from_now();
    put(0, 512, 0x22);
    assert_int_equal(sim_io_count(disk), 1);
    expect_bytes(cbw, 0, 512, 0x22);
    close_all();
}

SIM_TEST(each_unit_is_copied_once_and_neighbours_together)
{
    struct node *v;

    open_all(DISK);
    v = view_with(UNIT, DISK);
    count_from_now();
    put(UNIT - 1, 2 * UNIT, 0x22); /* three units */
    /* one status, one read, one write */
    assert_int_equal(sim_io_count(disk), 3);
    assert_int_equal(cbw_view_scratch(v), 3 * UNIT);
    count_from_now();
    put(UNIT - 1, 2 * UNIT, 0x33);
    assert_int_equal(sim_io_count(disk), 1);
    expect_bytes(v, 0, DISK, 0x11);
    expect_bytes(cbw, UNIT - 1, 2 * UNIT, 0x33);
    node_unref(v);
    close_all();
}

SIM_TEST(several_views_cost_one_copy)
{
    struct node *a, *b, *c;

    open_all(DISK);
    a = view_with(UNIT, DISK);
    put(0, 512, 0x22);
    b = view_with(UNIT, DISK);
    c = view_with(UNIT, DISK);
    put(0, 1024, 0x33);
    assert_int_equal(cbw_view_scratch(a), UNIT);
    assert_int_equal(cbw_view_scratch(b), 0);
    assert_int_equal(cbw_view_scratch(c), UNIT);
    expect_bytes(a, 0, DISK, 0x11);
    expect_bytes(b, 0, 512, 0x22);
    expect_bytes(b, 512, 512, 0x11);
    expect_bytes(c, 0, 512, 0x22);
    expect_bytes(cbw, 0, 1024, 0x33);

    /* b needs what c has; a does not. */
    node_unref(c);
    assert_int_equal(cbw_view_scratch(b), UNIT);
    assert_int_equal(cbw_view_scratch(a), UNIT);
    expect_bytes(b, 0, 512, 0x22);
    expect_bytes(b, 512, 512, 0x11);
    node_unref(b);
    assert_int_equal(cbw_view_scratch(a), UNIT);
    expect_bytes(a, 0, DISK, 0x11);
    node_unref(a);
    put(0, 1024, 0x44);
    close_all();
}

SIM_TEST(a_dropped_middle_view_hands_over_to_units_of_another_size)
{
    struct node *a, *b, *c;

    open_all(DISK);
    a = view_with(128 * KiB, DISK);
    b = view_with(4096, DISK);
    put(100 * KiB, 1, 0x22);
    c = view_with(UNIT, DISK);
    put(0, DISK, 0x33);
    node_unref(b);
    assert_int_equal(cbw_view_scratch(a), 128 * KiB);
    expect_bytes(a, 0, DISK, 0x11);
    expect_bytes(c, 100 * KiB, 1, 0x22);
    node_unref(c);
    expect_bytes(a, 0, DISK, 0x11);
    node_unref(a);
    close_all();
}

SIM_TEST(zeros_take_no_scratch_and_show_as_holes)
{
    struct extents ext;
    struct node *v;

    open_all(DISK);
    assert_int_equal(node_zero(live, 0, 2 * UNIT, REQ_MAY_UNMAP), 0);
    memset(buf, 0, UNIT);
    assert_int_equal(node_write(live, 2 * UNIT, buf, UNIT, 0), 0); /* written zeros */
    v = view_with(UNIT, DISK);
    count_from_now();
    put(0, 512, 0x22);
    assert_int_equal(sim_io_count(disk), 2); /* a hole is not read: one status, one write */
    put(0, 4 * UNIT, 0x22);
    assert_int_equal(cbw_view_scratch(v), UNIT);
    expect_bytes(v, 0, 3 * UNIT, 0);
    expect_bytes(v, 3 * UNIT, UNIT, 0x11);
    extents_init(&ext, 10);
    assert_int_equal(node_status(v, 0, DISK, &ext), 0);
    assert_int_equal(ext.n, 2);
    assert_int_equal(ext.v[0].len, 3 * UNIT);
    assert_int_equal(ext.v[0].flags, EXTENT_HOLE | EXTENT_ZERO);
    assert_int_equal(ext.v[1].len, DISK - 3 * UNIT);
    assert_int_equal(ext.v[1].flags, 0);
    extents_free(&ext);
    node_unref(v);
    close_all();
}

SIM_TEST(zeroing_and_discarding_copy_first)
{
    struct node *v;

    open_all(DISK);
    v = view_with(UNIT, DISK);
    assert_int_equal(node_zero(cbw, 0, UNIT, 0), 0);
    assert_int_equal(node_discard(cbw, 4 * UNIT, UNIT), 0);
    assert_int_equal(cbw_view_scratch(v), 2 * UNIT);
    expect_bytes(v, 0, DISK, 0x11);
    node_unref(v);
    close_all();
}

SIM_TEST(resizing_leaves_views_their_size_and_content)
{
    struct node *a, *b;

    open_all(DISK - 1000);
    a = view_with(UNIT, DISK);
    assert_int_equal(node_truncate(cbw, UNIT + 100), 0);
    assert_int_equal(cbw->size, UNIT + 100);
    b = view_with(UNIT, DISK);
    assert_int_equal(node_truncate(cbw, DISK), 0);
    put(0, DISK, 0x22);
    assert_int_equal(a->size, DISK - 1000);
    assert_int_equal(b->size, UNIT + 100);
    expect_bytes(a, 0, DISK - 1000, 0x11);
    expect_bytes(b, 0, UNIT + 100, 0x11);
    node_unref(b);
    expect_bytes(a, 0, DISK - 1000, 0x11);
    node_unref(a);
    close_all();
}

SIM_TEST(past_the_scratch_limit_the_view_breaks_not_the_write)
{
    struct extents ext;
    struct node *a, *b;

    open_all(DISK);
    log_set_level(LOG_LEVEL_ERROR);
    a = view_with(UNIT, 4 * UNIT);
    b = view_with(UNIT, UNIT);
    put(0, UNIT, 0x22);
    assert_false(cbw_view_broken(b));
    put(UNIT, UNIT, 0x22);
    assert_true(cbw_view_broken(b));
    assert_false(cbw_view_broken(a));
    assert_int_equal(node_read(b, 0, buf, 1), -EIO);
    assert_int_equal(node_zero(cbw, 8 * UNIT, UNIT, REQ_MAY_UNMAP), 0);
    extents_init(&ext, 1);
    assert_int_equal(node_status(b, 8 * UNIT, UNIT, &ext), 0); /* neither fails nor promises */
    assert_int_equal(ext.v[0].flags, 0);
    extents_free(&ext);
    /* a took over, and reads what b had from b. */
    expect_bytes(a, 0, DISK, 0x11);
    assert_int_equal(cbw_view_scratch(a), 2 * UNIT);
    node_unref(b);
    assert_int_equal(cbw_view_scratch(a), 3 * UNIT);
    expect_bytes(a, 0, DISK, 0x11);
    expect_bytes(cbw, 0, 2 * UNIT, 0x22);
    node_unref(a);
    log_set_level(LOG_LEVEL_WARN);
    close_all();
}

static int read_result;

static void read_five_units(void *arg)
{
    static uint8_t mine[5 * UNIT];

    read_result = node_read(arg, 0, mine, sizeof(mine));
}

SIM_TEST(a_view_that_breaks_fails_reads_that_are_under_way)
{
    struct node *v;

    open_all(DISK);
    log_set_level(LOG_LEVEL_ERROR);
    v = view_with(UNIT, 2 * UNIT);
    put(1 * UNIT, 1, 0x22);
    put(3 * UNIT, 1, 0x22);
    /* Three reads of the live disk for the view; it breaks after a status and a read. From then on
     * nothing protects what it reads. */
    sim_set_latency(disk, 1000, 1000, 1);
    read_result = 1;
    assert_true(co_start(read_five_units, v));
    put(8 * UNIT, 1, 0x22);
    assert_true(cbw_view_broken(v));
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(read_result, -EIO);
    node_unref(v);
    log_set_level(LOG_LEVEL_WARN);
    close_all();
}

SIM_TEST(old_data_that_cannot_be_read_breaks_the_view)
{
    struct node *v;

    open_all(DISK);
    log_set_level(LOG_LEVEL_ERROR);
    v = view_with(UNIT, DISK);
    sim_fail_nth(disk, &(struct sim_fail){.nth = 1, .error = EIO, .op_mask = 1u << REQ_READ});
    put(0, 512, 0x22);
    assert_true(sim_fired(disk));
    assert_true(cbw_view_broken(v));
    expect_bytes(cbw, 0, 512, 0x22);
    assert_int_equal(node_read(v, DISK / 2, buf, 1), -EIO);
    node_unref(v);
    log_set_level(LOG_LEVEL_WARN);
    close_all();
}

SIM_TEST(without_memory_views_break_and_writes_succeed)
{
    unsigned broken = 0, sound = 0;

    log_set_level(LOG_LEVEL_ERROR);
    /* A failing status costs nothing but the knowledge of zeros, so some fail without harm. */
    for (uint64_t nth = 1; sound < 5; nth++) {
        struct node *v;
        int ret;

        open_all(DISK);
        v = view_with(4096, DISK);
        memset(buf, 0x22, 4096);
        mem_fail_nth(nth, 0);
        ret = node_write(cbw, 4096, buf, 4096, 0);
        mem_fail_nth(0, 0);
        if (cbw_view_broken(v)) {
            broken++;
            assert_int_equal(ret, 0);
            assert_int_equal(node_read(v, 0, buf, 1), -EIO);
        } else {
            /* The simulated leaf needs memory for its own log, last of all. */
            sound += ret == 0;
            expect_bytes(v, 0, DISK, 0x11);
        }
        node_unref(v);
        close_all();
    }
    assert_true(broken > 2);
    log_set_level(LOG_LEVEL_WARN);
}

SIM_TEST(opening_a_view_can_fail_at_any_allocation)
{
    struct cbw_view_opts opts = {.scratch_fd = -1};
    struct node *v = NULL;

    open_all(DISK);
    for (uint64_t nth = 1; !v; nth++) {
        struct err *e = NULL;

        mem_fail_nth(nth, 0);
        v = cbw_view_open(cbw, &opts, &e);
        mem_fail_nth(0, 0);
        assert_true(v || err_code(e) == ENOMEM);
        assert_int_equal(cbw->refs, v ? 2 : 1);
        err_free(e);
    }
    node_unref(v);
    close_all();
}

SIM_TEST(views_are_read_only_and_check_their_options)
{
    static const uint32_t bad[] = {1, 256, 3000, 32 << 20};
    struct node *v;

    open_all(DISK);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct cbw_view_opts opts = {.cluster = bad[i], .scratch_fd = -1};
        struct err *e = NULL;

        assert_null(cbw_view_open(cbw, &opts, &e));
        assert_int_equal(err_code(e), EINVAL);
        err_free(e);
    }
    v = view_with(0, DISK);
    assert_int_equal(node_write(v, 0, buf, 1, 0), -EPERM);
    assert_int_equal(node_discard(v, 0, 1), -EPERM);
    assert_int_equal(node_flush(v), 0);
    node_unref(v);
    close_all();
}

SIM_TEST(a_view_keeps_the_chain_below_it_alive)
{
    struct node *v;

    open_all(DISK);
    v = view_with(UNIT, DISK);
    put(0, 512, 0x22);
    node_unref(cbw);
    expect_bytes(v, 0, DISK, 0x11);
    node_unref(v);
    sim_disk_free(disk);
}

static void scratch_in_a_file(void *arg)
{
    char path[] = "/tmp/cbw-scratch-XXXXXX";
    struct cbw_view_opts opts = {.cluster = UNIT, .scratch_limit = DISK};
    struct node *v;

    opts.scratch_fd = mkstemp(path);
    assert_true(opts.scratch_fd >= 0);
    unlink(path);
    open_all(DISK);
    v = cbw_view_open(cbw, &opts, NULL);
    assert_non_null(v);
    put(3 * UNIT, 2 * UNIT, 0x22);
    assert_int_equal(cbw_view_scratch(v), 2 * UNIT);
    expect_bytes(v, 0, DISK, 0x11);
    /* A scratch that somebody cuts off is an error, not zeros. */
    assert_int_equal(ftruncate(opts.scratch_fd, 4 * UNIT), 0);
    assert_int_equal(node_read(v, 4 * UNIT, buf, 512), -EIO);
    node_unref(v);
    assert_int_equal(fcntl(opts.scratch_fd, F_GETFD), -1); /* closed with the view */
    close_all();
}

static void scratch_may_be_an_unlinked_file(void **state)
{
    struct reactor *r;

    assert_true(reactor_new(REACTOR_AUTO, &r, NULL));
    assert_true(reactor_run_co(r, scratch_in_a_file, NULL));
    reactor_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_view_requests_only_pass),
        cmocka_unit_test(each_unit_is_copied_once_and_neighbours_together),
        cmocka_unit_test(several_views_cost_one_copy),
        cmocka_unit_test(a_dropped_middle_view_hands_over_to_units_of_another_size),
        cmocka_unit_test(zeros_take_no_scratch_and_show_as_holes),
        cmocka_unit_test(zeroing_and_discarding_copy_first),
        cmocka_unit_test(resizing_leaves_views_their_size_and_content),
        cmocka_unit_test(past_the_scratch_limit_the_view_breaks_not_the_write),
        cmocka_unit_test(a_view_that_breaks_fails_reads_that_are_under_way),
        cmocka_unit_test(old_data_that_cannot_be_read_breaks_the_view),
        cmocka_unit_test(without_memory_views_break_and_writes_succeed),
        cmocka_unit_test(opening_a_view_can_fail_at_any_allocation),
        cmocka_unit_test(views_are_read_only_and_check_their_options),
        cmocka_unit_test(a_view_keeps_the_chain_below_it_alive),
        cmocka_unit_test(scratch_may_be_an_unlinked_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
