/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Guards: they come before every change, from whatever side, and go only when nobody is in them.
 */
#include "block/guard.h"

#include "tests/unit/block/probe.h"

struct watcher {
    struct node_guard guard;
    unsigned times;   /* it acts so often */
    int64_t delay_ns; /* and takes so long */
};

static struct probe p;
static struct node *node;
static uint8_t buf[4096];
static unsigned done;

static bool before(struct node_guard *g, struct node *n, const struct req *r)
{
    struct watcher *w = (struct watcher *)g;
    uint8_t old[512];

    if (w->times == 0)
        return false;
    w->times--;
    probe_say(&p, "guard");
    if (w->delay_ns)
        co_sleep_until(clock_ns() + w->delay_ns);
    assert_int_equal(node_read(n, 0, old, 512), 0); /* it may read what it guards */
    return true;
}

static void watch(struct watcher *w)
{
    w->guard.before = before;
    node_drain_begin(node);
    node_guard_add(node, &w->guard);
    node_drain_end(node);
}

static void writer(void *arg)
{
    assert_int_equal(node_write(node, 0, buf, 512, 0), 0);
    done++;
}

static int setup(void **state)
{
    memset(&p, 0, sizeof(p));
    done = 0;
    return 0;
}

SIM_TEST(changes_wait_for_the_guard_and_reads_do_not)
{
    struct watcher w = {.times = 1};
    struct extents ext;

    node = probe_open(&p, &probe_driver);
    watch(&w);
    extents_init(&ext, 1);
    assert_int_equal(node_read(node, 0, buf, 512), 0);
    assert_int_equal(node_status(node, 0, 512, &ext), 0);
    assert_null(strstr(p.trace, "guard"));
    extents_free(&ext);
    p.trace[0] = '\0';
    writer(NULL);
    assert_string_equal(p.trace, "guard R0+512 W0+512");
    for (unsigned op = 0; op < 3; op++) {
        p.trace[0] = '\0';
        w.times = 1;
        if (op == 0)
            assert_int_equal(node_zero(node, 0, 512, 0), 0);
        else if (op == 1)
            assert_int_equal(node_discard(node, 0, 512), 0);
        else
            assert_int_equal(node_truncate(node, 4096), 0);
        assert_int_equal(strncmp(p.trace, "guard R0+512 ", 13), 0);
    }
    node_guard_remove(node, &w.guard);
    w.times = 1;
    writer(NULL);
    assert_int_equal(w.times, 1);
    node_unref(node);
}

/* A request that waited for one guard, or for the end of a drain, meets those that came meanwhile.
 */
SIM_TEST(all_guards_are_asked_again_after_one_has_acted)
{
    struct watcher slow = {.times = 1, .delay_ns = 1000}, late = {.times = 1};

    node = probe_open(&p, &probe_driver);
    watch(&slow);
    assert_true(co_start(writer, NULL));
    watch(&late); /* the drain does not wait for who is in a guard */
    assert_int_equal(done, 0);
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 1);
    assert_int_equal(late.times, 0);
    node_guard_remove(node, &late.guard);

    node_drain_begin(node);
    assert_true(co_start(writer, NULL)); /* waits at the gate */
    late.times = 1;
    node_guard_add(node, &late.guard);
    node_drain_end(node);
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 2);
    assert_int_equal(late.times, 0);
    node_guard_remove(node, &late.guard);
    node_guard_remove(node, &slow.guard);
    node_unref(node);
}

SIM_TEST(a_guard_goes_when_nobody_is_in_it)
{
    struct watcher w = {.times = 1, .delay_ns = 1000};
    int64_t before_ns;

    node = probe_open(&p, &probe_driver);
    watch(&w);
    assert_true(co_start(writer, NULL));
    before_ns = clock_ns();
    node_guard_remove(node, &w.guard);
    assert_true(clock_ns() - before_ns >= 1000);
    assert_int_equal(w.guard.busy, 0);
    co_sleep_until(clock_ns() + 10000);
    assert_int_equal(done, 1);
    node_unref(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(changes_wait_for_the_guard_and_reads_do_not, setup),
        cmocka_unit_test_setup(all_guards_are_asked_again_after_one_has_acted, setup),
        cmocka_unit_test_setup(a_guard_goes_when_nobody_is_in_it, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
