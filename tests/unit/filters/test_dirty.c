/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The dirty filter: what is marked, when, and what happens when the disk changes its size.
 */
#include "tests/unit/block/probe.h"

#include "base/log.h"
#include "base/mem.h"
#include "filters/filters.h"

static struct probe p;
static struct bitmap_set maps;
static struct bitmap *map;
static struct node *node;
static uint8_t buf[8192];

static void open_node(const struct driver *leaf)
{
    memset(&p, 0, sizeof(p));
    bitmap_set_init(&maps, PROBE_SIZE);
    map = bitmap_add(&maps, "b", 4096, NULL);
    node = dirty_open(probe_open(&p, leaf), &maps, NULL);
    assert_non_null(node);
}

static void close_node(void)
{
    node_unref(node);
    bitmap_set_clear(&maps);
}

SIM_TEST(changes_mark_and_reads_do_not)
{
    struct extents ext;

    open_node(&probe_driver);
    extents_init(&ext, 1);
    assert_int_equal(node_read(node, 0, buf, 4096), 0);
    assert_int_equal(node_flush(node), 0);
    assert_int_equal(node_status(node, 0, 4096, &ext), 0);
    assert_int_equal(bitmap_dirty_bytes(map), 0);
    assert_int_equal(node_write(node, 4095, buf, 2, 0), 0);
    assert_int_equal(bitmap_dirty_bytes(map), 8192);
    assert_int_equal(node_zero(node, 16384, 1, 0), 0);
    assert_int_equal(bitmap_dirty_bytes(map), 12288);
    assert_int_equal(node_discard(node, 32768, 4096), 0);
    assert_int_equal(bitmap_dirty_bytes(map), 16384);
    extents_free(&ext);
    close_node();
}

SIM_TEST(failed_changes_mark_too)
{
    open_node(&probe_driver);
    p.fail[REQ_WRITE] = -EIO;
    p.fail[REQ_ZERO] = -EIO;
    p.fail[REQ_DISCARD] = -EIO;
    assert_int_equal(node_write(node, 0, buf, 4096, 0), -EIO);
    assert_int_equal(node_zero(node, 8192, 4096, 0), -EIO);
    assert_int_equal(node_discard(node, 16384, 4096), -EIO);
    assert_int_equal(bitmap_dirty_bytes(map), 12288);
    close_node();
}

static void write_one(void *arg)
{
    assert_int_equal(node_write(node, 0, buf, 4096, 0), 0);
    assert_int_equal(bitmap_dirty_bytes(map), 4096); /* before its submitter goes on */
}

SIM_TEST(marks_come_after_the_write_not_before)
{
    open_node(&probe_driver);
    p.delay_ns = 1000;
    assert_true(co_start(write_one, NULL));
    assert_int_equal(bitmap_dirty_bytes(map), 0);
    co_sleep_until(clock_ns() + 5000);
    assert_int_equal(bitmap_dirty_bytes(map), 4096);
    close_node();
}

SIM_TEST(fua_goes_through_to_the_child)
{
    open_node(&probe_fua);
    assert_int_equal(node_write(node, 0, buf, 512, REQ_FUA), 0);
    probe_expect(&p, "W0+512!");
    close_node();
}

SIM_TEST(resizing_takes_the_bitmaps_along)
{
    bool dirty;

    open_node(&probe_driver);
    assert_int_equal(node_truncate(node, 16384), 0);
    assert_int_equal(maps.size, 16384);
    assert_int_equal(node_truncate(node, 32768), 0);
    assert_int_equal(bitmap_next(map, 0, &dirty), 16384);
    assert_false(dirty);
    assert_int_equal(bitmap_next(map, 16384, &dirty), 32768);
    assert_true(dirty);

    p.fail[REQ_TRUNCATE] = -EIO;
    assert_int_equal(node_truncate(node, 65536), -EIO);
    assert_int_equal(maps.size, 32768);
    assert_int_equal(node_truncate(node, 4096), -EIO);
    assert_int_equal(maps.size, 32768);
    p.fail[REQ_TRUNCATE] = 0;

    log_set_level(LOG_LEVEL_ERROR);
    map->busy++;
    assert_int_equal(node_truncate(node, 65536), -EBUSY);
    assert_int_equal(node_truncate(node, 4096), -EBUSY);
    assert_int_equal(node->size, 32768);
    map->busy--;
    log_set_level(LOG_LEVEL_WARN);
    close_node();
}

SIM_TEST(writes_where_the_bitmaps_do_not_reach_make_them_grow_or_fail)
{
    open_node(&probe_driver);
    assert_int_equal(node_truncate(node, 8192), 0);
    assert_int_equal(node_write(node, 8192, buf, 4096, 0), -ENOSPC);
    /* Another parent of the child resizes it behind the filter's back. */
    assert_int_equal(node_truncate(node->child[0], 65536), 0);
    log_set_level(LOG_LEVEL_ERROR - 1);
    map->busy++;
    assert_int_equal(node_write(node, 16384, buf, 4096, 0), -EIO);
    map->busy--;
    log_set_level(LOG_LEVEL_WARN);
    assert_int_equal(node_write(node, 16384, buf, 4096, 0), 0);
    assert_int_equal(maps.size, 65536);
    assert_int_equal(bitmap_dirty_bytes(map), 65536 - 8192);
    close_node();
}

SIM_TEST(bitmaps_of_another_size_are_refused)
{
    struct node *leaf;
    struct err *e = NULL;

    memset(&p, 0, sizeof(p));
    leaf = probe_open(&p, &probe_driver);
    bitmap_set_init(&maps, PROBE_SIZE + 1);
    assert_null(dirty_open(leaf, &maps, &e));
    assert_int_equal(err_code(e), EINVAL);
    err_free(e);
    node_unref(leaf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_mark_and_reads_do_not),
        cmocka_unit_test(failed_changes_mark_too),
        cmocka_unit_test(marks_come_after_the_write_not_before),
        cmocka_unit_test(fua_goes_through_to_the_child),
        cmocka_unit_test(resizing_takes_the_bitmaps_along),
        cmocka_unit_test(writes_where_the_bitmaps_do_not_reach_make_them_grow_or_fail),
        cmocka_unit_test(bitmaps_of_another_size_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
