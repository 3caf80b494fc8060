/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bitmaps of a node: what is marked, when, what happens when the disk changes its size, and who may
 * add, find and remove them.
 */
#include "tests/unit/block/probe.h"

#include "base/log.h"
#include "base/mem.h"
#include "block/mem_disk.h"
#include "block/node_bitmap.h"

static struct probe p;
static struct bitmap *map;
static struct node *node;
static uint8_t buf[8192];

static void open_node(const struct driver *leaf)
{
    memset(&p, 0, sizeof(p));
    node = filter_over(probe_open(&p, leaf));
    map = node_bitmap_add(node, "b", 4096, false, NULL);
    assert_non_null(map);
}

static void close_node(void)
{
    node_unref(node);
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
    assert_int_equal(map->size, 16384);
    assert_int_equal(node_truncate(node, 32768), 0);
    assert_int_equal(bitmap_next(map, 0, &dirty), 16384);
    assert_false(dirty);
    assert_int_equal(bitmap_next(map, 16384, &dirty), 32768);
    assert_true(dirty);

    p.fail[REQ_TRUNCATE] = -EIO;
    assert_int_equal(node_truncate(node, 65536), -EIO);
    assert_int_equal(map->size, 32768);
    assert_int_equal(node_truncate(node, 4096), -EIO);
    assert_int_equal(map->size, 32768);
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
    assert_int_equal(map->size, 65536);
    assert_int_equal(bitmap_dirty_bytes(map), 65536 - 8192);
    close_node();
}

SIM_TEST(a_write_that_makes_a_leaf_grow_is_marked)
{
    struct node *leaf = mem_open(4096, NULL);
    struct bitmap *b;

    leaf->growable = true;
    b = node_bitmap_add(leaf, "b", 4096, false, NULL);
    assert_int_equal(node_write(leaf, 8192, buf, 4096, 0), 0);
    assert_int_equal(b->size, 12288);
    assert_int_equal(bitmap_dirty_bytes(b), 8192); /* what it grew by */
    node_unref(leaf);
}

SIM_TEST(an_inconsistent_bitmap_blocks_resizing)
{
    open_node(&probe_driver);
    log_set_level(LOG_LEVEL_ERROR);
    map->inconsistent = true;
    assert_int_equal(node_truncate(node, 65536), -ENOTSUP);
    assert_int_equal(node->size, PROBE_SIZE);
    log_set_level(LOG_LEVEL_WARN);
    assert_true(node_bitmap_remove(node, "b", NULL));
    assert_int_equal(node_truncate(node, 65536), 0);
    close_node();
}

static void write_slowly(void *arg)
{
    assert_int_equal(node_write(node, 0, buf, 4096, 0), 0);
}

/* A write that began without bitmaps would not be watched to its end. */
SIM_TEST(adding_the_first_bitmap_waits_for_running_writes)
{
    memset(&p, 0, sizeof(p));
    node = filter_over(probe_open(&p, &probe_driver));
    p.delay_ns = 1000;
    assert_true(co_start(write_slowly, NULL));
    assert_int_equal(p.running, 1);
    map = node_bitmap_add(node, "b", 0, false, NULL);
    assert_int_equal(p.running, 0);
    assert_int_equal(map->granularity, 65536);
    assert_true(map->enabled);
    p.delay_ns = 0;
    assert_int_equal(node_write(node, 0, buf, 4096, 0), 0);
    assert_int_equal(bitmap_dirty_bytes(map), 65536);
    close_node();
}

static void expect_error(struct err *e, int code, const char *text)
{
    assert_non_null(e);
    assert_int_equal(err_code(e), code);
    assert_string_equal(err_msg(e), text);
    err_free(e);
}

SIM_TEST(names_and_granularities_are_minded)
{
    char longest[BITMAP_NAME_MAX + 2];
    struct err *e = NULL;

    open_node(&probe_driver);
    assert_null(node_bitmap_add(node, "b", 4096, false, &e));
    expect_error(e, EEXIST, "Bitmap already exists: b");
    e = NULL;
    assert_null(node_bitmap_add(node, "c", 64000, false, &e));
    expect_error(e, EINVAL, "Granularity must be power of 2 and at least 512 (it is 64000)");
    e = NULL;
    assert_null(node_bitmap_add(node, "", 0, false, &e));
    expect_error(e, EINVAL, "Bitmap name cannot be empty");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    assert_null(node_bitmap_add(node, longest, 0, false, NULL));
    longest[sizeof(longest) - 2] = 0;
    assert_non_null(node_bitmap_add(node, longest, 0, false, NULL));
    e = NULL;
    assert_null(node_bitmap_add(node, "c", 0, true, &e));
    expect_error(e, ENOTSUP, "Cannot store dirty bitmaps in 'filter' (pass)");
    /* Those without a name are found by none, and get in nobody's way. */
    assert_non_null(node_bitmap_add(node, NULL, 0, false, NULL));
    assert_non_null(node_bitmap_add(node, NULL, 0, false, NULL));
    close_node();
}

SIM_TEST(removing_minds_holders_and_frees_the_set)
{
    struct err *e = NULL;

    open_node(&probe_driver);
    assert_false(node_bitmap_remove(node, "none", &e));
    expect_error(e, ENOENT, "Dirty bitmap 'none' not found");
    e = NULL;
    map->busy++;
    assert_false(node_bitmap_remove(node, "b", &e));
    expect_error(e, EBUSY,
                 "Bitmap 'b' is currently in use by another operation and cannot be used");
    e = NULL;
    map->busy--;
    map->readonly = true;
    assert_false(node_bitmap_remove(node, "b", &e));
    expect_error(e, EPERM, "Bitmap 'b' is readonly and cannot be modified");
    map->readonly = false;
    map->inconsistent = true; /* good for nothing but this */
    assert_true(node_bitmap_remove(node, "b", NULL));
    assert_null(node->bitmaps);
    assert_int_equal(node_write(node, 0, buf, 4096, 0), 0);
    close_node();
}

static struct node *below_it(const struct node *n)
{
    return n->child[0];
}

static const struct driver overlay_driver = {
    .name = "overlay",
    .state_size = sizeof(struct probe *),
    .submit = probe_submit,
    .backing = below_it,
};

SIM_TEST(a_name_is_searched_from_the_top_down)
{
    static struct probe upper;
    struct node *base = NULL, *owner = NULL, *overlay, *top;

    open_node(&probe_driver);
    base = node->child[0];
    overlay = probe_open(&upper, &overlay_driver);
    assert_true(node_attach(overlay, node, NULL));
    top = filter_over(overlay);
    assert_ptr_equal(node_bitmap_search(top, "b", &owner), map);
    assert_ptr_equal(owner, node);
    assert_null(node_bitmap_search(top, "none", &owner));
    node_bitmap_add(base, "b", 0, false, NULL);
    assert_ptr_equal(node_bitmap_search(top, "b", &owner), map);
    struct bitmap *nearer = node_bitmap_add(overlay, "b", 0, false, NULL);
    assert_ptr_equal(node_bitmap_search(top, "b", &owner), nearer);
    assert_ptr_equal(owner, overlay);
    node_unref(top);
}

SIM_TEST(adding_survives_every_failing_allocation)
{
    bool done = false;

    memset(&p, 0, sizeof(p));
    node = filter_over(probe_open(&p, &probe_driver));
    for (uint64_t nth = 1; !done; nth++) {
        mem_fail_nth(nth, 0);
        done = node_bitmap_add(node, "b", 0, false, NULL);
        mem_fail_nth(0, 0);
        assert_int_equal(node->bitmaps != NULL, done);
        assert_true(nth < 20);
    }
    close_node();
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
        cmocka_unit_test(a_write_that_makes_a_leaf_grow_is_marked),
        cmocka_unit_test(an_inconsistent_bitmap_blocks_resizing),
        cmocka_unit_test(adding_the_first_bitmap_waits_for_running_writes),
        cmocka_unit_test(names_and_granularities_are_minded),
        cmocka_unit_test(removing_minds_holders_and_frees_the_set),
        cmocka_unit_test(a_name_is_searched_from_the_top_down),
        cmocka_unit_test(adding_survives_every_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
