/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fault filter as a node: events and requests reach the engine in blkdebug's order, errors
 * reach the submitter, the rest reaches the child.
 */
#include "tests/unit/block/probe.h"

#include "base/log.h"
#include "filters/filters.h"

#define INJECT "[inject-error]\n"

static struct probe p;
static uint8_t buf[4096];

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    return 0;
}

static struct node *open_with(const struct driver *leaf, const char *text)
{
    struct rules *rules = rules_new(fault_names());
    struct err *e = NULL;
    struct node *n;

    if (!rules_load(rules, "rules.conf", text, strlen(text), &e))
        fail_msg("%s", err_msg(e));
    n = fault_open(probe_open(&p, leaf), rules, NULL);
    assert_non_null(n);
    assert_int_equal(n->size, PROBE_SIZE);
    return n;
}

static int status(struct node *n)
{
    struct extents ext;
    int ret;

    extents_init(&ext, 4);
    ret = node_status(n, 0, 4096, &ext);
    extents_free(&ext);
    return ret;
}

SIM_TEST(without_rules_everything_passes)
{
    struct node *n = open_with(&probe_driver, "");

    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    assert_int_equal(node_read(n, 0, buf, 512), 0);
    assert_int_equal(node_flush(n), 0);
    probe_expect(&p, "W0+512 R0+512 F");
    node_unref(n);
}

SIM_TEST(each_type_of_request_meets_its_rule_before_the_child)
{
    struct node *n =
        open_with(&probe_driver, INJECT "event = \"none\"\n" INJECT "event = \"none\"\niotype = "
                                        "\"block-status\"\nerrno = \"28\"\n");

    assert_int_equal(node_read(n, 0, buf, 512), -EIO);
    assert_int_equal(node_write(n, 0, buf, 512, 0), -EIO);
    assert_int_equal(node_zero(n, 0, 512, 0), -EIO);
    assert_int_equal(node_discard(n, 0, 512), -EIO);
    assert_int_equal(node_flush(n), -EIO);
    assert_int_equal(status(n), -ENOSPC);
    probe_expect(&p, "");
    assert_int_equal(node_truncate(n, 4096), 0); /* blkdebug has no type for it */
    node_unref(n);
}

SIM_TEST(a_parents_events_arm_and_go_on_to_the_child)
{
    struct node *n = open_with(&probe_listener, INJECT "event = \"l2_load\"\n");

    node_event(n, EV_READ_AIO);
    assert_int_equal(node_read(n, 0, buf, 512), 0);
    node_event(n, EV_L2_LOAD);
    assert_int_equal(node_read(n, 0, buf, 512), -EIO);
    probe_expect(&p, "read_aio R0+512 l2_load");
    node_unref(n);
}

SIM_TEST(a_write_announces_itself_before_the_check_and_after)
{
    struct node *n = open_with(&probe_driver, INJECT
                               "event = \"pwritev\"\nonce = \"on\"\n" INJECT
                               "event = \"pwritev_done\"\niotype = \"read\"\nerrno = "
                               "\"28\"\n" INJECT "event = \"pwritev_zero\"\nerrno = \"22\"\n");

    assert_int_equal(node_read(n, 0, buf, 512), 0);
    assert_int_equal(node_write(n, 0, buf, 512, 0), -EIO);
    assert_int_equal(node_read(n, 0, buf, 512), -ENOSPC);
    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    assert_int_equal(node_zero(n, 0, 512, 0), -EINVAL);
    probe_expect(&p, "R0+512 W0+512");
    node_unref(n);
}

SIM_TEST(its_own_announcements_are_not_the_childs)
{
    struct node *n = open_with(&probe_listener, "");

    assert_int_equal(node_write(n, 0, buf, 512, 0), 0);
    probe_expect(&p, "pwritev W0+512 pwritev_done"); /* the child's, once */
    node_unref(n);
}

SIM_TEST(the_flush_of_a_fua_write_meets_flush_rules)
{
    struct node *n =
        open_with(&probe_fua, INJECT "event = \"none\"\niotype = \"flush\"\nonce = \"on\"\n");

    assert_int_equal(node_write(n, 0, buf, 512, REQ_FUA), -EIO);
    assert_int_equal(node_write(n, 0, buf, 512, REQ_FUA), 0);
    node_unref(n);
}

static bool other_ran;

static void other(void *arg)
{
    co_reschedule();
    other_ran = true;
}

SIM_TEST(an_error_yields_one_turn_unless_it_is_immediate)
{
    struct node *n = open_with(&probe_driver, INJECT "event = \"none\"\niotype = \"read\"\n" INJECT
                                                     "event = \"none\"\niotype = \"write\"\n"
                                                     "immediately = \"on\"\n");

    other_ran = false;
    assert_true(co_start(other, NULL));
    assert_int_equal(node_write(n, 0, buf, 512, 0), -EIO);
    assert_false(other_ran);
    assert_int_equal(node_read(n, 0, buf, 512), -EIO);
    assert_true(other_ran);
    node_unref(n);
}

static char logged[1000];

static void sink(enum log_level level, const char *line, void *arg)
{
    strncat(logged, line, sizeof(logged) - strlen(logged) - 2);
    strcat(logged, "\n");
}

SIM_TEST(counters_are_logged_at_close)
{
    struct node *n = open_with(&probe_driver, INJECT "event = \"read_aio\"\n");

    node_event(n, EV_READ_AIO);
    assert_int_equal(node_read(n, 0, buf, 512), -EIO);
    assert_int_equal(node_read(n, 0, buf, 512), -EIO);
    log_set_sink(sink, NULL);
    log_set_level(LOG_LEVEL_INFO);
    node_unref(n);
    log_set_level(LOG_LEVEL_WARN);
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(logged, "rules.conf:1 inject-error event=read_aio errno=5: seen 1, "
                                   "armed 1, fired 2\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_rules_everything_passes, setup),
        cmocka_unit_test_setup(each_type_of_request_meets_its_rule_before_the_child, setup),
        cmocka_unit_test_setup(a_parents_events_arm_and_go_on_to_the_child, setup),
        cmocka_unit_test_setup(a_write_announces_itself_before_the_check_and_after, setup),
        cmocka_unit_test_setup(its_own_announcements_are_not_the_childs, setup),
        cmocka_unit_test_setup(the_flush_of_a_fua_write_meets_flush_rules, setup),
        cmocka_unit_test_setup(an_error_yields_one_turn_unless_it_is_immediate, setup),
        cmocka_unit_test_setup(counters_are_logged_at_close, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
