/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Limits, rude clients, and the end: nothing a client does or leaves undone may hold more than its
 * share, or hold it for long.
 */
#include "tests/proto/proto.h"

#include <stdio.h>

enum { READ, WRITE, DISC, FLUSH };

#define POLICY 0x80000002u

static uint8_t data[1024 * 1024];

PROTO_TEST(the_101st_connection_is_turned_away_and_room_comes_back)
{
    struct peer c[100], extra;
    struct stream *ends[2];
    struct err *e = NULL;

    for (int i = 0; i < 100; i++)
        c[i] = peer_connect(p);
    assert_true(stream_pipe(100, ends));
    assert_false(server_serve(p->server, ends[0], &e));
    assert_int_equal(err_code(e), EBUSY);
    err_free(e);
    extra.s = ends[1];
    peer_expect_end(&extra);
    peer_close(&extra);
    peer_close(&c[50]);
    proto_settle();
    c[50] = peer_ready(p, true);
    for (int i = 0; i < 100; i++)
        peer_close(&c[i]);
}

static void two_clients(struct proto *p)
{
    p->export_opts.max_connections = 2;
}

PROTO_TEST_WITH(a_full_export_is_told_by_policy, two_clients)
{
    struct peer a = peer_ready(p, false), b = peer_ready(p, false), c = peer_connect(p);

    peer_hello(&c, 3);
    assert_int_equal(peer_go(&c, 6, "disk", NULL, NULL), 1);
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), POLICY);
    peer_close(&a);
    proto_settle();
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), 1);
    peer_close(&b);
    peer_close(&c);
}

PROTO_TEST(all_requests_of_one_message_run_at_once)
{
    struct peer c = peer_ready(p, false);

    p->gate_closed = true;
    for (int i = 0; i < 32; i++)
        peer_request(&c, 0, READ, i, 4096 * i, 512);
    proto_settle();
    assert_int_equal(p->in_gate, 32);
    gate_open(p);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(peer_simple(&c, i), 0);
        peer_recv(&c, data, 512);
    }
    peer_close(&c);
}

PROTO_TEST(at_most_64_requests_are_in_flight_and_the_rest_waits_its_turn)
{
    struct peer c = peer_ready(p, false);

    p->gate_closed = true;
    for (int i = 0; i < 500; i++)
        peer_request(&c, 0, READ, i, 0, 512);
    proto_settle();
    assert_int_equal(p->in_gate, 64);
    gate_open(p);
    for (int i = 0; i < 500; i++) {
        uint8_t head[16];
        peer_recv(&c, head, 16);
        peer_recv(&c, data, 512);
    }
    assert_in_range(p->max_in_gate, 64, 64);
    peer_close(&c);
}

PROTO_TEST(one_connection_holds_at_most_a_quarter_of_the_bytes)
{
    struct peer c = peer_ready(p, false), other = peer_ready(p, false);

    p->gate_closed = true;
    for (int i = 0; i < 40; i++)
        peer_request(&c, 0, READ, i, 0, MiB);
    peer_request(&other, 0, READ, 1, 0, MiB);
    proto_settle();
    assert_int_equal(p->in_gate, 16 + 1);
    gate_open(p);
    for (int i = 0; i < 40; i++) {
        uint8_t head[16];
        peer_recv(&c, head, 16);
        peer_recv(&c, data, MiB);
    }
    assert_int_equal(peer_simple(&other, 1), 0);
    peer_close(&c);
    peer_close(&other);
}

PROTO_TEST(a_client_that_reads_no_replies_is_dropped_and_others_go_on)
{
    struct peer rude = peer_ready(p, false), good = peer_ready(p, false);

    for (int i = 0; i < 64; i++) /* far more than the pipe takes */
        peer_request(&rude, 0, READ, i, 0, MiB);
    for (int i = 0; i < 59; i++) {
        co_sleep_until(clock_ns() + NS_PER_S);
        peer_request(&good, 0, READ, i, 0, 4096);
        assert_int_equal(peer_simple(&good, i), 0);
        peer_recv(&good, data, 4096);
    }
    assert_int_equal(server_connections(p->server), 2);
    co_sleep_until(clock_ns() + 3 * NS_PER_S);
    assert_int_equal(server_connections(p->server), 1);
    peer_close(&rude);
    peer_close(&good);
}

PROTO_TEST(clients_that_hold_all_buffers_are_dropped_sooner)
{
    struct peer rude[4], good;

    for (int i = 0; i < 4; i++) {
        rude[i] = peer_ready(p, false);
        for (int k = 0; k < 20; k++)
            peer_request(&rude[i], 0, READ, k, 0, MiB);
    }
    proto_settle();
    good = peer_ready(p, false);
    int64_t before = clock_ns();
    peer_request(&good, 0, READ, 1, 0, 4096);
    assert_int_equal(peer_simple(&good, 1), 0);
    peer_recv(&good, data, 4096);
    assert_in_range(clock_ns() - before, 4 * NS_PER_S, 11 * NS_PER_S);
    for (int i = 0; i < 4; i++)
        peer_close(&rude[i]);
    peer_close(&good);
}

PROTO_TEST(a_client_that_reads_slowly_is_not_dropped)
{
    struct peer c = peer_ready(p, false);

    for (int i = 0; i < 4; i++)
        peer_request(&c, 0, READ, i, 0, 4 * MiB);
    for (int i = 0; i < 4; i++) { /* 4 MiB in 40 s: every batch makes it within the minute */
        peer_recv(&c, data, 16);
        for (int k = 0; k < 4; k++) {
            co_sleep_until(clock_ns() + 10 * NS_PER_S);
            peer_recv(&c, data, MiB);
        }
    }
    peer_close(&c);
}

PROTO_TEST(a_client_that_stops_inside_a_message_is_dropped)
{
    static const size_t keep[] = {1, 27, 28, 28 + 1, 28 + 69999};
    uint8_t b[28 + 70000] = {0x25, 0x60, 0x95, 0x13, 0, 0, 0, WRITE};

    put_be32(b + 24, 70000);
    for (size_t i = 0; i < ARRAY_LEN(keep); i++) {
        struct peer c = peer_ready(p, false);
        int64_t before = clock_ns();

        peer_send(&c, b, keep[i]);
        peer_expect_end(&c);
        assert_in_range(clock_ns() - before, 60 * NS_PER_S, 62 * NS_PER_S);
        peer_close(&c);
    }
    assert_int_equal(p->n_ops[REQ_WRITE], 0);
}

PROTO_TEST(a_client_that_trickles_a_payload_is_not_dropped)
{
    struct peer c = peer_ready(p, false);

    peer_request(&c, 0, WRITE, 1, 0, 10);
    for (int i = 0; i < 10; i++) {
        co_sleep_until(clock_ns() + 30 * NS_PER_S);
        peer_send(&c, "x", 1);
    }
    assert_int_equal(peer_simple(&c, 1), 0);
    peer_close(&c);
}

PROTO_TEST(a_client_may_vanish_anywhere_in_a_write)
{
    static const uint32_t lens[] = {1, 4096, 300000};

    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        for (uint32_t sent = 0; sent < lens[i]; sent += 1 + lens[i] / 10) {
            struct peer c = peer_ready(p, false);

            peer_request(&c, 0, FLUSH, 1, 0, 0);
            peer_request(&c, 0, WRITE, 2, 0, lens[i]);
            peer_send(&c, data, sent);
            peer_close(&c);
            proto_settle();
            assert_int_equal(server_connections(p->server), 0);
        }
    }
    assert_int_equal(p->n_ops[REQ_WRITE], 0);
}

PROTO_TEST(a_client_may_vanish_with_requests_in_flight)
{
    p->gate_closed = true;
    for (int n = 1; n <= 4; n++) {
        struct peer c = peer_ready(p, n % 2);
        for (int i = 0; i < 30 * n; i++)
            peer_request(&c, 0, READ, i, 0, 1000);
        proto_settle();
        peer_close(&c);
    }
    proto_settle();
    assert_int_equal(server_connections(p->server), 4); /* they wait for the disk */
    gate_open(p);
    proto_settle();
    assert_int_equal(server_connections(p->server), 0);
}

PROTO_TEST(disconnect_finishes_replies_and_closes_first)
{
    struct peer c = peer_ready(p, false);

    p->gate_closed = true;
    for (int i = 0; i < 8; i++)
        peer_request(&c, 0, READ, i, 0, 512);
    peer_request(&c, 0, DISC, 0, 0, 0);
    proto_settle();
    gate_open(p);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(peer_simple(&c, i), 0);
        peer_recv(&c, data, 512);
    }
    peer_expect_end(&c);
    peer_close(&c);
}

struct stopper {
    struct proto *p;
    int result;
};

static void stop_run(void *arg)
{
    struct stopper *s = arg;
    s->result = server_stop(s->p->server, false);
}

PROTO_TEST(stop_lets_requests_finish_and_refuses_new_ones)
{
    struct peer c = peer_ready(p, false);

    p->gate_closed = true;
    peer_request(&c, 0, WRITE, 1, 0, 512);
    peer_send(&c, data, 512);
    proto_settle();
    struct stopper s = {p, 1};
    assert_true(co_start(stop_run, &s));
    proto_settle();
    assert_int_equal(s.result, 1);
    peer_request(&c, 0, READ, 2, 0, 512);
    assert_int_equal(peer_simple(&c, 2), 108);
    gate_open(p);
    assert_int_equal(peer_simple(&c, 1), 0);
    peer_expect_end(&c);
    proto_settle();
    assert_int_equal(s.result, 0);
    assert_int_equal(p->n_ops[REQ_FLUSH], 1);
    peer_close(&c);
}

PROTO_TEST(stop_reports_a_failing_flush)
{
    struct peer c = peer_ready(p, false);

    peer_request(&c, 0, WRITE, 1, 0, 512); /* a flush with nothing to flush would not be sent */
    peer_send(&c, data, 512);
    assert_int_equal(peer_simple(&c, 1), 0);
    p->fail = EIO;
    assert_int_equal(server_stop(p->server, false), -EIO);
    p->fail = 0;
    peer_close(&c);
}

PROTO_TEST(stop_does_not_wait_for_a_client_that_reads_nothing)
{
    struct peer c = peer_ready(p, false);

    for (int i = 0; i < 8; i++)
        peer_request(&c, 0, READ, i, 0, MiB);
    proto_settle();
    int64_t before = clock_ns();
    assert_int_equal(server_stop(p->server, false), 0);
    assert_true(clock_ns() - before < 6 * NS_PER_S);
    peer_close(&c);
}

static int idle_calls;

static void on_idle(void *arg)
{
    idle_calls++;
}

static void leave_when_idle(struct proto *p)
{
    p->server_opts.exit_on_last_disconnect = true;
}

PROTO_TEST_WITH(idle_is_told_when_the_last_served_client_left, leave_when_idle)
{
    struct peer a, b, c = peer_connect(p);

    idle_calls = 0;
    server_on_idle(p->server, on_idle, NULL);
    peer_hello(&c, 3);
    peer_close(&c); /* never served */
    proto_settle();
    assert_int_equal(idle_calls, 0);
    a = peer_ready(p, true);
    b = peer_ready(p, true);
    peer_close(&a);
    proto_settle();
    assert_int_equal(idle_calls, 0);
    peer_close(&b);
    proto_settle();
    assert_int_equal(idle_calls, 1);
}

/* BLOCK_STATUS needs one of a few places while it collects extents. Those must not go to requests
 * that wait for their own client to read its replies. */
PROTO_TEST(unread_replies_keep_nobody_else_from_block_status)
{
    struct peer rude = peer_connect(p), good = peer_connect(p);
    const char *q = "base:allocation";
    char names[100];
    struct chunk k;

    for (int i = 0; i < 2; i++) {
        struct peer *c = i ? &good : &rude;
        peer_hello(c, 3);
        peer_option(c, 8, NULL, 0);
        assert_int_equal(peer_reply(c, 8, NULL, 0, NULL), 1);
        assert_int_equal(peer_meta(c, 10, "disk", &q, 1, names, sizeof(names), NULL), 1);
        assert_int_equal(peer_go(c, 7, "disk", NULL, NULL), 1);
    }
    for (int i = 0; i < 4; i++)
        peer_request(&rude, 4, READ, i, 0, 4 * MiB);
    proto_settle();
    for (int i = 0; i < 40; i++)
        peer_request(&rude, 0, 7, i, 0, 65536);
    proto_settle();
    int64_t before = clock_ns();
    peer_request(&good, 0, 7, 1, 0, 65536);
    peer_chunk(&good, &k);
    assert_int_equal(k.type, 5);
    assert_true(clock_ns() - before < NS_PER_S);
    peer_close(&rude);
    peer_close(&good);
}

static size_t resident_bytes(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
    fclose(f);
    return (size_t)pages * 4096;
}

PROTO_TEST(connections_that_were_busy_rest_with_little_memory)
{
    enum { CLIENTS = 64, WRITES = 60 };
    struct peer c[CLIENTS];
    struct stream *ends[2];

    for (int i = 0; i < CLIENTS; i++) {
        assert_true(stream_pipe(512 * KiB, ends)); /* holds more than the server takes at a time */
        assert_true(server_serve(p->server, ends[0], NULL));
        c[i].s = ends[1];
        peer_hello(&c[i], 3);
        assert_int_equal(peer_go(&c[i], 7, "disk", NULL, NULL), 1);
        for (int k = 0; k < WRITES; k++) {
            peer_request(&c[i], 0, WRITE, k, 0, 4096);
            peer_send(&c[i], data, 4096);
        }
        for (int k = 0; k < WRITES; k++)
            assert_int_equal(peer_simple(&c[i], k), 0);
    }
    size_t busy = resident_bytes();
    co_sleep_until(clock_ns() + 61 * NS_PER_S);
    assert_true(resident_bytes() + CLIENTS * 150 * KiB < busy);
    for (int i = 0; i < CLIENTS; i++) {
        peer_request(&c[i], 0, READ, 1, 0, 512);
        assert_int_equal(peer_simple(&c[i], 1), 0);
        peer_recv(&c[i], data, 512);
        peer_close(&c[i]);
    }
}

static void one_client(struct proto *p)
{
    p->export_opts.max_connections = 1;
}

PROTO_TEST_WITH(an_export_for_one_client_does_not_offer_several_connections, one_client)
{
    struct peer c = peer_connect(p);
    uint16_t flags;

    peer_hello(&c, 3);
    assert_int_equal(peer_go(&c, 7, "disk", NULL, &flags), 1);
    assert_int_equal(flags & 1 << 8, 0);
    peer_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_101st_connection_is_turned_away_and_room_comes_back),
        cmocka_unit_test(a_full_export_is_told_by_policy),
        cmocka_unit_test(all_requests_of_one_message_run_at_once),
        cmocka_unit_test(at_most_64_requests_are_in_flight_and_the_rest_waits_its_turn),
        cmocka_unit_test(one_connection_holds_at_most_a_quarter_of_the_bytes),
        cmocka_unit_test(a_client_that_reads_no_replies_is_dropped_and_others_go_on),
        cmocka_unit_test(clients_that_hold_all_buffers_are_dropped_sooner),
        cmocka_unit_test(unread_replies_keep_nobody_else_from_block_status),
        cmocka_unit_test(connections_that_were_busy_rest_with_little_memory),
        cmocka_unit_test(an_export_for_one_client_does_not_offer_several_connections),
        cmocka_unit_test(a_client_that_reads_slowly_is_not_dropped),
        cmocka_unit_test(a_client_that_stops_inside_a_message_is_dropped),
        cmocka_unit_test(a_client_that_trickles_a_payload_is_not_dropped),
        cmocka_unit_test(a_client_may_vanish_anywhere_in_a_write),
        cmocka_unit_test(a_client_may_vanish_with_requests_in_flight),
        cmocka_unit_test(disconnect_finishes_replies_and_closes_first),
        cmocka_unit_test(stop_lets_requests_finish_and_refuses_new_ones),
        cmocka_unit_test(stop_reports_a_failing_flush),
        cmocka_unit_test(stop_does_not_wait_for_a_client_that_reads_nothing),
        cmocka_unit_test(idle_is_told_when_the_last_served_client_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
