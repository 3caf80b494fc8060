/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/parse.h"

struct size_row {
    const char *text;
    int code; /* 0: value is right */
    uint64_t value;
};

static void sizes_take_suffixes_and_refuse_the_rest(void **state)
{
    static const struct size_row rows[] = {
        {"0", 0, 0},
        {"512", 0, 512},
        {"64k", 0, 65536},
        {"64K", 0, 65536},
        {"7b", 0, 7},
        {"3M", 0, 3 * MiB},
        {"2g", 0, 2 * GiB},
        {"5T", 0, 5 * TiB},
        {"1P", 0, 1024 * TiB},
        {"15E", 0, UINT64_C(15) << 60},
        {"0x10", 0, 16},
        {"010", 0, 10}, /* people mean ten */
        {"18446744073709551615", 0, UINT64_MAX},
        {"16E", ERANGE, 0},
        {"18446744073709551616", EINVAL, 0},
        {"", EINVAL, 0},
        {"k", EINVAL, 0},
        {"-1", EINVAL, 0},
        {"+1", EINVAL, 0},
        {" 1", EINVAL, 0},
        {"1 ", EINVAL, 0},
        {"1.5M", 0, 3 * MiB / 2},
        {"0.5k", 0, 512},
        {"0.1k", 0, 102},
        {"1.999999999999999999k", 0, 2047},
        {"2.000000000000000001E", 0, (UINT64_C(2) << 60) + 1},
        {"15.9999999999E", 0, UINT64_C(18446744073594259465)},
        {"1.5", EINVAL, 0}, /* half a byte */
        {"1.5b", EINVAL, 0},
        {"1.M", EINVAL, 0},
        {".5M", EINVAL, 0},
        {"0x1.8k", EINVAL, 0},
        {"1.5.5M", EINVAL, 0},
        {"1.-5M", EINVAL, 0},
        {"1.5MB", EINVAL, 0},
        {"1.00000000000000000000000000000001k", EINVAL, 0},
        {"16.0E", ERANGE, 0},
        {"64kB", EINVAL, 0},
        {"64x", EINVAL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err *err = NULL;
        uint64_t v = 1;
        bool ok = parse_size(rows[i].text, "--size", &v, &err);
        if (err_code(err) != rows[i].code || ok != (rows[i].code == 0) ||
            (ok && v != rows[i].value))
            fail_msg("'%s': %s, %" PRIu64, rows[i].text, err_msg(err), v);
        if (!ok)
            assert_non_null(strstr(err_msg(err), "--size"));
        err_free(err);
    }
}

static void numbers_keep_to_their_range(void **state)
{
    uint64_t v;
    assert_true(parse_u64("0x1c", "n", 0, 100, &v, NULL));
    assert_int_equal(v, 28);
    struct err *err = NULL;
    assert_false(parse_u64("101", "n", 0, 100, &v, &err));
    assert_string_equal(err_msg(err), "n: 101 is not between 0 and 100");
    err_free(err);
    assert_false(parse_u64("-1", "n", 0, UINT64_MAX, &v, NULL));
    assert_false(parse_u64("", "n", 0, 1, &v, NULL));
    assert_false(parse_u64("1x", "n", 0, 1, &v, NULL));
}

static void booleans_and_durations_read_as_people_write_them(void **state)
{
    bool b = false;
    assert_true(parse_bool("on", "b", &b, NULL) && b);
    assert_true(parse_bool("n", "b", &b, NULL) && !b);
    assert_false(parse_bool("1", "b", &b, NULL));
    uint64_t ms;
    assert_true(parse_duration_ms("10", "t", &ms, NULL) && ms == 10000);
    assert_true(parse_duration_ms("250ms", "t", &ms, NULL) && ms == 250);
    assert_true(parse_duration_ms("2h", "t", &ms, NULL) && ms == 7200000);
    assert_false(parse_duration_ms("2d", "t", &ms, NULL));
    assert_false(parse_duration_ms("18446744073709551615h", "t", &ms, NULL));
}

static void key_value_lists_split_at_single_commas(void **state)
{
    struct kv_list l;
    assert_true(kv_parse("daily,granularity=64k,x=a,,b", "-B", &l, NULL));
    assert_int_equal(l.n, 3);
    assert_string_equal(kv_get(&l, ""), "daily");
    assert_string_equal(kv_get(&l, "granularity"), "64k");
    assert_string_equal(kv_get(&l, "x"), "a,b");
    assert_null(kv_get(&l, "y"));
    kv_free(&l);

    struct err *err = NULL;
    assert_false(kv_parse("daily,weekly", "-B", &l, &err));
    assert_string_equal(err_msg(err), "-B: 'weekly' is not of the form key=value");
    err_free(err);
    assert_false(kv_parse("=x", "-B", &l, NULL));
}

static void zero_detection_sees_every_byte(void **state)
{
    static unsigned char buf[5000];
    assert_true(bytes_are_zero(buf, 0));
    for (size_t len = 1; len < 200; len++) {
        assert_true(bytes_are_zero(buf, len));
        for (size_t at = 0; at < len; at++) {
            buf[at] = 1;
            if (bytes_are_zero(buf, len))
                fail_msg("length %zu: missed byte %zu", len, at);
            buf[at] = 0;
        }
    }
    buf[4999] = 0x80;
    assert_false(bytes_are_zero(buf, 5000));
    assert_true(bytes_are_zero(buf, 4999));
}

static void sizes_print_with_three_digits(void **state)
{
    char buf[32];
    assert_string_equal(size_to_text(1, buf, sizeof(buf)), "1 byte");
    assert_string_equal(size_to_text(1023, buf, sizeof(buf)), "1023 bytes");
    assert_string_equal(size_to_text(64 * MiB, buf, sizeof(buf)), "64.0 MiB");
    assert_string_equal(size_to_text(3 * GiB / 2, buf, sizeof(buf)), "1.50 GiB");
}

static void the_word_that_was_meant_is_near(void **state)
{
    static const char *const names[] = {"socket", NULL, "read-only", "file", "x"};
    static const struct {
        const char *word, *meant;
    } t[] = {{"sokcet", "socket"},
             {"red-only", "read-only"},
             {"read-onyl", "read-only"},
             {"fiel", "file"},
             {"sckt", "socket"},
             {"rea-donly", "read-only"},
             {"reado-nly-", "read-only"},
             {"foot", NULL},
             {"0123456789012345678901234567890123456789x", NULL},
             {"zzzz", NULL},
             {"unrelated", NULL},
             {"", NULL},
             {"y", NULL}};

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        const char *meant = parse_nearest(t[i].word, strlen(t[i].word), names, ARRAY_LEN(names));

        if (t[i].meant)
            assert_string_equal(meant, t[i].meant);
        else
            assert_null(meant);
    }
    assert_string_equal(parse_nearest("filesystem", 4, names, ARRAY_LEN(names)), "file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_take_suffixes_and_refuse_the_rest),
        cmocka_unit_test(numbers_keep_to_their_range),
        cmocka_unit_test(booleans_and_durations_read_as_people_write_them),
        cmocka_unit_test(key_value_lists_split_at_single_commas),
        cmocka_unit_test(zero_detection_sees_every_byte),
        cmocka_unit_test(sizes_print_with_three_digits),
        cmocka_unit_test(the_word_that_was_meant_is_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
