/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the dispatcher checks, cuts and emulates, seen from the driver's side.
 */
#include "base/mem.h"
#include "block/mem_disk.h"
#include "tests/unit/block/probe.h"

static struct probe p;
static uint8_t buf[PROBE_SIZE];

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    memset(buf, 0x5a, sizeof(buf));
    return 0;
}

SIM_TEST(ranges_past_the_end_are_refused_with_the_right_errno)
{
    struct node *n = probe_open(&p, &probe_driver);
    struct extents x;
    extents_init(&x, 4);
    assert_int_equal(node_read(n, PROBE_SIZE - 1, buf, 2), -EINVAL);
    assert_int_equal(node_write(n, PROBE_SIZE - 1, buf, 2, 0), -ENOSPC);
    assert_int_equal(node_zero(n, PROBE_SIZE, 1, 0), -ENOSPC);
    assert_int_equal(node_discard(n, PROBE_SIZE, 1), -EINVAL);
    assert_int_equal(node_status(n, PROBE_SIZE - 1, 2, &x), -EINVAL);
    assert_int_equal(node_status(n, 0, 0, &x), -EINVAL);
    assert_int_equal(node_read(n, UINT64_MAX, buf, 2), -EINVAL);
    assert_int_equal(node_write(n, UINT64_MAX - 1, buf, 2, 0), -EINVAL);
    assert_int_equal(node_zero(n, 2, UINT64_MAX - 1, 0), -EINVAL);
    assert_int_equal(node_truncate(n, UINT64_MAX), -EFBIG);
    assert_int_equal(node_read(n, PROBE_SIZE, buf, 0), 0);
    assert_int_equal(node_write(n, 0, buf, 0, REQ_FUA), 0);
    probe_expect(&p, "");
    assert_int_equal(node_read(n, PROBE_SIZE - 1, buf, 1), 0);
    probe_expect(&p, "R262143+1");
    node_unref(n);
}

SIM_TEST(a_read_only_node_lets_no_change_through)
{
    struct node *n = probe_open(&p, &probe_driver);
    n->read_only = true;
    assert_int_equal(node_write(n, 0, buf, 512, 0), -EPERM);
    assert_int_equal(node_zero(n, 0, 512, 0), -EPERM);
    assert_int_equal(node_discard(n, 0, 512), -EPERM);
    assert_int_equal(node_truncate(n, 0), -EPERM);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_read(n, 0, buf, 512), 0);
    probe_expect(&p, "R0+512");
    node_unref(n);
}

SIM_TEST(discards_are_dropped_and_zeros_found_where_the_owner_wants_that)
{
    struct node *n = probe_open(&p, &probe_driver);
    n->ignore_discard = true;
    assert_int_equal(node_discard(n, 0, 512), 0);
    probe_expect(&p, "");
    n->ignore_discard = false;
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    n->detect_zeroes = DETECT_ZEROES_ON;
    memset(buf, 0, 512);
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    buf[511] = 1;
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    probe_expect(&p, "W0+512 Z0+512 W0+512");
    buf[511] = 0;
    n->detect_zeroes = DETECT_ZEROES_UNMAP;
    assert_int_equal(node_write(n, 512, buf, 512, 0), 0);
    n->ignore_discard = true;
    assert_int_equal(node_write(n, 1024, buf, 512, 0), 0);
    probe_expect(&p, "Z512+512u Z1024+512");
    node_unref(n);
}

SIM_TEST(a_growable_node_grows_and_reads_zeros_past_its_end)
{
    struct node *leaf = probe_open(&p, &probe_driver);
    leaf->size = 1000;
    leaf->growable = true;
    memset(p.data, 1, sizeof(p.data));
    struct node *n = filter_over(leaf);

    assert_int_equal(node_read(n, 900, buf, 200), 0);
    assert_int_equal(buf[99], 1);
    assert_int_equal(buf[100], 0);
    assert_int_equal(buf[199], 0);
    assert_int_equal(node_read(n, 5000, buf, 10), 0);
    assert_int_equal(node_discard(n, 900, 5000), 0);
    probe_expect(&p, "R900+100 D900+100");

    struct extents x;
    extents_init(&x, 4);
    assert_int_equal(node_status(n, 900, 300, &x), 0);
    assert_int_equal(x.n, 2);
    assert_int_equal(x.v[0].len, 100);
    assert_int_equal(x.v[1].len, 200);
    assert_int_equal(x.v[1].flags, EXTENT_HOLE | EXTENT_ZERO);
    extents_free(&x);

    assert_int_equal(node_write(n, 2000, buf, 100, 0), 0);
    assert_int_equal(n->size, 2100);
    assert_int_equal(node_truncate(n, 50), 0);
    assert_int_equal(n->size, 50);
    /* Somebody else grows the child: the filter finds out when it matters. */
    leaf->growable = n->growable = false;
    leaf->size = 3000;
    assert_int_equal(node_read(n, 2000, buf, 1000), 0);
    assert_int_equal(node_read(n, 2000, buf, 1001), -EINVAL);
    node_unref(n);
}

SIM_TEST(long_transfers_are_cut_to_max_len)
{
    struct node *n = probe_open(&p, &probe_driver);
    n->limits.max_len = 1000;
    for (unsigned i = 0; i < 2500; i++)
        buf[i] = (uint8_t)i;
    assert_int_equal(node_write(n, 10, buf, 2500, 0), 0);
    probe_expect(&p, "W10+1000 W1010+1000 W2010+500");
    memset(buf, 0, 2500);
    assert_int_equal(node_read(n, 10, buf, 2500), 0);
    probe_expect(&p, "R10+1000 R1010+1000 R2010+500");
    for (unsigned i = 0; i < 2500; i++)
        assert_int_equal(buf[i], (uint8_t)i);
    assert_int_equal(node_read(n, 0, buf, 1000), 0);
    probe_expect(&p, "R0+1000");
    p.fail[REQ_WRITE] = -EIO;
    assert_int_equal(node_write(n, 0, buf, 2500, 0), -EIO);
    probe_expect(&p, "W0+1000");
    node_unref(n);
}

SIM_TEST(fua_is_a_flush_after_the_write_where_the_driver_lacks_it)
{
    struct node *n = probe_open(&p, &probe_driver);
    assert_int_equal(node_write(n, 0, buf, 512, REQ_FUA), 0);
    assert_int_equal(node_zero(n, 0, 512, REQ_FUA), 0);
    probe_expect(&p, "W0+512 F Z0+512 F");
    struct req d = {.op = REQ_DISCARD, .len = 512, .flags = REQ_FUA};
    assert_int_equal(node_submit(n, &d), 0);
    probe_expect(&p, "D0+512 F");
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "");
    n->limits.max_len = 400;
    assert_int_equal(node_write(n, 0, buf, 512, REQ_FUA), 0);
    probe_expect(&p, "W0+400 W400+112 F");
    p.fail[REQ_FLUSH] = -EIO;
    assert_int_equal(node_write(n, 0, buf, 100, REQ_FUA), -EIO);
    p.fail[REQ_WRITE] = -ENOSPC;
    p.trace[0] = 0;
    assert_int_equal(node_write(n, 0, buf, 100, REQ_FUA), -ENOSPC);
    probe_expect(&p, "W0+100");
    node_unref(n);
}

SIM_TEST(native_fua_is_used_only_for_what_goes_in_one_piece)
{
    struct node *leaf = probe_open(&p, &probe_fua);
    struct node *n = filter_over(leaf);
    assert_int_equal(node_write(n, 0, buf, 512, REQ_FUA), 0);
    assert_int_equal(node_zero(n, 0, 512, REQ_FUA | REQ_MAY_UNMAP), 0);
    probe_expect(&p, "W0+512! Z0+512!u");
    leaf->limits.max_len = 400;
    assert_int_equal(node_write(n, 0, buf, 512, REQ_FUA), 0);
    probe_expect(&p, "W0+400 W400+112 F");
    p.fail[REQ_ZERO] = -ENOTSUP;
    assert_int_equal(node_zero(n, 0, 300, REQ_FUA), 0);
    probe_expect(&p, "Z0+300! W0+300 F");
    p.fail[REQ_ZERO] = 0;
    leaf->limits.zero_align = 4096;
    assert_int_equal(node_zero(n, 100, 5000, REQ_FUA), 0);
    probe_expect(&p, "Z100+3996 Z4096+1004 F");
    node_unref(n);
}

SIM_TEST(zeros_are_written_where_the_driver_cannot_and_the_caller_allows)
{
    struct node *n = probe_open(&p, &probe_driver);
    memset(p.data, 1, sizeof(p.data));
    p.fail[REQ_ZERO] = -ENOTSUP;
    n->limits.max_len = 65536;
    assert_int_equal(node_zero(n, 1, 200000, REQ_NO_FALLBACK), -ENOTSUP);
    assert_int_equal(p.data[1], 1);
    assert_int_equal(node_zero(n, 1, 200000, 0), 0);
    probe_expect(&p, "Z1+200000 Z1+200000 W1+65536 W65537+65536 W131073+65536 W196609+3392");
    assert_int_equal(p.data[0], 1);
    assert_true(bytes_are_zero(p.data + 1, 200000));
    assert_int_equal(p.data[200001], 1);
    p.fail[REQ_ZERO] = -EIO;
    assert_int_equal(node_zero(n, 0, 512, 0), -EIO);
    p.trace[0] = 0;
    node_unref(n);
}

static uint64_t longest_write;

static int no_zero_submit(struct node *n, struct req *r)
{
    if (r->op == REQ_ZERO)
        return -ENOTSUP;
    if (r->op == REQ_WRITE)
        longest_write = max_u64(longest_write, r->len);
    return node_submit(n->child[0], r);
}

static const struct driver no_zero = {
    .name = "no-zero", .is_filter = true, .submit = no_zero_submit};

SIM_TEST(long_zeros_are_written_in_bounded_pieces_without_allocating)
{
    uint64_t len = 5 * MiB + 12345;
    struct node *leaf = mem_open(8 * MiB, NULL);
    struct node *n = node_new(&no_zero, "no-zero", NULL);
    assert_true(node_attach(n, leaf, NULL));
    for (uint64_t off = 0; off < 8 * MiB; off += PROBE_SIZE)
        assert_int_equal(node_write(n, off, buf, PROBE_SIZE, 0), 0);
    mem_fail_nth(1, 1);
    longest_write = 0;
    assert_int_equal(node_zero(n, 777, len, 0), 0);
    assert_int_equal(mem_count(), 0);
    mem_fail_nth(0, 0);
    assert_int_equal(longest_write, 1 * MiB);
    for (uint64_t off = 0; off < 8 * MiB; off += PROBE_SIZE) {
        assert_int_equal(node_read(n, off, buf, PROBE_SIZE), 0);
        for (uint64_t i = off; i < off + PROBE_SIZE; i++)
            assert_int_equal(buf[i - off], i >= 777 && i < 777 + len ? 0 : 0x5a);
    }
    node_unref(n);
}

SIM_TEST(zeros_and_discards_are_cut_at_the_units_that_the_driver_prefers)
{
    struct node *n = probe_open(&p, &probe_driver);
    n->limits.zero_align = 4096;
    n->limits.discard_align = 8192;
    assert_int_equal(node_zero(n, 100, 12000, REQ_MAY_UNMAP), 0);
    probe_expect(&p, "Z100+3996u Z4096+4096u Z8192+3908u");
    assert_int_equal(node_zero(n, 4096, 8192, 0), 0);
    assert_int_equal(node_zero(n, 4100, 10, 0), 0);
    assert_int_equal(node_zero(n, 4096, 10, 0), 0);
    probe_expect(&p, "Z4096+8192 Z4100+10 Z4096+10");
    assert_int_equal(node_discard(n, 4096, 16384), 0);
    probe_expect(&p, "D4096+4096 D8192+8192 D16384+4096");
    p.fail[REQ_DISCARD] = -ENOTSUP;
    assert_int_equal(node_discard(n, 4096, 16384), 0);
    p.fail[REQ_DISCARD] = -EIO;
    assert_int_equal(node_discard(n, 4096, 16384), -EIO);
    p.trace[0] = 0;
    node_unref(n);
}

SIM_TEST(what_a_driver_cannot_tell_is_data_and_cannot_prefetch_is_fine)
{
    struct node *n = probe_open(&p, &probe_driver);
    struct extents x;
    extents_init(&x, 4);
    assert_int_equal(node_status(n, 10, 20, &x), 0);
    assert_int_equal(x.v[0].flags, EXTENT_ZERO);
    p.fail[REQ_STATUS] = p.fail[REQ_CACHE] = -ENOTSUP;
    assert_int_equal(node_status(n, 10, 20, &x), 0);
    assert_int_equal(x.n, 1);
    assert_int_equal(x.v[0].flags, 0);
    assert_int_equal(x.v[0].len, 20);
    struct req c = {.op = REQ_CACHE, .len = 10};
    assert_int_equal(node_submit(n, &c), 0);
    p.fail[REQ_STATUS] = -EIO;
    assert_int_equal(node_status(n, 10, 20, &x), -EIO);
    extents_free(&x);
    node_unref(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(ranges_past_the_end_are_refused_with_the_right_errno, setup),
        cmocka_unit_test_setup(a_read_only_node_lets_no_change_through, setup),
        cmocka_unit_test_setup(discards_are_dropped_and_zeros_found_where_the_owner_wants_that,
                               setup),
        cmocka_unit_test_setup(a_growable_node_grows_and_reads_zeros_past_its_end, setup),
        cmocka_unit_test_setup(long_transfers_are_cut_to_max_len, setup),
        cmocka_unit_test_setup(fua_is_a_flush_after_the_write_where_the_driver_lacks_it, setup),
        cmocka_unit_test_setup(native_fua_is_used_only_for_what_goes_in_one_piece, setup),
        cmocka_unit_test_setup(zeros_are_written_where_the_driver_cannot_and_the_caller_allows,
                               setup),
        cmocka_unit_test_setup(long_zeros_are_written_in_bounded_pieces_without_allocating, setup),
        cmocka_unit_test_setup(zeros_and_discards_are_cut_at_the_units_that_the_driver_prefers,
                               setup),
        cmocka_unit_test_setup(what_a_driver_cannot_tell_is_data_and_cannot_prefetch_is_fine,
                               setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
