/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The offset node: a window of its child.
 */
#include "tests/unit/block/probe.h"

#include "filters/filters.h"

static struct probe p;
static uint8_t buf[4096];

static struct node *leaf_open(const struct driver *drv)
{
    memset(&p, 0, sizeof(p));
    return probe_open(&p, drv);
}

SIM_TEST(requests_are_moved_into_the_window)
{
    struct node *n = offset_open(leaf_open(&probe_fua), 1000, 5000, false, NULL);
    struct extents ext;

    assert_int_equal(n->size, 5000);
    extents_init(&ext, 1);
    assert_int_equal(node_write(n, 0, buf, 10, REQ_FUA), 0);
    assert_int_equal(node_read(n, 4999, buf, 1), 0);
    assert_int_equal(node_zero(n, 5, 5, 0), 0);
    assert_int_equal(node_discard(n, 6, 6), 0);
    assert_int_equal(node_status(n, 0, 5000, &ext), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W1000+10! R5999+1 Z1005+5 D1006+6 S1000+5000 F");
    assert_int_equal(ext.total, 5000);
    assert_int_equal(ext.v[0].flags, EXTENT_ZERO);
    extents_free(&ext);
    node_unref(n);
}

SIM_TEST(nothing_outside_the_window_can_be_reached)
{
    struct node *n = offset_open(leaf_open(&probe_driver), 1000, 5000, false, NULL);

    assert_int_equal(node_read(n, 4999, buf, 2), -EINVAL);
    assert_int_equal(node_write(n, 4999, buf, 2, 0), -ENOSPC);
    assert_int_equal(node_read(n, UINT64_MAX - 500, buf, 2), -EINVAL);
    assert_int_equal(node_truncate(n, 6000), -ENOTSUP);
    probe_expect(&p, "");
    node_unref(n);
}

SIM_TEST(size_zero_means_to_the_end_and_read_only_protects)
{
    struct node *n = offset_open(leaf_open(&probe_driver), 512, 0, true, NULL);

    assert_int_equal(n->size, PROBE_SIZE - 512);
    assert_int_equal(node_write(n, 0, buf, 512, 0), -EPERM);
    assert_int_equal(node_read(n, 0, buf, 512), 0);
    node_unref(n);
}

SIM_TEST(windows_past_the_end_are_refused)
{
    struct node *leaf = leaf_open(&probe_driver);
    struct err *e = NULL;

    assert_null(offset_open(leaf, PROBE_SIZE + 1, 0, false, &e));
    assert_non_null(strstr(err_msg(e), "past its end"));
    err_free(e);
    e = NULL;
    assert_null(offset_open(leaf, 1, PROBE_SIZE, false, &e));
    assert_int_equal(err_code(e), EINVAL);
    err_free(e);
    assert_null(offset_open(leaf, 2, UINT64_MAX, false, NULL));
    node_unref(leaf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_moved_into_the_window),
        cmocka_unit_test(nothing_outside_the_window_can_be_reached),
        cmocka_unit_test(size_zero_means_to_the_end_and_read_only_protects),
        cmocka_unit_test(windows_past_the_end_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
