/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/log.h"
#include "base/mem.h"
#include "block/mem_disk.h"
#include "tests/unit/block/probe.h"

static struct probe p;
static char logged[256];

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    logged[0] = 0;
    return 0;
}

SIM_TEST(a_node_closes_with_its_last_reference_and_then_drops_its_children)
{
    struct node *leaf = probe_open(&p, &probe_driver);
    struct node *a = filter_over(node_ref(leaf)), *b = filter_over(leaf);
    node_unref(a);
    assert_int_equal(p.closed, 0);
    node_ref(b);
    node_unref(b);
    assert_int_equal(p.closed, 0);
    node_unref(b);
    assert_int_equal(p.closed, 1);
    node_unref(NULL);
}

SIM_TEST(a_filter_takes_after_its_first_child)
{
    struct node *leaf = probe_open(&p, &probe_driver);
    leaf->read_only = true;
    leaf->growable = true;
    leaf->limits = (struct limits){.align = 512, .mem_align = 512, .cluster = 65536};
    struct node *n = filter_over(leaf);
    assert_int_equal(n->size, PROBE_SIZE);
    assert_true(n->read_only);
    assert_true(n->growable);
    assert_int_equal(n->limits.cluster, 65536);
    /* What the child can do for itself it does. */
    assert_int_equal(n->limits.align, 1);
    assert_int_equal(n->limits.mem_align, 1);
    node_unref(n);
}

static void log_to_buf(enum log_level level, const char *line, void *arg)
{
    snprintf(logged, sizeof(logged), "%s", line);
}

SIM_TEST(a_flush_that_fails_at_close_is_logged)
{
    struct node *n = probe_open(&p, &probe_driver);
    assert_int_equal(node_zero(n, 0, 1, 0), 0);
    p.fail[REQ_FLUSH] = -EIO;
    log_set_sink(log_to_buf, NULL);
    node_unref(n);
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(logged, "probe: flush at close"));
}

SIM_TEST(without_memory_no_node_and_a_message)
{
    for (uint64_t nth = 1;; nth++) {
        struct err *err = NULL;
        mem_fail_nth(nth, 0);
        struct node *n = node_new(&probe_driver, "disk.img", &err);
        bool all_done = mem_count() < nth;
        mem_fail_nth(0, 0);
        if (all_done) {
            assert_non_null(n);
            node_unref(n);
            break;
        }
        assert_null(n);
        assert_int_equal(err_code(err), ENOMEM);
        err_free(err);
    }
    struct node *a = probe_open(&p, &probe_driver);
    struct node *b = node_new(&pass_filter, "b", NULL);
    mem_fail_nth(1, 1);
    assert_false(node_attach(b, a, NULL));
    mem_fail_nth(0, 0);
    assert_int_equal(b->n_child, 0);
    node_unref(a); /* still the caller's */
    node_unref(b);
}

static void drivers_are_found_by_name(void **state)
{
    assert_null(driver_at(0));
    driver_register(&mem_driver);
    driver_register(&probe_driver);
    driver_register(&mem_driver);
    assert_ptr_equal(driver_find("mem"), &mem_driver);
    assert_ptr_equal(driver_find("probe"), &probe_driver);
    assert_null(driver_find("nosuch"));
    assert_ptr_equal(driver_at(1), &probe_driver);
    assert_null(driver_at(2));
    assert_null(driver_at(1000));
}

static void every_event_has_its_name_and_back(void **state)
{
    assert_int_equal(EV_COUNT, 48);
    for (unsigned i = 0; i < EV_COUNT; i++)
        assert_int_equal(blk_event_by_name(blk_event_name((enum blk_event)i)), i);
    assert_string_equal(blk_event_name(EV_PWRITEV_RMW_AFTER_TAIL), "pwritev_rmw_after_tail");
    assert_int_equal(blk_event_by_name("nosuch"), EV_COUNT);
    for (unsigned i = 0; i < REQ_OP_COUNT; i++)
        assert_string_not_equal(req_op_name((enum req_op)i), "?");
}

SIM_TEST(the_memory_disk_keeps_what_is_written_and_forgets_what_is_discarded)
{
    struct node *n = mem_open(1 * TiB, NULL);
    static uint8_t buf[200000];
    memset(buf, 7, sizeof(buf));
    assert_int_equal(node_write(n, 512 * GiB - 1000, buf, sizeof(buf), 0), 0);
    struct extents x;
    extents_init(&x, 10);
    assert_int_equal(node_status(n, 0, 1 * TiB, &x), 0);
    assert_int_equal(x.n, 3);
    assert_int_equal(x.v[0].flags, EXTENT_HOLE | EXTENT_ZERO);
    assert_int_equal(x.v[0].len, 512 * GiB - 64 * KiB);
    assert_int_equal(x.v[1].flags, 0);
    assert_int_equal(x.total, 1 * TiB);
    assert_int_equal(node_zero(n, 512 * GiB, 1000, 0), 0);
    assert_int_equal(node_read(n, 512 * GiB - 1000, buf, 3000), 0);
    assert_int_equal(buf[999], 7);
    assert_true(bytes_are_zero(buf + 1000, 1000));
    assert_int_equal(buf[2000], 7);
    assert_int_equal(node_discard(n, 0, 1 * TiB), 0);
    assert_int_equal(node_status(n, 0, 1 * TiB, &x), 0);
    assert_int_equal(x.n, 1);
    assert_int_equal(node_write(n, 1 * TiB, buf, 1, 0), -ENOSPC);
    assert_int_equal(node_truncate(n, 1 * TiB + 1), 0);
    assert_int_equal(node_write(n, 1 * TiB, buf, 1, REQ_FUA), 0);
    assert_int_equal(node_truncate(n, 100), 0);
    assert_int_equal(node_truncate(n, 2 * TiB), 0);
    assert_int_equal(node_read(n, 1 * TiB, buf, 1), 0);
    assert_int_equal(buf[0], 0);
    extents_free(&x);
    node_unref(n);
    struct err *err = NULL;
    assert_null(mem_open(UINT64_MAX, &err));
    assert_int_equal(err_code(err), EFBIG);
    err_free(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_node_closes_with_its_last_reference_and_then_drops_its_children,
                               setup),
        cmocka_unit_test_setup(a_filter_takes_after_its_first_child, setup),
        cmocka_unit_test_setup(a_flush_that_fails_at_close_is_logged, setup),
        cmocka_unit_test_setup(without_memory_no_node_and_a_message, setup),
        cmocka_unit_test(drivers_are_found_by_name),
        cmocka_unit_test(every_event_has_its_name_and_back),
        cmocka_unit_test(the_memory_disk_keeps_what_is_written_and_forgets_what_is_discarded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
