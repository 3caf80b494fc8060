/* SPDX-License-Identifier: BSD-3-Clause
 *
 * STARTTLS, byte by byte: every mode, every order, and what must be forgotten.
 */
#include "tests/proto/proto_tls.h"

#define ERR(n) (0x80000000u + (n))
#define POLICY ERR(2)
#define INVALID ERR(3)
#define TLS_REQD ERR(5)
#define UNKNOWN ERR(6)

PROTO_TEST(without_credentials_starttls_is_against_the_policy)
{
    struct peer c = hello(p);

    peer_option(&c, 5, NULL, 0);
    peer_expect_error(&c, 5, POLICY, "no TLS");
    peer_option(&c, 5, "data", 4);
    peer_expect_error(&c, 5, INVALID, "no data");
    must_serve(&c);
    peer_close(&c);
}

PROTO_TEST_WITH(tls_is_there_for_who_wants_it, tls_on)
{
    struct peer plain = hello(p);
    struct tls_peer_client c = go_over(hello(p), NULL);

    must_serve(&plain);
    must_serve(&c.tls);
    peer_close(&plain);
    tls_close(&c);
}

PROTO_TEST_WITH(starttls_with_data_is_invalid_and_changes_nothing, tls_on)
{
    struct peer c = hello(p);

    peer_option(&c, 5, "data", 4);
    peer_expect_error(&c, 5, INVALID, "no data");
    struct tls_peer_client t = go_over(c, NULL);
    must_serve(&t.tls);
    tls_close(&t);
}

PROTO_TEST_WITH(starttls_within_tls_is_invalid, tls_required)
{
    struct tls_peer_client c = go_over(hello(p), NULL);

    peer_option(&c.tls, 5, NULL, 0);
    peer_expect_error(&c.tls, 5, INVALID, "already");
    must_serve(&c.tls);
    tls_close(&c);
}

PROTO_TEST_WITH(where_tls_is_required_every_other_option_asks_for_it, tls_required)
{
    static const uint32_t options[] = {0, 3, 4, 6, 7, 8, 9, 10, 11, 99, 0xffffffff};
    struct peer c = hello(p);

    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        peer_option(&c, options[i], "\0\0\0\4disk\0\0\0\0", 12);
        peer_expect_error(&c, options[i], TLS_REQD, "TLS");
    }
    struct tls_peer_client t = go_over(c, NULL);
    must_serve(&t.tls);
    tls_close(&t);
}

PROTO_TEST_WITH(where_tls_is_required_abort_is_acknowledged_all_the_same, tls_required)
{
    struct peer c = hello(p);

    peer_option(&c, 2, NULL, 0);
    assert_int_equal(peer_reply(&c, 2, NULL, 0, NULL), 1);
    peer_expect_end(&c);
    peer_close(&c);
}

PROTO_TEST_WITH(where_tls_is_required_export_name_closes, tls_required)
{
    struct peer c = hello(p);

    peer_option(&c, 1, "disk", 4);
    peer_expect_end(&c);
    peer_close(&c);

    c = peer_connect(p); /* nor can one do without who does not know TLS */
    peer_hello(&c, 0);
    peer_option(&c, 1, "disk", 4);
    peer_expect_end(&c);
    peer_close(&c);
}

static void only_this_export(struct proto *p)
{
    tls_on(p);
    p->export_opts.tls_only = true;
    p->export_opts.cbw = p->export_opts.top; /* looked at only when a view is made */
    p->export_opts.checkpoints = true;
}

PROTO_TEST_WITH(an_export_for_tls_only_is_hidden_before, only_this_export)
{
    static const char *const names[] = {"disk", "disk@monday"};
    static const char *const query[] = {"base:allocation"};
    struct peer c = hello(p);
    char out[64];

    peer_option(&c, 3, NULL, 0); /* LIST: nothing but the end of it */
    assert_int_equal(peer_reply(&c, 3, NULL, 0, NULL), 1);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(peer_go(&c, 6, names[i], NULL, NULL), TLS_REQD);
        assert_int_equal(peer_go(&c, 7, names[i], NULL, NULL), TLS_REQD);
    }
    assert_int_equal(peer_go(&c, 7, "other", NULL, NULL), UNKNOWN);
    /* TLS_REQD must not be said here. */
    assert_int_equal(peer_meta(&c, 9, "disk", query, 1, out, sizeof(out), NULL), UNKNOWN);
    peer_option(&c, 8, NULL, 0);
    peer_reply(&c, 8, NULL, 0, NULL);
    assert_int_equal(peer_meta(&c, 10, "disk", query, 1, out, sizeof(out), NULL), UNKNOWN);

    struct tls_peer_client t = go_over(c, NULL);
    peer_option(&t.tls, 3, NULL, 0);
    assert_int_equal(peer_reply(&t.tls, 3, NULL, 0, NULL), 2);
    assert_int_equal(peer_reply(&t.tls, 3, NULL, 0, NULL), 1);
    must_serve(&t.tls);
    tls_close(&t);

    c = hello(p);
    peer_option(&c, 1, "disk", 4);
    peer_expect_end(&c);
    peer_close(&c);
    assert_int_equal(p->n_ops[0], 0); /* nobody without TLS made the disk do anything */
}

/* --- What is forgotten, and what is refused --- */

PROTO_TEST_WITH(what_was_said_before_tls_is_forgotten, tls_on)
{
    static const char *const query[] = {"base:allocation"};
    struct peer c = hello(p);
    char out[64];
    uint32_t id;
    uint16_t flags;

    peer_option(&c, 8, NULL, 0);
    assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    assert_int_equal(peer_meta(&c, 10, "disk", query, 1, out, sizeof(out), &id), 1);
    struct tls_peer_client t = go_over(c, NULL);
    /* Structured replies: no DF, and they can be asked for anew. */
    assert_int_equal(peer_go(&t.tls, 6, "disk", NULL, &flags), 1);
    assert_int_equal(flags & 0x80, 0);
    peer_option(&t.tls, 8, NULL, 0);
    assert_int_equal(peer_reply(&t.tls, 8, NULL, 0, NULL), 1);
    /* The context: asking for extents is an error. */
    assert_int_equal(peer_go(&t.tls, 7, "disk", NULL, NULL), 1);
    peer_request(&t.tls, 0, 7, 5, 0, 4096);
    assert_int_equal(peer_chunk_error(&t.tls, 5), 22);
    tls_close(&t);

    c = hello(p);
    peer_option(&c, 8, NULL, 0);
    assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    t = go_over(c, NULL);
    assert_int_equal(peer_meta(&t.tls, 10, "disk", query, 1, out, sizeof(out), &id), INVALID);
    tls_close(&t);
}

PROTO_TEST_WITH(bytes_behind_starttls_end_the_connection, tls_on)
{
    static const uint8_t pipelined[] = "IHAVEOPT\0\0\0\5\0\0\0\0"  /* STARTTLS */
                                       "IHAVEOPT\0\0\0\3\0\0\0\0"; /* LIST */

    for (size_t extra = 1; extra <= 16; extra++) {
        struct peer c = hello(p);
        peer_send(&c, pipelined, 16 + extra);
        peer_expect_end(&c);
        peer_close(&c);
    }
}

PROTO_TEST_WITH(plain_words_instead_of_a_tls_handshake_end_the_connection, tls_on)
{
    struct peer c = hello(p);

    starttls(&c);
    peer_option(&c, 3, NULL, 0);
    assert_true(peer_ended(&c)); /* an alert may come before */
    peer_close(&c);
}

PROTO_TEST_WITH(the_time_for_the_handshake_goes_on_running, tls_on)
{
    int64_t before = clock_ns();
    struct peer c = hello(p);

    co_sleep_until(before + 6 * NS_PER_S);
    starttls(&c);
    assert_true(peer_ended(&c));
    assert_in_range(clock_ns() - before, 10 * NS_PER_S, 10 * NS_PER_S + NS_PER_MS);
    peer_close(&c);
}

static void few_options(struct proto *p)
{
    tls_on(p);
    p->server_opts.max_options = 5;
}

PROTO_TEST_WITH(options_before_tls_count, few_options)
{
    struct peer c = hello(p);

    for (int i = 0; i < 3; i++) {
        peer_option(&c, 3, NULL, 0);
        while (peer_reply(&c, 3, NULL, 0, NULL) == 2)
            ;
    }
    struct tls_peer_client t = go_over(c, NULL);
    assert_int_equal(peer_go(&t.tls, 6, "disk", NULL, NULL), 1); /* the fifth */
    peer_option(&t.tls, 3, NULL, 0);
    assert_true(peer_ended(&t.tls));
    tls_close(&t);
}

/* Every byte of the client's part of the handshake, TLS included, is the last one once. A good
 * client works alongside. */
PROTO_TEST_WITH(a_handshake_cut_at_any_byte_harms_nobody, tls_on)
{
    static const uint8_t before[] = "\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0";
    static uint8_t hello_bytes[4096];
    struct stream *ends[2];

    /* What a client says first; nobody answers it. */
    assert_true(stream_pipe(65536, ends));
    struct stream *t = tls_client_new(ends[0], &(struct tls_client_opts){0});
    assert_non_null(tls_client_handshake(t));
    ssize_t n = stream_recv(ends[1], hello_bytes, sizeof(hello_bytes), clock_ns());
    assert_in_range(n, 100, 2000);
    stream_free(t);
    stream_free(ends[0]);
    stream_free(ends[1]);

    struct tls_peer_client good = go_over(hello(p), NULL);
    must_serve(&good.tls);
    for (size_t cut = 0; cut < sizeof(before) - 1 + (size_t)n; cut++) {
        struct peer c = peer_connect(p);
        uint8_t greeting[18];
        peer_recv(&c, greeting, sizeof(greeting));
        peer_send(&c, before, min_u64(cut, sizeof(before) - 1));
        if (cut >= sizeof(before) - 1) {
            assert_int_equal(peer_reply(&c, 5, NULL, 0, NULL), 1);
            peer_send(&c, hello_bytes, cut - (sizeof(before) - 1));
        }
        co_reschedule();
        peer_close(&c);
    }
    proto_settle();
    assert_int_equal(server_connections(p->server), 1);
    peer_request(&good.tls, 0, 3, 78, 0, 0);
    assert_int_equal(peer_simple(&good.tls, 78), 0);
    tls_close(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TLS_ROW(without_credentials_starttls_is_against_the_policy),
        TLS_ROW(tls_is_there_for_who_wants_it),
        TLS_ROW(starttls_with_data_is_invalid_and_changes_nothing),
        TLS_ROW(starttls_within_tls_is_invalid),
        TLS_ROW(where_tls_is_required_every_other_option_asks_for_it),
        TLS_ROW(where_tls_is_required_abort_is_acknowledged_all_the_same),
        TLS_ROW(where_tls_is_required_export_name_closes),
        TLS_ROW(an_export_for_tls_only_is_hidden_before),
        TLS_ROW(what_was_said_before_tls_is_forgotten),
        TLS_ROW(bytes_behind_starttls_end_the_connection),
        TLS_ROW(plain_words_instead_of_a_tls_handshake_end_the_connection),
        TLS_ROW(the_time_for_the_handshake_goes_on_running),
        TLS_ROW(options_before_tls_count),
        TLS_ROW(a_handshake_cut_at_any_byte_harms_nobody),
    };
    return cmocka_run_group_tests(tests, tls_files_make, tls_files_remove);
}
