/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "io/tls.h"
#include "server/authz.h"

#define PRINT "000102030405060708090A0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static const struct tls_peer fred = {.subject = "CN=fred,O=example",
                                     .sha256 = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                                11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                                22, 23, 24, 25, 26, 27, 28, 29, 30, 31}};
static const struct tls_peer alice = {.user = "alice"};
static const struct tls_peer nobody; /* TLS, and no more */

static struct authz *list(bool otherwise, const struct authz_rule *rules, unsigned n)
{
    struct authz *a = authz_new(otherwise);

    assert_non_null(a);
    for (unsigned i = 0; i < n; i++)
        assert_true(authz_add(a, &rules[i], NULL));
    return a;
}

static void expect(const struct authz_rule *rule, bool is_fred, bool is_alice)
{
    struct authz *a = list(false, rule, 1);

    assert_int_equal(authz_allows(a, &fred), is_fred);
    assert_int_equal(authz_allows(a, &alice), is_alice);
    assert_false(authz_allows(a, &nobody));
    assert_false(authz_allows(a, NULL));
    authz_unref(a);
}

static void each_kind_of_rule_matches_whom_it_names(void **state)
{
    const struct {
        struct authz_rule rule;
        bool fred, alice;
    } row[] = {
        {{AUTHZ_SUBJECT, false, true, "CN=fred,O=example"}, true, false},
        {{AUTHZ_SUBJECT, false, true, "CN=fred"}, false, false}, /* no prefix match */
        {{AUTHZ_SUBJECT, false, true, "CN=fred,*"}, false, false},
        {{AUTHZ_SUBJECT, true, true, "CN=fred,*"}, true, false},
        {{AUTHZ_SUBJECT, true, true, "*"}, true, false},
        {{AUTHZ_SUBJECT, false, true, "alice"}, false, false},
        {{AUTHZ_USER, false, true, "alice"}, false, true},
        {{AUTHZ_USER, false, true, "ali"}, false, false},
        {{AUTHZ_USER, true, true, "al?ce"}, false, true},
        {{AUTHZ_USER, true, true, "*"}, false, true},
        {{AUTHZ_IDENTITY, false, true, "alice"}, false, true},
        {{AUTHZ_IDENTITY, false, true, "CN=fred,O=example"}, true, false},
        {{AUTHZ_IDENTITY, true, true, "*"}, true, true},
        {{AUTHZ_SHA256, false, true, PRINT}, true, false},
        {{AUTHZ_SHA256, false, true,
          "00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:"
          "10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F"},
         true,
         false},
        {{AUTHZ_SHA256, false, true,
          "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e20"},
         false,
         false},
    };

    for (size_t i = 0; i < ARRAY_LEN(row); i++)
        expect(&row[i].rule, row[i].fred, row[i].alice);
}

static void the_first_rule_that_matches_decides(void **state)
{
    const struct authz_rule rules[] = {
        {AUTHZ_USER, false, false, "alice"},
        {AUTHZ_IDENTITY, true, true, "al*"},
        {AUTHZ_IDENTITY, true, true, "*"},
    };
    struct authz *a = list(false, rules, 3);

    assert_false(authz_allows(a, &alice));
    assert_true(authz_allows(a, &fred));
    authz_unref(a);
}

static void what_no_rule_matches_falls_to_the_policy_but_nobody_is_never_let_in(void **state)
{
    const struct authz_rule rule = {AUTHZ_USER, false, false, "alice"};
    struct authz *a = list(true, &rule, 1);

    assert_true(authz_allows(a, &fred));
    assert_false(authz_allows(a, &alice));
    assert_false(authz_allows(a, &nobody));
    assert_false(authz_allows(a, NULL));
    authz_unref(a);
}

static void what_is_no_fingerprint_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        PRINT "00",
        "x" PRINT,
        ":" PRINT,
        PRINT ":",
        "000102030405060708090A0b0c0d0e0f101112131415161718191a1b1c1d1e1"};
    struct authz *a = authz_new(false);

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        const struct authz_rule rule = {AUTHZ_SHA256, false, true, bad[i]};
        struct err *e = NULL;
        assert_false(authz_add(a, &rule, &e));
        assert_int_equal(err_code(e), EINVAL);
        err_free(e);
    }
    authz_unref(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_rule_matches_whom_it_names),
        cmocka_unit_test(the_first_rule_that_matches_decides),
        cmocka_unit_test(what_no_rule_matches_falls_to_the_policy_but_nobody_is_never_let_in),
        cmocka_unit_test(what_is_no_fingerprint_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
