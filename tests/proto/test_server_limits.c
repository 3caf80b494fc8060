/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Limits that can be set: of the whole server, of one connection, of time.
 */
#include "tests/proto/proto.h"

enum { READ, WRITE };

static uint8_t data[64 * 1024];

static void three_requests(struct proto *p)
{
    p->server_opts.max_total_requests = 3;
}

PROTO_TEST_WITH(requests_in_flight_are_limited_for_all_clients_together, three_requests)
{
    struct peer c[4];

    p->gate_closed = true;
    for (int i = 0; i < 4; i++) {
        c[i] = peer_ready(p, false);
        for (int k = 0; k < 2; k++)
            peer_request(&c[i], 0, READ, k, 0, 512);
        proto_settle();
    }
    assert_int_equal(p->in_gate, 3);
    gate_open(p);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 2; k++) {
            assert_int_equal(peer_simple(&c[i], k), 0);
            peer_recv(&c[i], data, 512);
        }
        peer_close(&c[i]);
    }
    assert_int_equal(p->max_in_gate, 3);
}

PROTO_TEST_WITH(a_busy_client_keeps_no_other_from_its_turn, three_requests)
{
    struct peer busy = peer_ready(p, false), other = peer_ready(p, false);

    p->gate_closed = true;
    for (int i = 0; i < 40; i++)
        peer_request(&busy, 0, READ, i, 0, 512);
    proto_settle();
    peer_request(&other, 0, READ, 1, 0, 512);
    proto_settle();
    p->gate_closed = false;
    co_queue_wake_one(&p->gate); /* one place is free: one of both takes it */
    proto_settle();
    gate_open(p);
    assert_int_equal(peer_simple(&other, 1), 0);
    peer_recv(&other, data, 512);
    for (int i = 0; i < 40; i++) {
        uint8_t head[16];
        peer_recv(&busy, head, 16);
        peer_recv(&busy, data, 512);
    }
    peer_close(&busy);
    peer_close(&other);
}

PROTO_TEST_WITH(clients_that_hold_all_requests_are_dropped_sooner, three_requests)
{
    struct peer rude = peer_ready(p, false), good = peer_ready(p, false);

    for (int i = 0; i < 10; i++) /* replies that it does not read */
        peer_request(&rude, 0, READ, i, 0, 512 * KiB);
    proto_settle();
    int64_t before = clock_ns();
    peer_request(&good, 0, READ, 1, 0, 512);
    assert_int_equal(peer_simple(&good, 1), 0);
    peer_recv(&good, data, 512);
    assert_in_range(clock_ns() - before, 0, 11 * NS_PER_S);
    peer_close(&rude);
    peer_close(&good);
}

static void two_buffers(struct proto *p)
{
    p->server_opts.max_conn_bytes = 128 * KiB;
}

PROTO_TEST_WITH(bytes_of_one_connection_are_limited, two_buffers)
{
    struct peer c = peer_ready(p, false);

    p->gate_closed = true;
    for (int i = 0; i < 10; i++)
        peer_request(&c, 0, READ, i, 0, 64 * KiB);
    proto_settle();
    assert_int_equal(p->in_gate, 2);
    gate_open(p);
    for (int i = 0; i < 10; i++) {
        uint8_t head[16];
        peer_recv(&c, head, 16);
        peer_recv(&c, data, 64 * KiB);
    }
    peer_close(&c);
}

static void idle_for_30_s(struct proto *p)
{
    p->server_opts.idle_timeout_ms = 30000;
}

PROTO_TEST_WITH(an_idle_client_is_disconnected, idle_for_30_s)
{
    struct peer c = peer_ready(p, false);
    int64_t before;

    for (int i = 0; i < 3; i++) {
        co_sleep_until(clock_ns() + 29 * NS_PER_S);
        peer_request(&c, 0, READ, i, 0, 512);
        assert_int_equal(peer_simple(&c, i), 0);
        peer_recv(&c, data, 512);
    }
    before = clock_ns();
    peer_expect_end(&c);
    assert_in_range(clock_ns() - before, 29 * NS_PER_S, 31 * NS_PER_S);
    peer_close(&c);
}

PROTO_TEST_WITH(who_waits_for_an_answer_is_not_idle, idle_for_30_s)
{
    struct peer c = peer_ready(p, false);

    p->gate_closed = true;
    peer_request(&c, 0, READ, 1, 0, 512);
    co_sleep_until(clock_ns() + 100 * NS_PER_S);
    assert_int_equal(server_connections(p->server), 1);
    gate_open(p);
    assert_int_equal(peer_simple(&c, 1), 0);
    peer_recv(&c, data, 512);
    peer_request(&c, 0, READ, 2, 0, 512);
    assert_int_equal(peer_simple(&c, 2), 0);
    peer_recv(&c, data, 512);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST_WITH(the_handshake_is_not_idleness, idle_for_30_s)
{
    struct peer c = peer_connect(p);
    int64_t before = clock_ns();

    peer_hello(&c, 3);
    peer_expect_end(&c);
    assert_in_range(clock_ns() - before, 9 * NS_PER_S, 11 * NS_PER_S);
    peer_close(&c);
}

static void stall_for_20_s(struct proto *p)
{
    p->server_opts.stall_timeout_ms = 20000;
}

PROTO_TEST_WITH(the_time_to_stall_can_be_set, stall_for_20_s)
{
    struct peer c = peer_ready(p, false);
    int64_t before = clock_ns();

    peer_request(&c, 0, WRITE, 1, 0, 100);
    peer_send(&c, data, 50);
    peer_expect_end(&c);
    assert_in_range(clock_ns() - before, 20 * NS_PER_S, 21 * NS_PER_S);
    peer_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_in_flight_are_limited_for_all_clients_together),
        cmocka_unit_test(a_busy_client_keeps_no_other_from_its_turn),
        cmocka_unit_test(clients_that_hold_all_requests_are_dropped_sooner),
        cmocka_unit_test(bytes_of_one_connection_are_limited),
        cmocka_unit_test(an_idle_client_is_disconnected),
        cmocka_unit_test(who_waits_for_an_answer_is_not_idle),
        cmocka_unit_test(the_handshake_is_not_idleness),
        cmocka_unit_test(the_time_to_stall_can_be_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
