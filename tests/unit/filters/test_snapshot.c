/* SPDX-License-Identifier: BSD-3-Clause
 *
 * copy-before-write and snapshot-access: who fails when what is overwritten cannot be kept, in
 * time or at all; what is part of the snapshot; and who reads the target meanwhile.
 */
#include "tests/unit/block/probe.h"

#include "base/log.h"
#include "block/mem_disk.h"
#include "filters/filters.h"
#include "filters/snapshot.h"

#define UNIT (64 * KiB)
#define SECOND NS_PER_S

static struct probe p, t; /* the disk and the target: four units each */
static struct node *disk, *target, *cbw, *snap;
static uint8_t buf[PROBE_SIZE];

static struct copy_before_write_opts opts(void)
{
    memset(&p, 0, sizeof(p));
    memset(&t, 0, sizeof(t));
    memset(p.data, 0x11, PROBE_SIZE);
    p.fail[REQ_STATUS] = -ENOTSUP; /* all is data */
    disk = probe_open(&p, &probe_driver);
    target = probe_open(&t, &probe_driver);
    return (struct copy_before_write_opts){.file = disk, .target = target, .fail_writes = true};
}

static void open_all(const struct copy_before_write_opts *o)
{
    cbw = copy_before_write_open(o, NULL);
    assert_non_null(cbw);
    snap = snapshot_access_open(node_ref(cbw), NULL);
    assert_non_null(snap);
}

static void close_all(void)
{
    node_unref(snap);
    node_unref(cbw);
}

static int put(struct node *n, uint64_t off, int byte)
{
    memset(buf, byte, 512);
    return node_write(n, off, buf, 512, 0);
}

static int get(struct node *n, uint64_t off, int byte)
{
    int ret = node_read(n, off, buf, 512);

    for (int i = 0; i < 512 && ret == 0; i++)
        assert_int_equal(buf[i], byte);
    return ret;
}

SIM_TEST(a_write_fails_that_would_cost_the_snapshot)
{
    struct copy_before_write_opts o = opts();

    open_all(&o);
    t.fail[REQ_WRITE] = -ENOSPC;
    assert_int_equal(put(cbw, 0, 0x22), -ENOSPC);
    assert_int_equal(p.data[0], 0x11);
    assert_int_equal(get(snap, 0, 0x11), 0);
    t.fail[REQ_WRITE] = 0; /* and once there is room again it goes on */
    assert_int_equal(put(cbw, 0, 0x22), 0);
    assert_int_equal(get(snap, 0, 0x11), 0);
    assert_int_equal(get(cbw, 0, 0x22), 0);
    close_all();
}

SIM_TEST(or_the_snapshot_is_lost)
{
    struct copy_before_write_opts o = opts();

    log_set_level(LOG_LEVEL_ERROR);
    o.fail_writes = false;
    open_all(&o);
    t.fail[REQ_WRITE] = -ENOSPC;
    assert_int_equal(put(cbw, 0, 0x22), 0);
    assert_int_equal(get(snap, 0, 0x11), -EIO);
    assert_int_equal(get(snap, UNIT, 0x11), -EIO);
    assert_int_equal(get(cbw, 0, 0x22), 0);
    close_all();
}

SIM_TEST(a_change_past_the_filter_is_seen_and_never_fails)
{
    struct copy_before_write_opts o = opts();

    log_set_level(LOG_LEVEL_ERROR);
    open_all(&o);
    assert_int_equal(put(disk, 0, 0x22), 0);
    assert_int_equal(get(snap, 0, 0x11), 0);
    t.fail[REQ_WRITE] = -EIO;
    assert_int_equal(put(disk, UNIT, 0x22), 0);
    assert_int_equal(get(snap, UNIT, 0x11), -EIO);
    close_all();
}

static void slow_target(bool fail_writes, int write_result, int read_result)
{
    struct copy_before_write_opts o = opts();
    int64_t begin;

    log_set_level(LOG_LEVEL_ERROR);
    o.fail_writes = fail_writes;
    o.timeout_ns = 2 * SECOND;
    open_all(&o);
    t.delay_ns = SECOND;
    assert_int_equal(put(cbw, 0, 0x22), 0);
    t.delay_ns = 10 * SECOND;
    begin = clock_ns();
    assert_int_equal(put(cbw, UNIT, 0x22), write_result);
    assert_int_equal(clock_ns() - begin, 2 * SECOND);
    t.delay_ns = 0;
    /* A read waits for the copy that was left behind; it may well come to its end. */
    assert_int_equal(get(snap, UNIT, 0x11), read_result);
    assert_int_equal(put(cbw, UNIT, 0x33), 0);
    assert_int_equal(get(snap, UNIT, 0x11), read_result);
    t.delay_ns = 10 * SECOND;
    put(cbw, 3 * UNIT, 0x22);
    close_all(); /* a copy is still under way */
}

SIM_TEST(a_write_does_not_wait_longer_than_it_was_told)
{
    slow_target(true, -ETIMEDOUT, 0);
}

SIM_TEST(or_the_snapshot_is_lost_after_that_time)
{
    slow_target(false, 0, -EIO);
}

/* STATUS never fails: it would end a client's backup. */
SIM_TEST(only_what_the_bitmap_has_can_be_read)
{
    struct copy_before_write_opts o = opts();
    struct bitmap *b = bitmap_new(NULL, PROBE_SIZE, 4096);
    struct extents ext;

    bitmap_mark(b, UNIT + 4096, 4096);
    bitmap_mark(b, 3 * UNIT, UNIT);
    o.only = b;
    open_all(&o);
    bitmap_free(b);
    assert_int_equal(get(snap, UNIT, 0x11), 0); /* whole units */
    assert_int_equal(get(snap, 0, 0), -EACCES);
    assert_int_equal(node_read(snap, 2 * UNIT - 512, buf, 1024), -EACCES);
    extents_init(&ext, 8);
    assert_int_equal(node_status(snap, 0, PROBE_SIZE, &ext), 0);
    assert_int_equal(ext.n, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(ext.v[i].len, UNIT);
        assert_int_equal(ext.v[i].flags, i % 2 ? 0 : EXTENT_HOLE);
    }
    extents_free(&ext);
    put(cbw, 0, 0x22); /* costs no copy */
    assert_null(strstr(t.trace, "W"));
    put(cbw, UNIT, 0x22);
    assert_non_null(strstr(t.trace, "W65536+65536"));
    assert_int_equal(get(snap, UNIT, 0x11), 0);
    close_all();
}

SIM_TEST(what_is_discarded_is_kept_no_longer)
{
    struct copy_before_write_opts o = opts();

    open_all(&o);
    put(cbw, 0, 0x22);
    assert_int_equal(node_discard(snap, 512, 2 * UNIT), 0); /* of which one unit is whole */
    assert_int_equal(get(snap, 0, 0x11), 0);
    assert_int_equal(get(snap, UNIT, 0), -EACCES);
    assert_int_equal(get(snap, 2 * UNIT, 0x11), 0);
    t.trace[0] = '\0';
    put(cbw, UNIT, 0x33);
    assert_string_equal(t.trace, "");
    assert_int_equal(node_discard(snap, 0, UNIT), 0);
    assert_string_equal(t.trace, "D0+65536");
    assert_int_equal(node_write(snap, 0, buf, 512, 0), -ENOTSUP);
    close_all();
}

static unsigned reads_done;

static void read_slowly(void *arg)
{
    assert_int_equal(node_read(target, 0, buf, 512), 0);
    reads_done++;
}

/* An overlay's read may be on its way to the disk itself: nothing may change there meanwhile. */
SIM_TEST(a_copy_waits_for_who_reads_the_target)
{
    struct copy_before_write_opts o = opts();

    open_all(&o);
    reads_done = 0;
    t.delay_ns = SECOND;
    assert_true(co_start(read_slowly, NULL));
    assert_int_equal(put(cbw, 512, 0x22), 0);
    assert_int_equal(reads_done, 1);
    assert_int_equal(t.most_running, 1);
    assert_true(co_start(read_slowly, NULL));
    assert_int_equal(put(cbw, UNIT, 0x22), 0); /* elsewhere it does not */
    assert_int_equal(t.most_running, 2);
    co_sleep_until(clock_ns() + 2 * SECOND);
    close_all();
}

SIM_TEST(what_is_no_copy_before_write_node_has_no_snapshot)
{
    struct copy_before_write_opts o = opts();
    struct bitmap *b = bitmap_new(NULL, 4096, 4096);
    struct err *e = NULL;

    assert_null(snapshot_access_open(disk, &e));
    assert_int_equal(err_code(e), EINVAL);
    err_free(e);
    e = NULL;
    o.only = b;
    assert_null(copy_before_write_open(&o, &e));
    assert_int_equal(err_code(e), EINVAL);
    err_free(e);
    bitmap_free(b);
    node_unref(disk);
    node_unref(target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_fails_that_would_cost_the_snapshot),
        cmocka_unit_test(or_the_snapshot_is_lost),
        cmocka_unit_test(a_change_past_the_filter_is_seen_and_never_fails),
        cmocka_unit_test(a_write_does_not_wait_longer_than_it_was_told),
        cmocka_unit_test(or_the_snapshot_is_lost_after_that_time),
        cmocka_unit_test(only_what_the_bitmap_has_can_be_read),
        cmocka_unit_test(what_is_discarded_is_kept_no_longer),
        cmocka_unit_test(a_copy_waits_for_who_reads_the_target),
        cmocka_unit_test(what_is_no_copy_before_write_node_has_no_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
