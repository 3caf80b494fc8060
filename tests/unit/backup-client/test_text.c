/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include "backup-client/progress.h"
#include "backup-client/uri.h"
#include "digest/uuid.h"
#include "tests/unit/backup-client/fake.h"

static void export_names_come_out_of_uris(void **state)
{
    static const char *const cases[][3] = {
        {"nbd://localhost", "", "nbd://localhost"},
        {"nbd://localhost/", "", "nbd://localhost/"},
        {"nbd://localhost:10809/disk", "disk", "nbd://localhost:10809/disk"},
        {"nbd+unix:///disk?socket=/run/a.sock", "disk", "nbd+unix:///disk?socket=/run/a.sock"},
        {"nbd+unix://?socket=/x/y", "", "nbd+unix://?socket=/x/y"},
        {"nbds://me:secret@[::1]:1/a/b%2Fc%40d#f", "a/b/c@d", "nbds://[::1]:1/a/b%2Fc%40d#f"},
        {"nbd://h/a@b", "a@b", "nbd://h/a@b"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct nbd_uri u;
        assert_true(nbd_uri_parse(cases[i][0], &u, NULL));
        assert_string_equal(u.export_name, cases[i][1]);
        assert_string_equal(u.shown, cases[i][2]);
        nbd_uri_free(&u);
    }
}

static void bad_uris_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "disk.qcow2",
                                      "http://x/y",
                                      "nbd:unix:/x",
                                      "nbd://h/%",
                                      "nbd://h/a%4",
                                      "nbd://h/%zz",
                                      "nbd://h/%00",
                                      "nbd://h/%e9",
                                      "nbd://h/a?x=\xe9"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct nbd_uri u;
        struct err *e = NULL;
        if (nbd_uri_parse(bad[i], &u, &e))
            fail_msg("'%s' was accepted", bad[i]);
        assert_non_null(e);
        err_free(e);
    }
}

/* A backup whose manifest says more than a reader takes would be lost. */
static void a_uri_too_long_for_a_manifest_is_refused(void **state)
{
    static char text[NBD_URI_MAX + 2] = "nbd://h/d?x=";
    struct nbd_uri u;
    struct err *e = NULL;
    memset(text + strlen(text), 'x', NBD_URI_MAX - strlen(text));
    assert_true(nbd_uri_parse(text, &u, NULL));
    nbd_uri_free(&u);
    text[NBD_URI_MAX] = 'x';
    assert_false(nbd_uri_parse(text, &u, &e));
    assert_int_equal(err_code(e), EINVAL);
    err_free(e);
}

static void names_that_no_manifest_holds_are_refused(void **state)
{
    static const char *const bad[] = {"", ".", "-x", "a/b", "a@b", "a\nb", "caf\xe9", "\xc0\x80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (disk_name_check(bad[i], NULL))
            fail_msg("'%s' was accepted", bad[i]);
    assert_true(disk_name_check("caf\xc3\xa9 1", NULL));
}

static void uuids_have_one_spelling(void **state)
{
    static const char *const bad[] = {
        "",
        "00000000-0000-4000-8000-00000000000",
        "00000000-0000-4000-8000-0000000000000",
        "0000000000000-4000-8000-000000000000-",
        "00000000-0000-4000-8000-00000000000G",
        "ABCDEF00-0000-4000-8000-000000000000",
        "00000000-0000-4000-8000-00000000000/",
        "------------------------------------",
    };
    struct uuid u, v;
    char text[UUID_TEXT_LEN + 1];
    for (int i = 0; i < 100; i++) {
        uuid_new(&u);
        uuid_format(&u, text);
        assert_true(uuid_parse(text, &v));
        assert_true(uuid_equal(&u, &v));
        assert_true(text[14] == '4' && strchr("89ab", text[19]));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (uuid_parse(bad[i], &u))
            fail_msg("'%s' was accepted", bad[i]);
}

static void digests_of_a_cut_block_count_its_padding_as_zeros(void **state)
{
    static uint8_t buf[2 * BACKUP_BLOCK], whole[BACKUP_BLOCK];
    struct digest d[2], want;
    bool zero[2];
    memset(buf, 0x5a, sizeof(buf));
    memset(whole, 0x5a, 1000);
    assert_true(digest_blocks(buf, BACKUP_BLOCK + 1000, d, zero));
    assert_true(digest_bytes(whole, sizeof(whole), &want));
    assert_true(digest_equal(&d[1], &want));
    assert_false(zero[0] || zero[1]);
    memset(buf + BACKUP_BLOCK, 0, BACKUP_BLOCK);
    buf[BACKUP_BLOCK + 1000] = 1;
    assert_true(digest_blocks(buf, BACKUP_BLOCK + 1000, d, zero));
    assert_true(zero[1] && digest_equal(&d[1], digest_zero()));
    /* FIPS 180-2: SHA-256 of "abc". */
    char hex[DIGEST_HEX_LEN + 1];
    assert_true(digest_bytes("abc", 3, &want));
    hex_encode(want.v, DIGEST_LEN, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void progress_shows_share_rate_and_estimate(void **state)
{
    char line[160];
    struct progress p = {
        .what = "backup", .total = 1000 << 20, .pos = 250 << 20, .moved = 100 << 20};
    progress_text(&p, INT64_C(10000000000), line, sizeof(line));
    assert_non_null(strstr(line, " 25%"));
    assert_non_null(strstr(line, "100 MiB "));
    assert_non_null(strstr(line, "10.0 MiB/s"));
    assert_non_null(strstr(line, "ETA 0:00:30"));
    p.pos = 0;
    progress_text(&p, 0, line, sizeof(line));
    assert_non_null(strstr(line, "--:--"));
}

static int setup(void **state)
{
    return digest_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(export_names_come_out_of_uris),
        cmocka_unit_test(bad_uris_are_refused),
        cmocka_unit_test(a_uri_too_long_for_a_manifest_is_refused),
        cmocka_unit_test(names_that_no_manifest_holds_are_refused),
        cmocka_unit_test(uuids_have_one_spelling),
        cmocka_unit_test(digests_of_a_cut_block_count_its_padding_as_zeros),
        cmocka_unit_test(progress_shows_share_rate_and_estimate),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
