/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The ends of frozen views, when they fall together with other things.
 */
#include "tests/proto/proto.h"

#include "filters/filters.h"

static void frozen_disk(struct proto *p)
{
    p->export_opts.cbw = cbw_open(p->export_opts.top, NULL);
    assert_non_null(p->export_opts.cbw);
    p->export_opts.top = p->export_opts.cbw;
    p->export_opts.checkpoints = true;
    p->server_opts.scratch_in_memory = true;
}

static struct peer haggling(struct proto *p)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_option(&c, 8, NULL, 0);
    assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    return c;
}

static struct peer open_view(struct proto *p, const char *name)
{
    struct peer c = haggling(p);

    assert_int_equal(peer_go(&c, 7, name, NULL, NULL), 1);
    return c;
}

static void three_and_a_short_grace(struct proto *p)
{
    frozen_disk(p);
    p->server_opts.max_checkpoints = 3;
    p->server_opts.view_grace_ms = 10;
}

/* Whoever makes a checkpoint waits for the requests in flight, and the end of a view's grace period
 * for whoever makes one. Looking at the view starts another period, which may end as well before
 * the first can be acted upon; in between somebody else may need the checkpoint's room. */
PROTO_TEST_WITH(a_view_whose_grace_ends_twice_is_dropped_once, three_and_a_short_grace)
{
    uint8_t go_c[] = "\0\0\0\6disk@c\0\0", go_d[] = "\0\0\0\6disk@d\0\0";
    struct peer w = peer_ready(p, false), look = haggling(p), c = haggling(p), d = haggling(p);
    struct peer a = open_view(p, "disk@a"), b = open_view(p, "disk@b");

    p->gate_closed = true;
    peer_request(&w, 0, 4, 1, 0, 512);
    proto_settle();
    peer_close(&a);
    peer_option(&c, 7, go_c, sizeof(go_c) - 1);
    co_sleep_until(clock_ns() + 15 * NS_PER_MS);
    assert_int_equal(peer_go(&look, 6, "disk@a", NULL, NULL), 1);
    peer_option(&d, 7, go_d, sizeof(go_d) - 1);
    co_sleep_until(clock_ns() + 15 * NS_PER_MS);
    gate_open(p);
    while (peer_reply(&c, 7, NULL, 0, NULL) == 3)
        ;
    while (peer_reply(&d, 7, NULL, 0, NULL) == 3)
        ;
    assert_int_equal(peer_go(&look, 6, "disk@b", NULL, NULL), 1);
    peer_close(&b);
    peer_close(&c);
    peer_close(&d);
    peer_close(&look);
    peer_close(&w);
}

struct stopper {
    struct proto *p;
    int result;
    bool done;
};

static void stop_run(void *arg)
{
    struct stopper *s = arg;

    s->result = server_stop(s->p->server, false);
    s->done = true;
}

/* One view is being made and waits for a write, another waits for its turn, a third is in its grace
 * period, a fourth is read. */
PROTO_TEST_WITH(stop_finishes_what_is_being_frozen, frozen_disk)
{
    uint8_t go_a[] = "\0\0\0\6disk@a\0\0", go_b[] = "\0\0\0\6disk@b\0\0";
    struct peer w = peer_ready(p, false), a = haggling(p), b = haggling(p);
    struct peer c = open_view(p, "disk@c"), d = open_view(p, "disk@d");
    struct stopper s = {.p = p};

    p->gate_closed = true;
    peer_request(&w, 0, 4, 1, 0, 512);
    peer_request(&d, 0, 0, 1, 0, 512);
    peer_close(&c);
    proto_settle();
    peer_option(&a, 7, go_a, sizeof(go_a) - 1);
    peer_option(&b, 7, go_b, sizeof(go_b) - 1);
    proto_settle();
    assert_true(co_start(stop_run, &s));
    proto_settle();
    assert_false(s.done);
    gate_open(p);
    co_sleep_until(clock_ns() + NS_PER_S);
    assert_true(s.done);
    assert_int_equal(s.result, 0);
    assert_int_equal(peer_simple(&w, 1), 0);
    assert_true(peer_ended(&a));
    assert_true(peer_ended(&b));
    assert_true(peer_ended(&d));
    peer_close(&w);
    peer_close(&a);
    peer_close(&b);
    peer_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_whose_grace_ends_twice_is_dropped_once),
        cmocka_unit_test(stop_finishes_what_is_being_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
