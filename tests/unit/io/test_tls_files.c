/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Credentials: files that are missing or broken, and those that tls_make writes.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/tls_make.h"
#include "tests/unit/io/tls_session.h"

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void expect_refused(const struct tls_creds_opts *o, int code, const char *text)
{
    struct err *e = NULL;

    assert_null(tls_creds_load(o, &e));
    if (err_code(e) != code || !strstr(err_msg(e), text))
        fail_msg("expected '%s', got %d: %s", text, err_code(e), err_msg(e));
    err_free(e);
}

static void bad_files_of_keys_are_refused_with_the_line(void **state)
{
    static const struct {
        const char *content, *complaint;
    } row[] = {
        {"", "holds no key"},
        {"\n\n", "holds no key"},
        {"qemu\n", "line 1: not of the form USER:HEXKEY"},
        {"a:00\nb:0\n", "line 2: the key is not"},
        {"a:zz\n", "line 1: the key is not"},
        {"a:\n", "line 1: the key is not"},
        {":00\n", "line 1: a user has 1 to"},
        {"a:00\na:11\n", "line 2: user 'a' is there already"},
        {"#6:00\n", "line 1: the user after '#'"},
        {"#00:00\n", "line 1: the user after '#'"},
    };
    const char *path = tls_file(tls_dir, "bad.psk");

    for (size_t i = 0; i < ARRAY_LEN(row); i++) {
        put(path, row[i].content);
        expect_refused(&(struct tls_creds_opts){.psk_file = path},
                       row[i].content[0] == 'a' && strstr(row[i].complaint, "already") ? EEXIST
                                                                                       : EINVAL,
                       row[i].complaint);
    }
    static char longest[2000];
    memset(longest, 'a', sizeof(longest) - 1);
    put(path, longest);
    expect_refused(&(struct tls_creds_opts){.psk_file = path}, EINVAL, "line 1: over");
    put(path, "#616c696365:00\n\nbob:11");
    struct tls_creds *c = tls_creds_load(&(struct tls_creds_opts){.psk_file = path}, NULL);
    assert_non_null(c);
    tls_creds_unref(c);
    unlink(path);
    expect_refused(&(struct tls_creds_opts){.psk_file = path}, ENOENT, "bad.psk");
    expect_refused(&(struct tls_creds_opts){.psk_file = tls_dir}, EISDIR, "cannot read the keys");
}

static void bad_folders_of_certificates_are_refused_with_the_file(void **state)
{
    char broken[96];
    struct tls_creds_opts o = {.dir = broken, .verify_peer = true};

    snprintf(broken, sizeof(broken), "%s.c", tls_dir);
    expect_refused(&o, ENOENT, "server-cert.pem");
    mkdir(broken, 0700);
    put(tls_file(broken, "server-cert.pem"), "no certificate\n");
    expect_refused(&o, ENOENT, "server-key.pem");
    put(tls_file(broken, "server-key.pem"), "no key\n");
    expect_refused(&o, EINVAL, "server-cert.pem");
    unlink(tls_file(broken, "server-cert.pem"));
    assert_int_equal(
        link(tls_file(tls_dir, "server-cert.pem"), tls_file(broken, "server-cert.pem")), 0);
    expect_refused(&o, EINVAL, "server-key.pem");
    unlink(tls_file(broken, "server-key.pem"));
    assert_int_equal(link(tls_file(tls_dir, "client-key.pem"), tls_file(broken, "server-key.pem")),
                     0);
    expect_refused(&o, EINVAL, "key values mismatch");
    unlink(tls_file(broken, "server-key.pem"));
    assert_int_equal(link(tls_file(tls_dir, "server-key.pem"), tls_file(broken, "server-key.pem")),
                     0);
    expect_refused(&o, ENOENT, "ca-cert.pem");
    put(tls_file(broken, "ca-cert.pem"), "nobody\n");
    expect_refused(&o, EINVAL, "ca-cert.pem");
    unlink(tls_file(broken, "ca-cert.pem"));
    assert_int_equal(link(tls_file(tls_dir, "ca-cert.pem"), tls_file(broken, "ca-cert.pem")), 0);
    put(tls_file(broken, "ca-crl.pem"), "nothing\n");
    expect_refused(&o, EINVAL, "ca-crl.pem");
    unlink(tls_file(broken, "ca-crl.pem"));
    struct tls_creds *c = tls_creds_load(&o, NULL);
    assert_non_null(c);
    tls_creds_unref(c);
    tls_remove_dir(broken);
}

static void tls_make_overwrites_nothing_and_hides_what_is_secret(void **state)
{
    static const char *const secret[] = {"ca-key.pem", "server-key.pem", "client-key.pem",
                                         "keys.psk"};
    static const char *const hosts[] = {"localhost"};
    const struct tls_make_opts o = {hosts, 1, hosts, 1, "x", 1};
    struct err *e = NULL;
    struct stat st;

    for (size_t i = 0; i < ARRAY_LEN(secret); i++) {
        assert_int_equal(stat(tls_file(tls_dir, secret[i]), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    assert_false(tls_make(tls_dir, &o, &e));
    assert_int_equal(err_code(e), EEXIST);
    err_free(e);
    e = NULL;

    char part[96];
    snprintf(part, sizeof(part), "%s.d", tls_dir);
    mkdir(part, 0700);
    put(tls_file(part, "keys.psk"), "mine\n"); /* the last that would be written */
    assert_false(tls_make(part, &o, &e));
    assert_non_null(strstr(err_msg(e), "keys.psk"));
    err_free(e);
    assert_int_equal(stat(tls_file(part, "keys.psk"), &st), 0);
    assert_int_equal(st.st_size, 5);
    assert_int_equal(stat(tls_file(part, "ca-cert.pem"), &st), -1);
    tls_remove_dir(part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_files_of_keys_are_refused_with_the_line),
        cmocka_unit_test(bad_folders_of_certificates_are_refused_with_the_file),
        cmocka_unit_test(tls_make_overwrites_nothing_and_hides_what_is_secret),
    };
    return cmocka_run_group_tests(tests, tls_files_make, tls_files_remove);
}
