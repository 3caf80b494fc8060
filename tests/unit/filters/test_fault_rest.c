/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Damage at rest lies over the disk: reads find it, the disk below has the truth, and a later write
 * ends it. Bad sectors, stale and stuck reads. Selectors that look at more than the request.
 */
#include "tests/unit/block/probe.h"

#include "base/log.h"
#include "base/mem.h"
#include "block/mem_disk.h"
#include "faults/fault.h"
#include "filters/filters.h"

static uint8_t buf[64 * 1024], got[64 * 1024];
static struct node *disk; /* below the filter */

static struct node *over_mem(const char *option)
{
    struct rules *rules = rules_new(fault_names());
    struct err *e = NULL;
    struct node *n;

    if (!rules_load_option(rules, option, 1, &e))
        fail_msg("%s", err_msg(e));
    rules_set_seed(rules, 1);
    disk = mem_open(1 * MiB, NULL);
    n = fault_open(disk, rules, NULL);
    assert_non_null(n);
    return n;
}

static void put(struct node *n, uint64_t off, uint64_t len, uint8_t byte)
{
    memset(buf, byte, len);
    assert_int_equal(node_write(n, off, buf, len, 0), 0);
}

static void expect(struct node *n, uint64_t off, uint64_t len, uint8_t byte)
{
    assert_int_equal(node_read(n, off, got, len), 0);
    for (uint64_t i = 0; i < len; i++)
        if (got[i] != byte)
            fail_msg("byte %llu is 0x%02x, not 0x%02x", (unsigned long long)(off + i), got[i],
                     byte);
}

SIM_TEST(a_lost_write_is_on_the_disk_and_reads_do_not_find_it)
{
    struct node *n = over_mem("op=write nth=2 action=lost");
    struct extents ext;

    put(n, 0, 8192, 1);
    put(n, 4096, 8192, 2);
    expect(n, 0, 8192, 1);
    expect(n, 8192, 4096, 0);
    expect(disk, 4096, 8192, 2);
    /* The disk holds data where reads find none, and the other way round: all is data. */
    extents_init(&ext, 8);
    assert_int_equal(node_status(n, 8192, 4096, &ext), 0);
    assert_int_equal(ext.v[0].flags & EXTENT_ZERO, 0);
    extents_free(&ext);
    /* A write in the middle ends the damage there only. */
    put(n, 6144, 512, 3);
    expect(n, 4096, 2048, 1);
    expect(n, 6144, 512, 3);
    expect(n, 6656, 512, 1);
    assert_int_equal(node_zero(n, 4096, 8192, 0), 0);
    expect(n, 4096, 8192, 0);
    node_unref(n);
}

SIM_TEST(a_torn_write_lies_over_the_whole_one)
{
    struct node *n = over_mem("op=write action=torn unit=4k keep=suffix once=on");

    put(n, 4096, 16384, 1);
    expect(n, 4096, 8192, 0);
    expect(n, 4096 + 8192, 8192, 1);
    expect(disk, 4096, 16384, 1);
    put(n, 4096, 16384, 2);
    expect(n, 4096, 16384, 2);
    node_unref(n);
}

SIM_TEST(a_misdirected_write_is_found_elsewhere_and_is_where_it_should_be)
{
    struct node *n = over_mem("op=write range=64k+4k action=misdirect delta=-8k once=on");

    put(n, 64 * KiB, 4096, 1);
    expect(n, 64 * KiB, 4096, 0);
    expect(n, 56 * KiB, 4096, 1);
    expect(disk, 64 * KiB, 4096, 1);
    expect(disk, 56 * KiB, 4096, 0);
    node_unref(n);
}

SIM_TEST(a_swapped_write_changes_places_with_what_was_there)
{
    static const char *const options[] = {
        "op=write nth=3 action=misdirect to=64k swap=on",
        "op=write nth=3 action=misdirect to=64k swap=on where=disk"};

    for (unsigned i = 0; i < 2; i++) {
        struct node *n = over_mem(options[i]);

        put(n, 0, 4096, 1);
        put(n, 64 * KiB, 8192, 2);
        put(n, 0, 4096, 3);
        expect(n, 0, 4096, 2);
        expect(n, 64 * KiB, 4096, 3);
        expect(n, 68 * KiB, 4096, 2);
        expect(disk, 0, 4096, i ? 2 : 3);
        expect(disk, 64 * KiB, 4096, i ? 3 : 2);
        node_unref(n);
    }
}

SIM_TEST(a_swap_with_what_is_not_there_is_a_loss)
{
    struct node *n = over_mem("op=write nth=2 action=misdirect to=1020k swap=on");

    put(n, 0, 8192, 1);
    put(n, 0, 8192, 2); /* it would end behind the disk */
    expect(n, 0, 8192, 1);
    expect(n, 1020 * KiB, 4096, 0);
    expect(disk, 0, 8192, 2);
    node_unref(n);
}

SIM_TEST(a_corrupted_write_is_whole_on_the_disk)
{
    struct node *n = over_mem("op=write action=corrupt byte=0x77 range=512+512");

    put(n, 0, 4096, 1);
    expect(n, 0, 512, 1);
    expect(n, 512, 512, 0x77);
    expect(n, 1024, 3072, 1);
    expect(disk, 0, 4096, 1);
    node_unref(n);
}

SIM_TEST(a_failed_write_is_not_damaged)
{
    struct node *n = over_mem("op=write action=lost");

    put(n, 0, 512, 1);
    disk->read_only = true;
    memset(buf, 2, 512);
    assert_int_equal(node_write(n, 4096, buf, 512, 0), -EPERM);
    disk->read_only = false;
    expect(n, 4096, 512, 0);
    node_unref(n);
}

SIM_TEST(a_bad_sector_is_healed_by_a_write_that_covers_it)
{
    struct node *n = over_mem("range=4k+1k action=badsector");

    put(n, 0, 4096, 1);
    expect(n, 0, 4096, 1);
    assert_int_equal(node_read(n, 4096, got, 512), -EIO);
    assert_int_equal(node_read(n, 4600, got, 512), -EIO);
    put(n, 4096, 511, 2); /* not the whole sector */
    assert_int_equal(node_read(n, 4096, got, 512), -EIO);
    put(n, 4000, 700, 3);
    expect(n, 4096, 512, 3);
    assert_int_equal(node_read(n, 4096, got, 1024), -EIO);
    assert_int_equal(node_zero(n, 4608, 512, 0), 0);
    expect(n, 4608, 512, 0);
    node_unref(n);
}

SIM_TEST(a_bad_sector_may_stay_bad)
{
    struct node *n = over_mem("range=4k+512 action=badsector heal=never");

    put(n, 0, 8192, 1);
    assert_int_equal(node_read(n, 0, got, 8192), -EIO);
    expect(n, 4608, 512, 1);
    node_unref(n);
}

SIM_TEST(stale_reads_find_what_was_there_before_the_last_write)
{
    struct node *n = over_mem("op=read range=0+4k action=corrupt stale=on every=2");

    put(n, 0, 8192, 1);
    put(n, 0, 8192, 2);
    put(n, 0, 512, 3);
    expect(n, 0, 512, 3);
    expect(n, 0, 512, 2);
    expect(n, 512, 512, 2);
    expect(n, 512, 512, 1);
    expect(n, 4096, 4096, 2); /* out of its range */
    expect(n, 4096, 4096, 2);
    expect(disk, 0, 512, 3);
    node_unref(n);
}

SIM_TEST(stuck_reads_find_what_was_there_first)
{
    struct node *n = over_mem("op=read range=0+4k action=corrupt stuck=on");

    assert_int_equal(node_write(disk, 0, memset(buf, 9, 512), 512, 0), 0);
    for (uint8_t i = 1; i < 4; i++)
        put(n, 0, 4096, i);
    expect(n, 0, 512, 9);
    expect(n, 512, 512, 0);
    expect(disk, 0, 4096, 3);
    node_unref(n);
}

/* --- Selectors --- */

static void one_write(void *arg)
{
    struct node *n = arg;

    put(n, 0, 512, 1);
}

SIM_TEST(events_travel_with_their_operation)
{
    struct node *n = over_mem("event=l2_update,l1_update op=write action=error errno=ENOSPC");

    memset(buf, 1, 512);
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    node_event(n, EV_L2_UPDATE);
    assert_true(co_start(one_write, n)); /* another operation's write is not meant */
    assert_int_equal(node_write(n, 0, buf, 512, 0), -ENOSPC);
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0); /* one I/O only */
    node_event(n, EV_L1_UPDATE);
    node_event(n, EV_WRITE_AIO);
    assert_int_equal(node_write(n, 0, buf, 512, 0), -ENOSPC);
    node_event(n, EV_WRITE_AIO);
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    node_unref(n);
}

SIM_TEST(all_pieces_of_one_transfer_have_its_events)
{
    struct node *n = over_mem("event=write_aio op=write action=lost");

    assert_true(fault_set_limits(n, &(struct fault_limits){.max_transfer = 512}, NULL));
    node_event(n, EV_WRITE_AIO);
    put(n, 0, 1024, 1);
    expect(n, 0, 1024, 0);
    node_unref(n);
}

static struct req_origin origin;

static int read_as(struct node *n, const char *export, const char *client, uint64_t conn)
{
    int ret;

    origin = (struct req_origin){export, client, conn};
    co_local()->origin = &origin;
    ret = node_read(n, 0, got, 512);
    co_local()->origin = NULL;
    return ret;
}

SIM_TEST(who_asks_can_be_told)
{
    struct node *n = over_mem("op=read export=d?sk* client=*:127.0.0.1:* conn=3 action=error");

    assert_int_equal(node_read(n, 0, got, 512), 0);
    assert_int_equal(read_as(n, "disk", "tcp:127.0.0.1:99", 3), -EIO);
    assert_int_equal(read_as(n, "disks@x", "tcp:127.0.0.1:99", 3), -EIO);
    assert_int_equal(read_as(n, "dask", "tcp:127.0.0.1:", 3), -EIO);
    assert_int_equal(read_as(n, "dsk", "tcp:127.0.0.1:99", 3), 0);
    assert_int_equal(read_as(n, "disk", "tcp:127.0.0.2:99", 3), 0);
    assert_int_equal(read_as(n, "disk", "tcp:127.0.0.1:99", 2), 0);
    assert_int_equal(read_as(n, NULL, NULL, 3), 0);
    node_unref(n);
}

SIM_TEST(a_window_opens_and_closes)
{
    struct node *n = over_mem("op=read window=10s..11s action=error");

    fault_let_hang(n, true);
    int64_t start = clock_ns();
    assert_int_equal(node_read(n, 0, got, 512), 0);
    co_sleep_until(start + 9999 * NS_PER_MS);
    assert_int_equal(node_read(n, 0, got, 512), 0);
    co_sleep_until(start + 10000 * NS_PER_MS);
    assert_int_equal(node_read(n, 0, got, 512), -EIO);
    co_sleep_until(start + 11000 * NS_PER_MS);
    assert_int_equal(node_read(n, 0, got, 512), 0);
    node_unref(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_write_is_on_the_disk_and_reads_do_not_find_it),
        cmocka_unit_test(a_torn_write_lies_over_the_whole_one),
        cmocka_unit_test(a_misdirected_write_is_found_elsewhere_and_is_where_it_should_be),
        cmocka_unit_test(a_swapped_write_changes_places_with_what_was_there),
        cmocka_unit_test(a_swap_with_what_is_not_there_is_a_loss),
        cmocka_unit_test(a_corrupted_write_is_whole_on_the_disk),
        cmocka_unit_test(a_failed_write_is_not_damaged),
        cmocka_unit_test(a_bad_sector_is_healed_by_a_write_that_covers_it),
        cmocka_unit_test(a_bad_sector_may_stay_bad),
        cmocka_unit_test(stale_reads_find_what_was_there_before_the_last_write),
        cmocka_unit_test(stuck_reads_find_what_was_there_first),
        cmocka_unit_test(events_travel_with_their_operation),
        cmocka_unit_test(all_pieces_of_one_transfer_have_its_events),
        cmocka_unit_test(who_asks_can_be_told),
        cmocka_unit_test(a_window_opens_and_closes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
