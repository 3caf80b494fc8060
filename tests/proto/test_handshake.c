/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The handshake, byte by byte: every option, malformed data, limits, the clock.
 */
#include "tests/proto/proto.h"

#define ERR(n) (0x80000000u + (n))
#define UNSUP ERR(1)
#define POLICY ERR(2)
#define INVALID ERR(3)
#define UNKNOWN ERR(6)
#define TOO_BIG ERR(9)

PROTO_TEST(go_reports_size_flags_and_enters_transmission)
{
    struct peer c = peer_connect(p);
    uint64_t size;
    uint16_t flags;

    peer_hello(&c, 3);
    assert_int_equal(peer_go(&c, 6, "disk", &size, &flags), 1);
    assert_int_equal(size, DISK_SIZE);
    assert_int_equal(flags, 0xDED & ~0x80); /* no DF before structured replies */
    peer_option(&c, 8, NULL, 0);
    assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    assert_int_equal(peer_go(&c, 7, "disk", &size, &flags), 1);
    assert_int_equal(flags, 0xDED);
    peer_request(&c, 0, 3, 77, 0, 0);
    assert_int_equal(peer_simple(&c, 77), 0);
    peer_request(&c, 0, 2, 0, 0, 0);
    peer_expect_end(&c);
    peer_close(&c);
}

static void read_only(struct proto *p)
{
    p->export_opts.read_only = true;
}

PROTO_TEST_WITH(a_read_only_export_says_so, read_only)
{
    struct peer c = peer_connect(p);
    uint16_t flags;

    peer_hello(&c, 3);
    peer_option(&c, 8, NULL, 0);
    peer_reply(&c, 8, NULL, 0, NULL);
    assert_int_equal(peer_go(&c, 7, "disk", NULL, &flags), 1);
    assert_int_equal(flags, 0x58F);
    peer_close(&c);
}

PROTO_TEST(go_answers_the_information_asked_for)
{
    struct peer c = peer_connect(p);
    uint8_t b[] = "\0\0\0\4disk\0\3\0\1\0\2\0\x63"; /* NAME, DESCRIPTION, an unknown one */
    uint8_t info[64];
    uint32_t len;
    bool seen[4] = {0};

    peer_hello(&c, 3);
    peer_option(&c, 7, b, sizeof(b) - 1);
    while (peer_reply(&c, 7, info, sizeof(info), &len) == 3) {
        uint16_t type = get_be16(info);
        assert_true(type < 4);
        seen[type] = true;
        if (type == 1)
            assert_true(len == 6 && memcmp(info + 2, "disk", 4) == 0);
        if (type == 2)
            assert_true(len == 8 && memcmp(info + 2, "a disk", 6) == 0);
        if (type == 3) {
            assert_int_equal(len, 14);
            assert_int_equal(get_be32(info + 2), 1);
            assert_int_equal(get_be32(info + 6), 4096);
            assert_int_equal(get_be32(info + 10), 32 << 20);
        }
    }
    for (int i = 0; i < 4; i++)
        assert_true(seen[i]);
    peer_close(&c);
}

PROTO_TEST(export_name_pads_unless_told_not_to)
{
    for (uint32_t no_zeroes = 0; no_zeroes < 2; no_zeroes++) {
        struct peer c = peer_connect(p);
        uint8_t b[134];

        peer_hello(&c, 1 | no_zeroes << 1);
        peer_option(&c, 1, "disk", 4);
        peer_recv(&c, b, no_zeroes ? 10 : 134);
        assert_int_equal(get_be64(b), DISK_SIZE);
        peer_request(&c, 0, 3, 5, 0, 0);
        assert_int_equal(peer_simple(&c, 5), 0);
        peer_close(&c);
    }
}

PROTO_TEST(export_name_with_an_unknown_name_closes)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_option(&c, 1, "disc", 4);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST(list_names_the_export)
{
    struct peer c = peer_connect(p);
    char b[64];
    uint32_t len;

    peer_hello(&c, 3);
    peer_option(&c, 3, NULL, 0);
    assert_int_equal(peer_reply(&c, 3, b, sizeof(b), &len), 2);
    assert_int_equal(len, 14);
    assert_memory_equal(b, "\0\0\0\4diska disk", 14);
    assert_int_equal(peer_reply(&c, 3, NULL, 0, NULL), 1);
    peer_option(&c, 3, "x", 1);
    peer_expect_error(&c, 3, INVALID, "no data");
    peer_close(&c);
}

PROTO_TEST(abort_is_acknowledged_also_with_data)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_option(&c, 2, "bye", 3);
    assert_int_equal(peer_reply(&c, 2, NULL, 0, NULL), 1);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST(unknown_options_with_data_keep_the_stream_in_step)
{
    static uint8_t data[400000];
    static const uint32_t options[] = {0, 4, 12, 13, 99, 0xffffffff};
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        peer_option(&c, options[i], data, (uint32_t)(i * 70001));
        peer_expect_error(&c, options[i], UNSUP, "not known");
    }
    peer_option(&c, 7, data, sizeof(data)); /* known, but too long to be read */
    peer_expect_error(&c, 7, TOO_BIG, "400000");
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), 1);
    peer_close(&c);
}

PROTO_TEST(tls_is_refused_by_policy)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_option(&c, 5, NULL, 0);
    peer_expect_error(&c, 5, POLICY, "TLS");
    peer_option(&c, 5, "x", 1);
    peer_expect_error(&c, 5, INVALID, "no data");
    peer_close(&c);
}

PROTO_TEST(structured_replies_are_negotiated_once)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_option(&c, 8, "x", 1);
    peer_expect_error(&c, 8, INVALID, "no data");
    peer_option(&c, 8, NULL, 0);
    assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    peer_option(&c, 8, NULL, 0);
    peer_expect_error(&c, 8, INVALID, "already");
    peer_close(&c);
}

PROTO_TEST(unknown_client_flags_close)
{
    for (int bit = 2; bit < 32; bit++) {
        struct peer c = peer_connect(p);
        peer_hello(&c, 3u | 1u << bit);
        peer_expect_end(&c);
        peer_close(&c);
    }
}

PROTO_TEST(without_fixed_newstyle_only_export_name_is_served)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 0);
    peer_option(&c, 3, NULL, 0);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST(a_wrong_option_magic_closes)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_send(&c, "IHAVEOPS\0\0\0\3\0\0\0\0", 16);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST(an_option_of_4_gib_closes_at_once)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_send(&c, "IHAVEOPT\0\0\0\x63\xff\xff\xff\xff", 16);
    peer_expect_end(&c);
    assert_true(clock_ns() < NS_PER_S);
    peer_close(&c);
}

PROTO_TEST(go_with_lengths_that_do_not_add_up_is_invalid)
{
    static const struct {
        const char *data;
        uint32_t len;
    } bad[] = {
        {"", 0},
        {"\0\0\0\4disk", 8},      /* no count */
        {"\0\0\0\4disk\0", 9},    /* half a count */
        {"\0\0\0\5disk\0\0", 10}, /* name takes a byte of the count */
        {"\xff\xff\xff\xff"
         "disk\0\0",
         10},                      /* name of 4 GiB */
        {"\0\0\0\4disk\0\1", 10},  /* an item is missing */
        {"\0\0\0\4disk\0\0x", 11}, /* a byte too many */
        {"\0\0\0\4di\0k\0\0", 10}, /* a NUL */
    };
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        peer_option(&c, 6 + i % 2, bad[i].data, bad[i].len);
        peer_expect_error(&c, 6 + i % 2, INVALID, "malformed");
    }
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), 1);
    peer_close(&c);
}

static char long_name[5000];

PROTO_TEST(names_up_to_4096_bytes_are_looked_up_longer_ones_are_invalid)
{
    static const unsigned lengths[] = {255, 256, 257, 1023, 4095, 4096};
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        memset(long_name, 'n', lengths[i]);
        long_name[lengths[i]] = '\0';
        assert_int_equal(peer_go(&c, 6, long_name, NULL, NULL), UNKNOWN);
    }
    memset(long_name, 'n', 4097);
    assert_int_equal(peer_go(&c, 6, long_name, NULL, NULL), INVALID);
    peer_option(&c, 1, long_name, 4097);
    peer_expect_end(&c);
    peer_close(&c);
}

static void long_export(struct proto *p)
{
    memset(long_name, 'e', 4096);
    long_name[4096] = '\0';
    p->export_opts.name = long_name;
}

PROTO_TEST_WITH(an_export_name_of_4096_bytes_works, long_export)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    peer_option(&c, 3, NULL, 0);
    assert_int_equal(peer_reply(&c, 3, NULL, 0, NULL), 2);
    assert_int_equal(peer_reply(&c, 3, NULL, 0, NULL), 1);
    assert_int_equal(peer_go(&c, 7, long_name, NULL, NULL), 1);
    peer_close(&c);
}

PROTO_TEST(unknown_names_are_told_with_odd_bytes_replaced)
{
    struct peer c = peer_connect(p);
    uint8_t b[] = "\0\0\0\7"
                  "a\033[2J\xff"
                  "b\0\0";

    peer_hello(&c, 3);
    peer_option(&c, 7, b, sizeof(b) - 1);
    peer_expect_error(&c, 7, UNKNOWN, "'a?[2J?b'");
    peer_close(&c);
}

/* A whole handshake: flags, structured replies, contexts, GO; then one read. */
static size_t whole_handshake(uint8_t *b)
{
    static const char text[] = "\0\0\0\3"
                               "IHAVEOPT\0\0\0\x8\0\0\0\0"
                               "IHAVEOPT\0\0\0\xa\0\0\0\x1f\0\0\0\4disk\0\0\0\1\0\0\0\xf"
                               "base:allocation"
                               "IHAVEOPT\0\0\0\7\0\0\0\xa\0\0\0\4disk\0\0"
                               "\x25\x60\x95\x13\0\0\0\0cookie01\0\0\0\0\0\0\0\0\0\0\x10\0";
    memcpy(b, text, sizeof(text) - 1);
    return sizeof(text) - 1;
}

PROTO_TEST(a_client_may_leave_at_every_byte)
{
    uint8_t b[256];
    size_t n = whole_handshake(b);

    for (size_t cut = 0; cut <= n; cut++) {
        struct peer c = peer_connect(p);
        peer_send(&c, b, cut);
        proto_settle();
        peer_close(&c);
        proto_settle();
        assert_int_equal(server_connections(p->server), 0);
    }
    assert_int_equal(p->n_ops[REQ_READ], 1); /* only the whole one got that far */
}

PROTO_TEST(a_client_may_pause_at_every_byte)
{
    uint8_t b[256];
    size_t n = whole_handshake(b);

    for (size_t cut = 0; cut <= n; cut += 7) {
        struct peer c = peer_connect(p);
        peer_send(&c, b, cut);
        proto_settle();
        for (size_t i = cut; i < n; i++) {
            peer_send(&c, b + i, 1);
            co_reschedule();
        }
        proto_settle();
        peer_close(&c);
        proto_settle();
    }
    assert_int_equal(p->n_ops[REQ_READ], n / 7 + 1);
}

PROTO_TEST(a_pipelined_handshake_with_requests_behind_it_works)
{
    uint8_t b[256], skip[20 + 18 + 20 + 4 + 15 + 20];
    size_t n = whole_handshake(b);
    struct peer c = peer_connect(p);
    struct chunk k;

    peer_send(&c, b, n);
    peer_recv(&c, skip, 18);
    assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    assert_int_equal(peer_reply(&c, 10, NULL, 0, NULL), 4);
    assert_int_equal(peer_reply(&c, 10, NULL, 0, NULL), 1);
    while (peer_reply(&c, 7, NULL, 0, NULL) == 3)
        ;
    peer_chunk(&c, &k);
    assert_int_equal(k.type, 1);
    assert_int_equal(k.len, 8 + 4096);
    peer_close(&c);
}

PROTO_TEST(a_stalled_handshake_is_dropped_after_ten_seconds)
{
    uint8_t b[256];
    size_t n = whole_handshake(b) - 28 - 1; /* one byte short of the end of GO */

    for (size_t cut = 0; cut <= n; cut += 11) {
        struct peer c = peer_connect(p);
        int64_t before = clock_ns();

        peer_send(&c, b, cut);
        assert_true(peer_ended(&c));
        assert_in_range(clock_ns() - before, 10 * NS_PER_S - 1, 10 * NS_PER_S + NS_PER_MS);
        peer_close(&c);
    }
}

PROTO_TEST(a_trickle_does_not_extend_the_handshake)
{
    struct peer c = peer_connect(p);
    int64_t before = clock_ns();

    peer_hello(&c, 3);
    for (int i = 0; i < 9; i++) { /* one option every second, all fine */
        co_sleep_until(clock_ns() + NS_PER_S);
        assert_int_equal(peer_go(&c, 6, "disk", NULL, NULL), 1);
    }
    peer_expect_end(&c);
    assert_in_range(clock_ns() - before, 10 * NS_PER_S - 1, 10 * NS_PER_S + NS_PER_MS);
    peer_close(&c);
}

PROTO_TEST(an_idle_client_in_transmission_is_not_dropped)
{
    struct peer c = peer_ready(p, true);

    co_sleep_until(clock_ns() + 100000 * NS_PER_S);
    peer_request(&c, 0, 3, 1, 0, 0);
    assert_int_equal(peer_simple(&c, 1), 0);
    peer_close(&c);
}

PROTO_TEST(the_number_of_options_is_limited)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    for (int i = 0; i < 256; i++) {
        peer_option(&c, 99, NULL, 0);
        peer_expect_error(&c, 99, UNSUP, "");
    }
    peer_option(&c, 99, NULL, 0);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST(stop_cuts_half_done_handshakes)
{
    struct peer a = peer_connect(p), b = peer_connect(p), c = peer_ready(p, true);

    peer_hello(&b, 3);
    peer_send(&b, "IHAVE", 5);
    proto_settle();
    assert_int_equal(server_stop(p->server, false), 0);
    assert_true(clock_ns() < NS_PER_S);
    assert_true(peer_ended(&a) && peer_ended(&b) && peer_ended(&c));
    peer_close(&a);
    peer_close(&b);
    peer_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(go_reports_size_flags_and_enters_transmission),
        cmocka_unit_test(a_read_only_export_says_so),
        cmocka_unit_test(go_answers_the_information_asked_for),
        cmocka_unit_test(export_name_pads_unless_told_not_to),
        cmocka_unit_test(export_name_with_an_unknown_name_closes),
        cmocka_unit_test(list_names_the_export),
        cmocka_unit_test(abort_is_acknowledged_also_with_data),
        cmocka_unit_test(unknown_options_with_data_keep_the_stream_in_step),
        cmocka_unit_test(tls_is_refused_by_policy),
        cmocka_unit_test(structured_replies_are_negotiated_once),
        cmocka_unit_test(unknown_client_flags_close),
        cmocka_unit_test(without_fixed_newstyle_only_export_name_is_served),
        cmocka_unit_test(a_wrong_option_magic_closes),
        cmocka_unit_test(an_option_of_4_gib_closes_at_once),
        cmocka_unit_test(go_with_lengths_that_do_not_add_up_is_invalid),
        cmocka_unit_test(names_up_to_4096_bytes_are_looked_up_longer_ones_are_invalid),
        cmocka_unit_test(an_export_name_of_4096_bytes_works),
        cmocka_unit_test(unknown_names_are_told_with_odd_bytes_replaced),
        cmocka_unit_test(a_client_may_leave_at_every_byte),
        cmocka_unit_test(a_client_may_pause_at_every_byte),
        cmocka_unit_test(a_pipelined_handshake_with_requests_behind_it_works),
        cmocka_unit_test(a_stalled_handshake_is_dropped_after_ten_seconds),
        cmocka_unit_test(a_trickle_does_not_extend_the_handshake),
        cmocka_unit_test(an_idle_client_in_transmission_is_not_dropped),
        cmocka_unit_test(the_number_of_options_is_limited),
        cmocka_unit_test(stop_cuts_half_done_handshakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
