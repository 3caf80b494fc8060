/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Exports within TLS: requests, the end, who may use them, new credentials.
 */
#include "tests/proto/proto_tls.h"

#define POLICY 0x80000002u
#define TLS_REQD 0x80000005u

PROTO_TEST_WITH(a_refused_payload_is_drained_through_tls, tls_required)
{
    static uint8_t data[1 * MiB], back[1 * MiB];
    struct tls_peer_client c = go_over(hello(p), NULL);

    must_serve(&c.tls);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i >> 8 ^ i);
    /* Past the end: refused, but its payload is on its way. */
    peer_request(&c.tls, 0, 1, 1, DISK_SIZE - 4096, sizeof(data));
    peer_send(&c.tls, data, sizeof(data));
    assert_int_equal(peer_simple(&c.tls, 1), 28);
    peer_request(&c.tls, 0, 1, 2, 0, sizeof(data));
    peer_send(&c.tls, data, sizeof(data));
    assert_int_equal(peer_simple(&c.tls, 2), 0);
    peer_request(&c.tls, 0, 0, 3, 0, sizeof(data));
    assert_int_equal(peer_simple(&c.tls, 3), 0);
    peer_recv(&c.tls, back, sizeof(back));
    assert_memory_equal(data, back, sizeof(data));
    tls_close(&c);
}

PROTO_TEST_WITH(the_server_says_goodbye_before_it_closes, tls_required)
{
    struct tls_peer_client c = go_over(hello(p), NULL);
    char byte;

    must_serve(&c.tls);
    peer_request(&c.tls, 0, 2, 0, 0, 0);
    assert_int_equal(stream_recv(c.tls.s, &byte, 1, clock_ns() + NS_PER_S), 0);
    tls_close(&c);
}

PROTO_TEST_WITH(who_says_goodbye_still_gets_his_replies, tls_required)
{
    struct tls_peer_client c = go_over(hello(p), NULL);
    uint8_t sector[512];

    must_serve(&c.tls);
    p->gate_closed = true;
    peer_request(&c.tls, 0, 0, 9, 0, sizeof(sector));
    tls_client_goodbye(c.tls.s);
    proto_settle();
    gate_open(p);
    assert_int_equal(peer_simple(&c.tls, 9), 0);
    peer_recv(&c.tls, sector, sizeof(sector));
    tls_close(&c);
}

PROTO_TEST_WITH(a_silent_end_of_the_wire_ends_the_connection, tls_required)
{
    struct tls_peer_client c = go_over(hello(p), NULL);

    must_serve(&c.tls);
    assert_int_equal(server_connections(p->server), 1);
    stream_shutdown(c.plain.s);
    proto_settle();
    assert_int_equal(server_connections(p->server), 0);
    tls_close(&c);
}

/* --- Who may use an export --- */

static void for_alice(struct proto *p)
{
    with_tls(p, SERVER_TLS_ON, true, false);
    tls_authz = authz_new(false);
    const struct authz_rule rule = {AUTHZ_USER, false, true, "alice"};
    assert_true(authz_add(tls_authz, &rule, NULL));
    p->export_opts.authz = tls_authz;
}

PROTO_TEST_WITH(an_export_for_others_is_neither_listed_nor_entered, for_alice)
{
    const struct tls_client_opts qemu = {.user = "qemu", .psk = tls_key, .psk_len = tls_key_len};
    struct peer plain = hello(p);
    struct tls_peer_client c = go_over(hello(p), &qemu);

    assert_int_equal(peer_go(&plain, 7, "disk", NULL, NULL), TLS_REQD);
    peer_close(&plain);
    peer_option(&c.tls, 3, NULL, 0);
    assert_int_equal(peer_reply(&c.tls, 3, NULL, 0, NULL), 1);
    assert_int_equal(peer_go(&c.tls, 6, "disk", NULL, NULL), POLICY);
    assert_int_equal(peer_go(&c.tls, 7, "disk", NULL, NULL), POLICY);
    peer_option(&c.tls, 1, "disk", 4);
    assert_true(peer_ended(&c.tls));
    tls_close(&c);
}

static void for_our_client(struct proto *p)
{
    with_tls(p, SERVER_TLS_ON, false, true);
    tls_authz = authz_new(false);
    const struct authz_rule rule = {AUTHZ_SUBJECT, true, true, "CN=a client,*"};
    assert_true(authz_add(tls_authz, &rule, NULL));
    p->export_opts.authz = tls_authz;
}

PROTO_TEST_WITH(an_export_is_entered_by_the_subject_of_a_certificate, for_our_client)
{
    const struct tls_client_opts co = {.cert = tls_file(tls_dir, "client-cert.pem"),
                                       .key = tls_file(tls_dir, "client-key.pem")};
    struct tls_peer_client c = go_over(hello(p), &co);

    must_serve(&c.tls);
    tls_close(&c);
}

PROTO_TEST_WITH(new_credentials_are_for_new_handshakes, tls_required)
{
    struct tls_creds_opts o = {.dir = tls_other_dir};
    struct tls_peer_client old = go_over(hello(p), NULL);
    const struct tls_client_opts to_new = {.ca = tls_file(tls_other_dir, "ca-cert.pem")};

    struct tls_creds *other = tls_creds_load(&o, NULL);
    server_set_creds(p->server, other);
    tls_creds_unref(other);
    must_serve(&old.tls);
    struct tls_peer_client c = go_over(hello(p), &to_new);
    must_serve(&c.tls);
    tls_close(&old);
    tls_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TLS_ROW(a_refused_payload_is_drained_through_tls),
        TLS_ROW(the_server_says_goodbye_before_it_closes),
        TLS_ROW(who_says_goodbye_still_gets_his_replies),
        TLS_ROW(a_silent_end_of_the_wire_ends_the_connection),
        TLS_ROW(an_export_for_others_is_neither_listed_nor_entered),
        TLS_ROW(an_export_is_entered_by_the_subject_of_a_certificate),
        TLS_ROW(new_credentials_are_for_new_handshakes),
    };
    return cmocka_run_group_tests(tests, tls_files_make, tls_files_remove);
}
