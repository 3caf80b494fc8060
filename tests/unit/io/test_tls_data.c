/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What goes through the TLS stream, how it ends, and everything that is no TLS.
 */
#include <openssl/ssl.h>

#include "base/mem.h"
#include "tests/unit/io/tls_session.h"

/* --- Data --- */

#define BIG (3 * MiB + 12345)

struct transfer {
    struct stream *s;
    const uint8_t *data;
    size_t piece; /* bytes in each part of the vector */
    struct co_group *group;
};

static void send_run(void *arg)
{
    struct transfer *t = arg;
    static struct iovec v[BIG / 100 + 1];
    int n = 0;

    for (size_t at = 0; at < BIG; at += t->piece)
        v[n++] = (struct iovec){(void *)(uintptr_t)(t->data + at), min_u64(t->piece, BIG - at)};
    assert_int_equal(stream_sendv(t->s, v, n, clock_ns() + 100 * NS_PER_S), 0);
    co_group_done(t->group);
}

TLS_TEST(much_data_in_pieces_of_any_size_arrives_whole_through_a_narrow_pipe)
{
    static const size_t pieces[] = {100, 16384, 16385, 1000 * 1000, BIG};
    struct session s = {.creds = session_creds(tls_dir, false, false), .pipe_size = 1000};
    uint8_t *data = mem_alloc(BIG), *got = mem_alloc(BIG);

    for (size_t i = 0; i < BIG; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    session_begin(&s);
    session_must_work(&s);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct stream *ends[2] = {s.server, s.client};
        for (int way = 0; way < 2; way++) {
            struct transfer t = {ends[way], data, pieces[i], &s.group};
            memset(got, 0, BIG);
            co_group_add(&s.group);
            assert_true(co_start(send_run, &t));
            assert_int_equal(stream_recv_all(ends[1 - way], got, BIG, clock_ns() + 100 * NS_PER_S),
                             0);
            assert_true(memcmp(data, got, BIG) == 0);
            co_group_wait(&s.group);
        }
    }
    session_end(&s);
    mem_free(data);
    mem_free(got);
    tls_creds_unref(s.creds);
}

/* What is ready together goes out together: a header and a payload are one record. */
TLS_TEST(small_parts_of_a_vector_become_one_record)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};
    char a[28] = "a", b[512] = "b", raw[1000];
    struct iovec v[3] = {{a, 28}, {b, 512}, {a, 28}};

    session_begin(&s);
    session_must_work(&s);
    assert_int_equal(stream_sendv(s.server, v, 3, SECOND_LATER), 0);
    ssize_t n = stream_recv(s.below[1], raw, sizeof(raw), SECOND_LATER);
    assert_in_range(n, 568 + 5 + 16, 568 + 5 + 16 + 16);
    assert_int_equal(get_be16((uint8_t *)raw + 3), n - 5);
    session_end(&s);
    tls_creds_unref(s.creds);
}

TLS_TEST(new_keys_are_taken_and_given)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};

    s.co.version = TLS1_3_VERSION;
    session_begin(&s);
    for (int i = 0; i < 3; i++) {
        session_must_work(&s);
        tls_client_update(s.client);
    }
    session_must_work(&s);
    session_end(&s);
    tls_creds_unref(s.creds);
}

/* --- The end, and everything that is no TLS --- */

TLS_TEST(after_a_rest_everything_works_on)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};

    session_begin(&s);
    for (int i = 0; i < 3; i++) {
        session_must_work(&s);
        stream_rest(s.server);
    }
    session_must_work(&s);
    session_end(&s);
    tls_creds_unref(s.creds);
}

TLS_TEST(goodbye_is_the_end_and_a_silent_end_is_an_error)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};
    struct iovec v = {"last words", 10};
    char buf[16];

    for (int goodbye = 0; goodbye < 2; goodbye++) {
        session_begin(&s);
        session_must_work(&s);
        v = (struct iovec){"last words", 10};
        assert_int_equal(stream_sendv(s.client, &v, 1, SECOND_LATER), 0);
        if (goodbye)
            tls_client_goodbye(s.client);
        else
            stream_shutdown(s.below[1]);
        assert_int_equal(stream_recv_all(s.server, buf, 10, SECOND_LATER), 0);
        for (int again = 0; again < 3; again++)
            assert_int_equal(stream_recv(s.server, buf, 10, SECOND_LATER),
                             goodbye ? 0 : -ECONNRESET);
        session_end(&s);
    }
    tls_creds_unref(s.creds);
}

TLS_TEST(after_the_clients_goodbye_replies_still_arrive)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};
    struct iovec v = {"reply", 5};
    char buf[8];

    session_begin(&s);
    tls_client_goodbye(s.client);
    assert_int_equal(stream_recv(s.server, buf, 8, SECOND_LATER), 0);
    assert_int_equal(stream_sendv(s.server, &v, 1, SECOND_LATER), 0);
    assert_int_equal(stream_recv_all(s.client, buf, 5, SECOND_LATER), 0);
    stream_shutdown(s.server); /* says goodbye in its turn */
    assert_int_equal(stream_recv(s.client, buf, 8, SECOND_LATER), 0);
    session_end(&s);
    tls_creds_unref(s.creds);
}

TLS_TEST(sending_to_one_who_has_gone_fails_and_goes_on_failing)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};
    char data[100] = "x";

    session_begin(&s);
    session_must_work(&s);
    stream_shutdown(s.below[1]);
    for (int i = 0; i < 3; i++) {
        struct iovec v = {data, sizeof(data)};
        assert_int_equal(stream_sendv(s.server, &v, 1, SECOND_LATER), -EPIPE);
    }
    session_end(&s);
    tls_creds_unref(s.creds);
}

TLS_TEST(nobody_reading_or_writing_meets_the_deadline)
{
    struct session s = {.creds = session_creds(tls_dir, false, false), .pipe_size = 500};
    char data[2000] = "x", c;
    struct iovec v = {data, sizeof(data)};

    session_begin(&s);
    session_must_work(&s);
    assert_int_equal(stream_recv(s.server, &c, 1, SECOND_LATER), -ETIMEDOUT);
    session_must_work(&s); /* that broke nothing */
    assert_int_equal(stream_sendv(s.server, &v, 1, SECOND_LATER), -ETIMEDOUT);
    session_end(&s);
    tls_creds_unref(s.creds);
}

TLS_TEST(a_changed_byte_ends_the_stream_and_tells_the_client_why)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};
    char garbage[40] = {23, 3, 3, 0, 35}, c;
    struct iovec v = {garbage, sizeof(garbage)};

    session_begin(&s);
    session_must_work(&s);
    assert_int_equal(stream_sendv(s.below[1], &v, 1, SECOND_LATER), 0);
    for (int i = 0; i < 3; i++)
        assert_true(stream_recv(s.server, &c, 1, SECOND_LATER) < 0);
    v = (struct iovec){garbage, sizeof(garbage)};
    assert_int_equal(stream_sendv(s.server, &v, 1, SECOND_LATER), -EPIPE);
    assert_int_equal(stream_recv(s.client, &c, 1, SECOND_LATER), -EPROTO); /* an alert */
    session_end(&s);
    tls_creds_unref(s.creds);
}

/* A stream that remembers what is sent through it. */
struct tap {
    struct stream stream, *below;
    uint8_t bytes[8192];
    size_t n;
};

static ssize_t tap_recv(struct stream *s, void *buf, size_t len, bool whole, int64_t deadline_ns)
{
    return stream_recv(((struct tap *)s)->below, buf, len, deadline_ns);
}

static int tap_sendv(struct stream *s, struct iovec *iov, int iov_len, int64_t deadline_ns)
{
    struct tap *tap = (struct tap *)s;

    for (int i = 0; i < iov_len; i++) {
        assert_true(tap->n + iov[i].iov_len <= sizeof(tap->bytes));
        memcpy(tap->bytes + tap->n, iov[i].iov_base, iov[i].iov_len);
        tap->n += iov[i].iov_len;
    }
    return stream_sendv(tap->below, iov, iov_len, deadline_ns);
}

static const struct stream_ops tap_ops = {.recv = tap_recv, .sendv = tap_sendv};

static void server_begin(struct session *s)
{
    assert_true(stream_pipe(65536, s->below));
    s->server = tls_server_new(s->below[0], s->creds);
    assert_non_null(s->server);
    co_group_add(&s->group);
    assert_true(co_start(session_accept, s));
}

static void record_client(struct session *s, struct tap *tap)
{
    server_begin(s);
    *tap = (struct tap){.stream = {&tap_ops}, .below = s->below[1]};
    s->client = tls_client_new(&tap->stream, &s->co);
    assert_null(tls_client_handshake(s->client));
    co_group_wait(&s->group);
    assert_true(s->accepted);
    session_end(s);
}

/* Other keys than the recorded ones are drawn, so the handshake never gets beyond the last byte. */
TLS_TEST(a_handshake_cut_at_any_byte_is_an_error_and_nothing_stays_behind)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct session s = {.creds = session_creds(tls_dir, false, false)};
    static struct tap tap;

    for (int i = 0; i < 2; i++) {
        s.co.version = versions[i];
        record_client(&s, &tap);
        assert_true(tap.n > 150);
        for (size_t cut = 0; cut <= tap.n; cut++) {
            struct iovec v = {tap.bytes, cut};
            server_begin(&s);
            assert_int_equal(stream_sendv(s.below[1], &v, 1, SECOND_LATER), 0);
            co_reschedule();
            stream_shutdown(s.below[1]);
            co_group_wait(&s.group);
            assert_false(s.accepted);
            assert_non_null(s.error);
            session_end(&s);
        }
    }
    tls_creds_unref(s.creds);
}

/* Memory fails once, or from then on, at each allocation in turn. */
TLS_TEST(without_memory_a_handshake_fails_and_does_not_spin)
{
    struct session s = {.creds = session_creds(tls_dir, true, false)};
    unsigned failed = 0;

    s.co = (struct tls_client_opts){.user = "qemu", .psk = tls_key, .psk_len = tls_key_len};
    for (unsigned n = 1; n <= 24; n++) {
        assert_true(stream_pipe(65536, s.below));
        mem_fail_nth((n + 1) / 2, n % 2);
        s.server = tls_server_new(s.below[0], s.creds);
        if (!s.server) {
            mem_fail_nth(0, 0);
            stream_free(s.below[0]);
            stream_free(s.below[1]);
            failed++;
            continue;
        }
        s.client = tls_client_new(s.below[1], &s.co);
        co_group_add(&s.group);
        if (!co_start(session_accept, &s))
            co_group_done(&s.group);
        s.client_error = tls_client_handshake(s.client);
        if (s.client_error)
            stream_shutdown(s.below[1]);
        co_group_wait(&s.group);
        mem_fail_nth(0, 0);
        failed += !s.accepted;
        session_end(&s);
    }
    assert_in_range(failed, 6, 23);
    tls_creds_unref(s.creds);
}

TLS_TEST(a_silent_client_is_given_up_at_the_deadline)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};

    assert_true(stream_pipe(65536, s.below));
    s.server = tls_server_new(s.below[0], s.creds);
    int64_t before = clock_ns();
    assert_false(tls_handshake(s.server, before + 10 * NS_PER_S, &s.error));
    assert_int_equal(clock_ns(), before + 10 * NS_PER_S);
    assert_int_equal(err_code(s.error), ETIMEDOUT);
    err_free(s.error);
    stream_free(s.server);
    stream_free(s.below[1]);
    tls_creds_unref(s.creds);
}

TLS_TEST(noise_instead_of_a_handshake_is_refused)
{
    static const char *const noise[] = {"IHAVEOPT\0\0\0\7\0\0\0\0", "\x16\x03\x01\xff\xff",
                                        "GET / "};
    struct session s = {.creds = session_creds(tls_dir, false, false)};

    for (size_t i = 0; i < ARRAY_LEN(noise); i++) {
        char buf[64] = "";
        struct iovec v = {buf, 16};
        memcpy(buf, noise[i], 6);
        assert_true(stream_pipe(65536, s.below));
        s.server = tls_server_new(s.below[0], s.creds);
        assert_int_equal(stream_sendv(s.below[1], &v, 1, SECOND_LATER), 0);
        assert_false(tls_handshake(s.server, SECOND_LATER, &s.error));
        assert_int_equal(err_code(s.error), EPROTO);
        err_free(s.error);
        s.error = NULL;
        stream_free(s.server);
        stream_free(s.below[1]);
    }
    tls_creds_unref(s.creds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(much_data_in_pieces_of_any_size_arrives_whole_through_a_narrow_pipe),
        cmocka_unit_test(small_parts_of_a_vector_become_one_record),
        cmocka_unit_test(new_keys_are_taken_and_given),
        cmocka_unit_test(after_a_rest_everything_works_on),
        cmocka_unit_test(goodbye_is_the_end_and_a_silent_end_is_an_error),
        cmocka_unit_test(after_the_clients_goodbye_replies_still_arrive),
        cmocka_unit_test(sending_to_one_who_has_gone_fails_and_goes_on_failing),
        cmocka_unit_test(nobody_reading_or_writing_meets_the_deadline),
        cmocka_unit_test(a_changed_byte_ends_the_stream_and_tells_the_client_why),
        cmocka_unit_test(a_handshake_cut_at_any_byte_is_an_error_and_nothing_stays_behind),
        cmocka_unit_test(without_memory_a_handshake_fails_and_does_not_spin),
        cmocka_unit_test(a_silent_client_is_given_up_at_the_deadline),
        cmocka_unit_test(noise_instead_of_a_handshake_is_refused),
    };
    return cmocka_run_group_tests(tests, tls_files_make, tls_files_remove);
}
