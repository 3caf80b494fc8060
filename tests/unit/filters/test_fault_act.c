/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the fault filter does with a request after the engine decided: what reaches the child, what
 * the submitter gets, and how long it takes.
 */
#include "tests/unit/block/probe.h"

#include "block/mem_disk.h"
#include "faults/fault.h"
#include "filters/filters.h"

static struct probe p;
static uint8_t buf[16384], got[16384];

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    memset(buf, 0x11, sizeof(buf));
    memset(got, 0xee, sizeof(got));
    return 0;
}

static struct rules *one_fault(const char *option)
{
    struct rules *rules = rules_new(fault_names());
    struct err *e = NULL;

    if (!rules_load_option(rules, option, 1, &e))
        fail_msg("%s", err_msg(e));
    rules_set_seed(rules, 1);
    return rules;
}

static struct node *over_probe(const char *option)
{
    struct node *n = fault_open(probe_open(&p, &probe_driver), one_fault(option), NULL);

    assert_non_null(n);
    return n;
}

static struct node *over_mem(const char *option)
{
    struct node *n = fault_open(mem_open(1 * MiB, NULL), one_fault(option), NULL);

    assert_non_null(n);
    return n;
}

static void expect_bytes(struct node *n, uint64_t off, uint64_t len, uint8_t byte)
{
    assert_int_equal(node_read(n, off, got, len), 0);
    for (uint64_t i = 0; i < len; i++)
        if (got[i] != byte)
            fail_msg("byte %llu is 0x%02x", (unsigned long long)(off + i), got[i]);
}

SIM_TEST(an_error_reaches_the_submitter_and_nothing_the_child)
{
    struct node *n = over_probe("op=read nth=2 action=error errno=ENOSPC");

    assert_int_equal(node_read(n, 0, buf, 512), 0);
    assert_int_equal(node_read(n, 0, buf, 512), -ENOSPC);
    assert_int_equal(node_read(n, 0, buf, 512), 0);
    probe_expect(&p, "R0+512 R0+512");
    node_unref(n);
}

SIM_TEST(each_op_can_fail)
{
    struct node *n = over_probe("op=read,write,zero,trim,flush,status action=error");
    struct extents ext;

    extents_init(&ext, 4);
    assert_int_equal(node_read(n, 0, buf, 512), -EIO);
    assert_int_equal(node_write(n, 0, buf, 512, 0), -EIO);
    assert_int_equal(node_zero(n, 0, 512, 0), -EIO);
    assert_int_equal(node_discard(n, 0, 512), -EIO);
    assert_int_equal(node_flush(n), -EIO);
    assert_int_equal(node_status(n, 0, 512, &ext), -EIO);
    probe_expect(&p, "");
    extents_free(&ext);
    node_unref(n);
}

SIM_TEST(the_kind_of_a_write_selects)
{
    struct node *n = over_probe("kind=l2 action=error");

    assert_int_equal(node_write_kind(n, 0, buf, 512, 0, KIND_L1), 0);
    assert_int_equal(node_write_kind(n, 0, buf, 512, 0, KIND_L2), -EIO);
    probe_expect(&p, "W0+512");
    node_unref(n);
}

SIM_TEST(a_delay_takes_its_time_and_then_goes_on)
{
    struct node *n = over_probe("op=read action=delay ms=250");
    int64_t start = clock_ns();

    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    assert_int_equal(clock_ns() - start, 0);
    assert_int_equal(node_read(n, 0, buf, 512), 0);
    assert_int_equal(clock_ns() - start, 250 * NS_PER_MS);
    probe_expect(&p, "W0+512 R0+512");
    node_unref(n);
}

static struct node *shared;
static unsigned ended;

static void read_delayed(void *arg)
{
    uint8_t sector[512];

    assert_int_equal(node_read(shared, 0, sector, sizeof(sector)), 0);
    ended++;
}

SIM_TEST(many_delayed_requests_wait_at_the_same_time)
{
    int64_t start = clock_ns();

    shared = over_mem("op=read action=delay ms=100");
    ended = 0;
    for (unsigned i = 0; i < 1000; i++)
        assert_true(co_start(read_delayed, NULL));
    assert_int_equal(ended, 0);
    co_sleep_until(start + 101 * NS_PER_MS);
    assert_int_equal(ended, 1000);
    node_unref(shared);
}

static int hung_result;

static void hang(void *arg)
{
    hung_result = node_write(shared, 0, buf, 512, 0);
    ended++;
}

SIM_TEST(a_hang_lasts_until_it_may_not)
{
    shared = over_probe("op=write action=hang");
    ended = 0;
    assert_int_equal(node_write(shared, 0, buf, 512, 0), -ESHUTDOWN); /* not yet */
    fault_let_hang(shared, true);
    assert_true(co_start(hang, NULL));
    co_sleep_until(clock_ns() + 1000 * NS_PER_S);
    assert_int_equal(ended, 0);
    assert_int_equal(node_read(shared, 0, got, 512), 0);
    fault_let_hang(shared, false);
    co_reschedule();
    assert_int_equal(ended, 1);
    assert_int_equal(hung_result, -ESHUTDOWN);
    probe_expect(&p, "R0+512");
    node_unref(shared);
}

SIM_TEST(a_hang_with_a_timeout_fails_after_it_or_at_the_end)
{
    shared = over_probe("op=write action=hang timeout=10s errno=ENOSPC");
    ended = 0;
    assert_int_equal(node_write(shared, 0, buf, 512, 0), -ESHUTDOWN); /* it does not serve yet */
    fault_let_hang(shared, true);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(co_start(hang, NULL));
        co_sleep_until(clock_ns() + 4 * NS_PER_S);
    }
    assert_int_equal(ended, 1); /* they began 12, 8 and 4 seconds ago */
    assert_int_equal(hung_result, -ENOSPC);
    co_sleep_until(clock_ns() + 4 * NS_PER_S);
    assert_int_equal(ended, 2);
    fault_let_hang(shared, false);
    co_reschedule();
    assert_int_equal(ended, 3);
    assert_int_equal(hung_result, -ESHUTDOWN);
    probe_expect(&p, "");
    node_unref(shared);
}

SIM_TEST(a_short_write_leaves_its_prefix)
{
    struct node *n = over_mem("op=write action=short errno=ENOSPC nth=2");

    assert_int_equal(node_write(n, 0, buf, 8192, 0), 0);
    memset(buf, 0x22, sizeof(buf));
    assert_int_equal(node_write(n, 0, buf, 8192, 0), -ENOSPC);
    expect_bytes(n, 0, 4096, 0x22);
    expect_bytes(n, 4096, 4096, 0x11);
    node_unref(n);
}

SIM_TEST(a_short_read_and_a_child_that_fails_first)
{
    struct node *n = over_probe("op=read action=short bytes=100");

    memset(p.data, 0x33, 512);
    assert_int_equal(node_read(n, 0, got, 512), -EIO);
    assert_int_equal(got[99], 0x33);
    assert_int_equal(got[100], 0xee);
    p.fail[REQ_READ] = -ENXIO;
    assert_int_equal(node_read(n, 0, got, 512), -ENXIO);
    probe_expect(&p, "R0+100 R0+100");
    node_unref(n);
}

SIM_TEST(a_torn_write_succeeds_and_keeps_some_units)
{
    struct node *n = over_mem("op=write action=torn unit=4k keep=suffix where=disk");

    assert_int_equal(node_write(n, 4096, buf, 16384, 0), 0);
    expect_bytes(n, 0, 4096 + 8192, 0);
    expect_bytes(n, 4096 + 8192, 8192, 0x11);
    node_unref(n);
    n = over_probe("op=zero action=torn where=disk");
    assert_int_equal(node_zero(n, 0, 4096, REQ_MAY_UNMAP), 0);
    probe_expect(&p, "Z0+2048u");
    node_unref(n);
}

SIM_TEST(a_failing_piece_of_a_torn_write_fails_it)
{
    struct node *n = over_probe("op=write action=torn where=disk");

    p.fail[REQ_WRITE] = -ENOSPC;
    assert_int_equal(node_write(n, 0, buf, 4096, 0), -ENOSPC);
    node_unref(n);
}

SIM_TEST(what_is_lost_succeeds_and_is_not_there)
{
    struct node *n = over_probe("op=write,zero,trim,flush action=lost limit=4 where=disk");

    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_zero(n, 0, 512, 0), 0);
    assert_int_equal(node_discard(n, 0, 512), 0);
    probe_expect(&p, "");
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W0+512 F");
    node_unref(n);
}

SIM_TEST(flushes_one_after_another_are_lost_each)
{
    struct rules *rules = one_fault("layer=guest op=flush action=lost limit=2");
    struct node *n =
        fault_guest_open(fault_open(probe_open(&p, &probe_driver), rules, NULL), rules, NULL);

    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W0+512");
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "F");
    node_unref(n);
}

SIM_TEST(a_lost_flush_is_made_good_by_the_next)
{
    struct node *n = over_probe("op=flush action=lost once=on");

    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W0+512");
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "F");
    node_unref(n);
}

SIM_TEST(a_misdirected_write_lands_elsewhere_or_nowhere)
{
    struct node *n = over_mem("op=write action=misdirect delta=-8k where=disk");

    assert_int_equal(node_write(n, 16384, buf, 4096, 0), 0);
    expect_bytes(n, 8192, 4096, 0x11);
    expect_bytes(n, 12288, 16384, 0);
    assert_int_equal(node_write(n, 4096, buf, 4096, 0), 0); /* before the start */
    expect_bytes(n, 0, 8192, 0);
    node_unref(n);
    n = over_mem("op=write action=misdirect delta=512k where=disk");
    assert_int_equal(node_write(n, 0, buf, 4096, 0), 0);
    assert_int_equal(node_write(n, 900 * KiB, buf, 4096, 0), 0); /* past the end */
    assert_int_equal(n->size, 1 * MiB);
    expect_bytes(n, 512 * KiB, 4096, 0x11);
    expect_bytes(n, 900 * KiB, 4096, 0);
    node_unref(n);
}

SIM_TEST(a_corrupt_read_returns_what_is_not_stored)
{
    struct node *n = over_mem("op=read action=corrupt byte=0x77 range=512+512 once=on");

    assert_int_equal(node_write(n, 0, buf, 4096, 0), 0);
    assert_int_equal(node_read(n, 0, got, 4096), 0);
    assert_int_equal(got[511], 0x11);
    assert_int_equal(got[512], 0x77);
    assert_int_equal(got[1023], 0x77);
    assert_int_equal(got[1024], 0x11);
    expect_bytes(n, 0, 4096, 0x11);
    node_unref(n);
}

SIM_TEST(a_corrupt_write_stores_it_and_leaves_the_senders_data_alone)
{
    struct node *n = over_mem("op=write action=corrupt bits=3 where=disk");
    unsigned wrong = 0;

    assert_int_equal(node_write(n, 0, buf, 4096, 0), 0);
    assert_int_equal(node_read(n, 0, got, 4096), 0);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(buf[i], 0x11);
        wrong += (unsigned)__builtin_popcount(got[i] ^ 0x11);
    }
    assert_int_equal(wrong, 3);
    node_unref(n);
}

SIM_TEST(space_runs_out)
{
    struct node *n = over_mem("action=nospace after=8k");

    assert_int_equal(node_write(n, 0, buf, 8192, 0), 0);
    assert_int_equal(node_write(n, 0, buf, 1, 0), -ENOSPC);
    assert_int_equal(node_zero(n, 0, 512, 0), -ENOSPC);
    expect_bytes(n, 0, 8192, 0x11);
    node_unref(n);
}

SIM_TEST(each_layer_has_its_own_faults_and_the_guests_see_fua)
{
    struct rules *rules = one_fault("layer=guest fua=on action=lost where=disk");
    struct node *host, *guest;

    assert_true(rules_load_option(rules, "op=read action=error", 2, NULL));
    host = fault_open(probe_open(&p, &probe_fua), rules, NULL);
    guest = fault_guest_open(host, rules, NULL);
    assert_int_equal(node_write(guest, 0, buf, 512, REQ_FUA), 0);
    probe_expect(&p, ""); /* neither written nor flushed */
    assert_int_equal(node_write(guest, 0, buf, 512, 0), 0);
    assert_int_equal(node_read(guest, 0, buf, 512), -EIO);
    probe_expect(&p, "W0+512");
    node_unref(guest);
}

SIM_TEST(blkdebugs_rules_come_first)
{
    static const char text[] =
        "[inject-error]\nevent = \"none\"\niotype = \"read\"\nonce = \"on\"\n"
        "[fault]\nop=read\nnth=1\naction=error\nerrno=ENOSPC\n";
    struct rules *rules = rules_new(fault_names());
    struct node *n;

    assert_true(rules_load(rules, "f", text, sizeof(text) - 1, NULL));
    n = fault_open(probe_open(&p, &probe_driver), rules, NULL);
    assert_int_equal(node_read(n, 0, buf, 512), -EIO);
    assert_int_equal(node_read(n, 0, buf, 512), -ENOSPC);
    assert_int_equal(node_read(n, 0, buf, 512), 0);
    node_unref(n);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {
        TEST(an_error_reaches_the_submitter_and_nothing_the_child),
        TEST(each_op_can_fail),
        TEST(the_kind_of_a_write_selects),
        TEST(a_delay_takes_its_time_and_then_goes_on),
        TEST(many_delayed_requests_wait_at_the_same_time),
        TEST(a_hang_lasts_until_it_may_not),
        TEST(a_hang_with_a_timeout_fails_after_it_or_at_the_end),
        TEST(a_short_write_leaves_its_prefix),
        TEST(a_short_read_and_a_child_that_fails_first),
        TEST(a_torn_write_succeeds_and_keeps_some_units),
        TEST(a_failing_piece_of_a_torn_write_fails_it),
        TEST(what_is_lost_succeeds_and_is_not_there),
        TEST(flushes_one_after_another_are_lost_each),
        TEST(a_lost_flush_is_made_good_by_the_next),
        TEST(a_misdirected_write_lands_elsewhere_or_nowhere),
        TEST(a_corrupt_read_returns_what_is_not_stored),
        TEST(a_corrupt_write_stores_it_and_leaves_the_senders_data_alone),
        TEST(space_runs_out),
        TEST(each_layer_has_its_own_faults_and_the_guests_see_fua),
        TEST(blkdebugs_rules_come_first),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
