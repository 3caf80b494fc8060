/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Breakpoints hold operations as blkdebug's do; the limits that blkdebug can pretend.
 */
#include "tests/unit/block/probe.h"

#include "base/mem.h"
#include "filters/filters.h"

#define INJECT "[inject-error]\n"

static struct probe p;
static uint8_t buf[64 * 1024];

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    return 0;
}

static struct node *open_with(const char *text)
{
    struct rules *rules = rules_new(fault_names());
    struct err *e = NULL;
    struct node *n;

    if (!rules_load(rules, "rules.conf", text, strlen(text), &e))
        fail_msg("%s", err_msg(e));
    n = fault_open(probe_open(&p, &probe_driver), rules, NULL);
    assert_non_null(n);
    fault_let_hang(n, true);
    return n;
}

struct reader {
    struct node *n;
    int ret;
    bool done;
};

static void read_run(void *arg)
{
    struct reader *r = arg;
    uint8_t b[512];

    node_event(r->n, EV_READ_AIO);
    r->ret = node_read(r->n, 0, b, sizeof(b));
    r->done = true;
}

static void start(struct reader *r, struct node *n)
{
    *r = (struct reader){.n = n, .ret = 1};
    assert_true(co_start(read_run, r));
}

static void settle(void)
{
    for (int i = 0; i < 5; i++)
        co_reschedule();
}

SIM_TEST(a_breakpoint_holds_one_operation)
{
    struct node *n = open_with("");
    struct reader a, b;

    assert_int_equal(fault_break(n, "read_aio", "A"), 0);
    start(&a, n);
    start(&b, n);
    settle();
    assert_false(a.done);
    assert_true(b.done);
    assert_true(fault_is_suspended(n, "A"));
    assert_int_equal(fault_resume(n, "B"), -ENOENT);
    assert_int_equal(fault_resume(n, "A"), 0);
    settle();
    assert_true(a.done);
    assert_int_equal(a.ret, 0);
    assert_false(fault_is_suspended(n, "A"));
    assert_int_equal(fault_resume(n, "A"), -ENOENT);
    node_unref(n);
}

SIM_TEST(the_newest_of_a_tag_is_resumed_first)
{
    struct node *n = open_with("");
    struct reader a, b;

    assert_int_equal(fault_break(n, "read_aio", "T"), 0);
    start(&a, n);
    assert_int_equal(fault_break(n, "read_aio", "T"), 0);
    start(&b, n);
    assert_int_equal(fault_resume(n, "T"), 0);
    settle();
    assert_true(b.done && !a.done);
    assert_int_equal(fault_resume(n, "T"), 0);
    settle();
    assert_true(a.done);
    node_unref(n);
}

SIM_TEST(resumes_count_by_operation_whatever_the_tag)
{
    struct node *n = open_with("");
    struct reader a;

    assert_int_equal(fault_break(n, "read_aio", "A"), 0);
    assert_int_equal(fault_break(n, "read_aio", "B"), 0);
    start(&a, n);
    assert_int_equal(fault_resume(n, "B"), 0);
    settle();
    assert_false(a.done);
    assert_int_equal(fault_resume(n, "A"), 0);
    settle();
    assert_true(a.done);
    node_unref(n);
}

SIM_TEST(a_breakpoint_holds_in_any_state_and_arms_nothing)
{
    struct node *n = open_with("[set-state]\nevent = \"none\"\nnew_state = \"7\"\n" INJECT
                               "event = \"read_aio\"\n");
    struct reader a;

    assert_int_equal(fault_break(n, "read_aio", "A"), 0);
    start(&a, n);
    settle();
    assert_false(a.done);
    /* What the event armed is armed while it sleeps: others meet it. */
    assert_int_equal(node_write(n, 0, buf, 512, 0), -EIO);
    assert_int_equal(fault_resume(n, "A"), 0);
    settle();
    assert_int_equal(a.ret, -EIO);
    node_unref(n);
}

SIM_TEST(removing_says_whether_any_was_pending_and_resumes_all)
{
    struct node *n = open_with("");
    struct reader a, b;

    assert_int_equal(fault_remove_break(n, "A"), -ENOENT);
    assert_int_equal(fault_break(n, "read_aio", "A"), 0);
    assert_int_equal(fault_break(n, "write_aio", "A"), 0);
    assert_int_equal(fault_remove_break(n, "A"), 0);
    start(&a, n);
    assert_true(a.done);
    assert_int_equal(fault_break(n, "read_aio", "A"), 0);
    start(&a, n);
    assert_int_equal(fault_break(n, "read_aio", "A"), 0);
    start(&b, n);
    assert_int_equal(fault_remove_break(n, "A"), -ENOENT); /* none was pending */
    settle();
    assert_true(a.done && b.done);
    node_unref(n);
}

SIM_TEST(unknown_events_are_refused)
{
    struct node *n = open_with("");

    assert_int_equal(fault_break(n, "read_oio", "A"), -ENOENT);
    node_unref(n);
}

static struct node *waited_on;
static int waited;

static void wait_run(void *arg)
{
    waited = fault_wait_break(waited_on, "A");
}

SIM_TEST(waiting_for_a_breakpoint)
{
    struct node *n = waited_on = open_with("");
    struct reader a;

    waited = 1;
    assert_true(co_start(wait_run, NULL));
    assert_int_equal(fault_break(n, "read_aio", "A"), 0);
    settle();
    assert_int_equal(waited, 1);
    start(&a, n);
    settle();
    assert_int_equal(waited, 0);
    assert_int_equal(fault_wait_break(n, "A"), 0);
    assert_int_equal(fault_resume(n, "A"), 0);
    settle();
    node_unref(n);
}

SIM_TEST(the_end_lets_everything_go)
{
    struct node *n = waited_on = open_with("");
    struct reader a;

    assert_int_equal(fault_break(n, "read_aio", "B"), 0);
    start(&a, n);
    waited = 1;
    assert_true(co_start(wait_run, NULL));
    fault_let_hang(n, false);
    settle();
    assert_true(a.done);
    assert_int_equal(waited, -ESHUTDOWN);
    /* And nothing is held from then on: the breakpoint stays. */
    assert_int_equal(fault_break(n, "read_aio", "A"), 0);
    start(&a, n);
    assert_true(a.done);
    assert_int_equal(fault_remove_break(n, "A"), 0);
    node_unref(n);
}

SIM_TEST(breakpoints_of_a_file_have_states_and_time_out)
{
    struct node *n = open_with("[suspend \"A\"]\nevent = read_aio\nstate = 2\ntimeout = 250ms\n"
                               "[set-state]\nevent = \"write_aio\"\nnew_state = \"2\"\n");
    struct reader a;
    int64_t since = clock_ns();

    start(&a, n);
    assert_true(a.done);
    node_event(n, EV_WRITE_AIO);
    start(&a, n);
    assert_false(a.done);
    co_sleep_until(since + 249 * NS_PER_MS);
    assert_false(a.done);
    co_sleep_until(since + 251 * NS_PER_MS);
    assert_true(a.done);
    start(&a, n); /* once only */
    assert_true(a.done);
    node_unref(n);
}

/* --- Limits --- */

static const char *refusal(const struct fault_limits *l)
{
    static char text[200];
    struct node *n = open_with("");
    struct err *e = NULL;

    text[0] = 0;
    if (!fault_set_limits(n, l, &e))
        snprintf(text, sizeof(text), "%s", err_msg(e));
    err_free(e);
    node_unref(n);
    return text;
}

#define REFUSES(message, ...)                                                                      \
    assert_string_equal(refusal(&(struct fault_limits){__VA_ARGS__}), message)

SIM_TEST(limits_that_do_not_go_together_are_refused_in_blkdebugs_words)
{
    REFUSES("", .align = 4096, .max_transfer = 8192);
    REFUSES("Cannot meet constraints with align 3", .align = 3);
    REFUSES("Cannot meet constraints with align 2147483648", .align = 1u << 31);
    REFUSES("Cannot meet constraints with max-transfer 512", .align = 4096, .max_transfer = 512);
    REFUSES("Cannot meet constraints with max-transfer 4294967296", .max_transfer = 4 * GiB);
    REFUSES("Cannot meet constraints with opt-write-zero 512", .align = 4096,
            .opt_write_zero = 512);
    REFUSES("Cannot meet constraints with max-write-zero 4096", .opt_write_zero = 8192,
            .max_write_zero = 4096);
    REFUSES("Cannot meet constraints with max-write-zero 512", .align = 4096,
            .max_write_zero = 512);
    REFUSES("Cannot meet constraints with opt-discard 512", .align = 4096, .opt_discard = 512);
    REFUSES("Cannot meet constraints with max-discard 4096", .opt_discard = 8192,
            .max_discard = 4096);
    REFUSES("", .opt_write_zero = 15 * MiB, .max_discard = 31 * MiB); /* no powers of two */
}

static struct node *limited(const struct fault_limits *l, const char *text)
{
    struct node *n = open_with(text);

    assert_true(fault_set_limits(n, l, NULL));
    return n;
}

SIM_TEST(transfers_are_padded_and_split)
{
    struct node *n = limited(&(struct fault_limits){.align = 4096, .max_transfer = 8192}, "");

    assert_int_equal(node_read(n, 0, buf, 20480), 0);
    assert_int_equal(node_read(n, 512, buf, 512), 0);
    assert_int_equal(node_write(n, 512, buf, 512, 0), 0);
    probe_expect(&p, "R0+8192 R8192+8192 R16384+4096 R0+4096 R0+4096 W0+4096");
    node_unref(n);
}

SIM_TEST(zeros_are_cut_and_short_ones_become_writes_that_rules_see)
{
    struct node *n = limited(
        &(struct fault_limits){.align = 512, .opt_write_zero = 3072, .max_write_zero = 6144},
        INJECT "event = \"none\"\niotype = \"write\"\nsector = \"30\"\n");

    assert_int_equal(node_zero(n, 1024, 2048 + 9216 + 512, 0), 0);
    probe_expect(&p, "W1024+2048 Z3072+6144 Z9216+3072 W12288+512");
    assert_int_equal(node_zero(n, 15360, 512, 0), -EIO);
    node_unref(n);
}

SIM_TEST(discards_are_cut)
{
    struct node *n =
        limited(&(struct fault_limits){.align = 512, .opt_discard = 4096, .max_discard = 8192}, "");

    assert_int_equal(node_discard(n, 1024, 3072 + 20480 + 512), 0);
    probe_expect(&p, "D1024+3072 D4096+8192 D12288+8192 D20480+4096 D24576+512");
    node_unref(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_breakpoint_holds_one_operation, setup),
        cmocka_unit_test_setup(the_newest_of_a_tag_is_resumed_first, setup),
        cmocka_unit_test_setup(resumes_count_by_operation_whatever_the_tag, setup),
        cmocka_unit_test_setup(a_breakpoint_holds_in_any_state_and_arms_nothing, setup),
        cmocka_unit_test_setup(removing_says_whether_any_was_pending_and_resumes_all, setup),
        cmocka_unit_test_setup(unknown_events_are_refused, setup),
        cmocka_unit_test_setup(waiting_for_a_breakpoint, setup),
        cmocka_unit_test_setup(the_end_lets_everything_go, setup),
        cmocka_unit_test_setup(breakpoints_of_a_file_have_states_and_time_out, setup),
        cmocka_unit_test_setup(limits_that_do_not_go_together_are_refused_in_blkdebugs_words,
                               setup),
        cmocka_unit_test_setup(transfers_are_padded_and_split, setup),
        cmocka_unit_test_setup(zeros_are_cut_and_short_ones_become_writes_that_rules_see, setup),
        cmocka_unit_test_setup(discards_are_cut, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
