/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who gets in: the TLS stream against a client that shares no code with it.
 */
#include <openssl/ssl.h>

#include "tests/unit/io/tls_session.h"

TLS_TEST(certificates_work_under_both_versions)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct session s = {.creds = session_creds(tls_dir, false, false)};

    for (int i = 0; i < 2; i++) {
        s.co = (struct tls_client_opts){.ca = tls_file(tls_dir, "ca-cert.pem"),
                                        .version = versions[i]};
        session_begin(&s);
        session_must_work(&s);
        assert_string_equal(tls_client_version(s.client), i ? "TLSv1.3" : "TLSv1.2");
        assert_string_equal(tls_client_cipher(s.client),
                            i ? "TLS_AES_128_GCM_SHA256" : "ECDHE-ECDSA-AES128-GCM-SHA256");
        assert_null(tls_peer(s.server)->subject);
        assert_null(tls_peer(s.server)->user);
        session_end(&s);
    }
    tls_creds_unref(s.creds);
}

TLS_TEST(keys_work_under_both_versions_and_name_the_user)
{
    static const struct {
        int version;
        const char *ciphers, *suites, *got;
    } row[] = {
        {TLS1_3_VERSION, NULL, NULL, "TLS_AES_128_GCM_SHA256"},
        {TLS1_3_VERSION, NULL, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"},
        {TLS1_2_VERSION, NULL, NULL, "ECDHE-PSK-CHACHA20-POLY1305"},
        {TLS1_2_VERSION, "DHE-PSK-AES256-GCM-SHA384", NULL, "DHE-PSK-AES256-GCM-SHA384"},
        {TLS1_2_VERSION, "PSK-AES128-GCM-SHA256", NULL, "PSK-AES128-GCM-SHA256"},
    };
    struct session s = {.creds = session_creds(tls_dir, true, false)};

    for (size_t i = 0; i < ARRAY_LEN(row); i++) {
        s.co = (struct tls_client_opts){.user = "qemu", .psk = tls_key, .psk_len = tls_key_len};
        s.co.version = row[i].version;
        s.co.ciphers = row[i].ciphers;
        s.co.suites = row[i].suites;
        session_begin(&s);
        session_must_work(&s);
        assert_string_equal(tls_client_cipher(s.client), row[i].got);
        assert_string_equal(tls_peer(s.server)->user, "qemu");
        assert_null(tls_peer(s.server)->subject);
        session_end(&s);
    }
    tls_creds_unref(s.creds);
}

TLS_TEST(a_wrong_key_or_user_is_refused)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct session s = {.creds = session_creds(tls_dir, true, false)};

    for (int i = 0; i < 4; i++) {
        uint8_t wrong[32];
        memcpy(wrong, tls_key, 32);
        wrong[31] ^= (uint8_t)(i & 1);
        s.co = (struct tls_client_opts){.user = "qemu", .psk = wrong, .psk_len = 32};
        s.co.version = versions[i / 2];
        if (!(i & 1))
            s.co.user = "mallory";
        session_begin(&s);
        assert_false(s.accepted);
        assert_non_null(s.client_error);
        session_end(&s);
    }
    tls_creds_unref(s.creds);
}

TLS_TEST(a_client_must_show_a_certificate_of_the_right_authority)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct session s = {.creds = session_creds(tls_dir, false, true)};
    uint8_t none[32] = {0};

    for (int i = 0; i < 2; i++) {
        s.co = (struct tls_client_opts){.version = versions[i]};
        session_begin(&s);
        assert_false(s.accepted);
        assert_non_null(strstr(err_msg(s.error), "certificate"));
        session_end(&s);

        s.co.cert = tls_file(tls_other_dir, "client-cert.pem");
        s.co.key = tls_file(tls_other_dir, "client-key.pem");
        session_begin(&s);
        assert_false(s.accepted);
        assert_non_null(strstr(err_msg(s.error), "the client's certificate:"));
        session_end(&s);

        s.co.cert = tls_file(tls_dir, "server-cert.pem"); /* not meant for clients */
        s.co.key = tls_file(tls_dir, "server-key.pem");
        session_begin(&s);
        assert_false(s.accepted);
        session_end(&s);

        s.co.cert = tls_file(tls_dir, "client-cert.pem");
        s.co.key = tls_file(tls_dir, "client-key.pem");
        session_begin(&s);
        session_must_work(&s);
        assert_string_equal(tls_peer(s.server)->subject, "CN=a client,O=breakwater");
        assert_memory_not_equal(tls_peer(s.server)->sha256, none, 32);
        session_end(&s);
    }
    tls_creds_unref(s.creds);
}

TLS_TEST(a_certificate_that_nobody_asked_for_proves_nothing)
{
    struct session s = {.creds = session_creds(tls_dir, false, false)};

    s.co.cert = tls_file(tls_other_dir, "client-cert.pem");
    s.co.key = tls_file(tls_other_dir, "client-key.pem");
    session_begin(&s);
    session_must_work(&s);
    assert_null(tls_peer(s.server)->subject);
    session_end(&s);
    tls_creds_unref(s.creds);
}

/* The key is found by its user, but TLS passes over it, because SHA-384 cannot be used with it: the
 * client that then comes in by the certificate has proven nothing about the user. */
TLS_TEST(a_user_that_was_only_claimed_is_not_believed)
{
    struct tls_creds_opts o = {.dir = tls_dir, .psk_file = tls_file(tls_dir, "keys.psk")};
    struct session s = {.creds = tls_creds_load(&o, NULL)};
    uint8_t wrong[32] = {1};

    assert_non_null(s.creds);
    s.co = (struct tls_client_opts){.user = "qemu", .psk = wrong, .psk_len = 32};
    s.co.version = TLS1_3_VERSION;
    s.co.suites = "TLS_AES_256_GCM_SHA384";
    session_begin(&s);
    if (s.accepted)
        assert_null(tls_peer(s.server)->user);
    session_end(&s);

    s.co.psk = tls_key; /* and with both, each way in works */
    s.co.suites = NULL;
    session_begin(&s);
    session_must_work(&s);
    assert_string_equal(tls_peer(s.server)->user, "qemu");
    session_end(&s);
    s.co = (struct tls_client_opts){.ca = tls_file(tls_dir, "ca-cert.pem")};
    session_begin(&s);
    session_must_work(&s);
    session_end(&s);
    tls_creds_unref(s.creds);
}

TLS_TEST(who_has_a_key_needs_no_certificate)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct tls_creds_opts o = {tls_dir, tls_file(tls_dir, "keys.psk"), .verify_peer = true};
    struct session s = {.creds = tls_creds_load(&o, NULL)};

    assert_non_null(s.creds);
    for (int i = 0; i < 2; i++) {
        s.co = (struct tls_client_opts){.user = "qemu", .psk = tls_key, .psk_len = tls_key_len};
        s.co.version = versions[i];
        session_begin(&s);
        session_must_work(&s);
        assert_string_equal(tls_peer(s.server)->user, "qemu");
        session_end(&s);
        s.co = (struct tls_client_opts){.version = versions[i]};
        session_begin(&s);
        assert_false(s.accepted);
        session_end(&s);
    }
    tls_creds_unref(s.creds);
}

TLS_TEST(versions_before_1_2_are_refused)
{
    for (int psk = 0; psk < 2; psk++) {
        struct session s = {.creds = session_creds(tls_dir, psk, false)};
        for (int v = TLS1_VERSION; v <= TLS1_1_VERSION; v++) {
            s.co = (struct tls_client_opts){.version = v};
            if (psk)
                s.co.user = "qemu", s.co.psk = tls_key, s.co.psk_len = tls_key_len;
            session_begin(&s);
            assert_false(s.accepted);
            session_end(&s);
        }
        tls_creds_unref(s.creds);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_work_under_both_versions),
        cmocka_unit_test(keys_work_under_both_versions_and_name_the_user),
        cmocka_unit_test(a_wrong_key_or_user_is_refused),
        cmocka_unit_test(a_client_must_show_a_certificate_of_the_right_authority),
        cmocka_unit_test(a_certificate_that_nobody_asked_for_proves_nothing),
        cmocka_unit_test(a_user_that_was_only_claimed_is_not_believed),
        cmocka_unit_test(who_has_a_key_needs_no_certificate),
        cmocka_unit_test(versions_before_1_2_are_refused),
    };
    return cmocka_run_group_tests(tests, tls_files_make, tls_files_remove);
}
