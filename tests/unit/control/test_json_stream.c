/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/json_stream.h"

#define MAX_FOUND 64

/* What a stream of bytes amounts to: values as text, errors as "!TEXT". */
struct found {
    char *v[MAX_FOUND];
    unsigned n;
};

static void put(struct found *f, json_t *value, struct err *e)
{
    assert_true(f->n < MAX_FOUND);
    assert_true((value != NULL) != (e != NULL));
    if (value) {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

        f->v[f->n++] = mem_strdup(text);
        free(text);
    } else {
        f->v[f->n++] = mem_printf("!%s", err_msg(e));
    }
    json_decref(value);
    err_free(e);
}

static struct found feed(const char *bytes, size_t len, size_t piece)
{
    struct json_stream s = {0};
    struct found f = {0};

    for (size_t at = 0; at < len;) {
        size_t n = len - at < piece ? len - at : piece;
        json_t *value = NULL;
        struct err *e = NULL;
        bool found;

        at += json_stream_feed(&s, bytes + at, n, &found, &value, &e);
        if (found)
            put(&f, value, e);
    }
    json_stream_clear(&s);
    return f;
}

static void clear(struct found *f)
{
    for (unsigned i = 0; i < f->n; i++)
        mem_free(f->v[i]);
    f->n = 0;
}

/* The same, in pieces of every length, gives what is listed. */
static void expect(const char *bytes, size_t len, const char *const *want)
{
    for (size_t piece = 1; piece <= len; piece++) {
        struct found f = feed(bytes, len, piece);
        unsigned n = 0;

        for (; want[n]; n++) {
            assert_true(n < f.n);
            if (want[n][0] == '!')
                assert_non_null(strstr(f.v[n], want[n] + 1));
            else
                assert_string_equal(f.v[n], want[n]);
        }
        assert_int_equal(f.n, n);
        clear(&f);
    }
}

#define EXPECT(text, ...) expect(text, sizeof(text) - 1, (const char *const[]){__VA_ARGS__, NULL})

static void values_come_whole_in_pieces_of_every_length(void **state)
{
    EXPECT("{\"a\": [1, {\"b\": null}], \"c\": \"}\\\"{\"}\n{}[]",
           "{\"a\":[1,{\"b\":null}],\"c\":\"}\\\"{\"}", "{}", "[]");
    EXPECT("12 \"x\"\ntrue ", "12", "\"x\"", "true");
    EXPECT("  \r\n\t{ } \n", "{}");
}

static void strings_may_be_in_single_quotes(void **state)
{
    EXPECT("{'execute': 'say \"hi\"', 'b': 'it\\'s'}",
           "{\"execute\":\"say \\\"hi\\\"\",\"b\":\"it's\"}");
    EXPECT("'top'", "\"top\"");
    EXPECT("{\"a\": \"it's\"}", "{\"a\":\"it's\"}");
}

static void after_an_error_the_next_value_is_understood(void **state)
{
    EXPECT("foo\n{}", "!invalid keyword 'foo'", "{}");
    EXPECT("nonsense{\"a\":1}", "!invalid keyword 'nonsense'", "{\"a\":1}");
    EXPECT("}}}{\"a\":1}", "!expecting value", "{\"a\":1}");
    EXPECT("{\"a\":}{\"b\":1}", "!JSON parse error", "{\"b\":1}");
    EXPECT("{\"a\":1]{\"b\":1}", "!JSON parse error", "{\"b\":1}");
    EXPECT("{\"a\":\x01 1}\n{\"b\":1}", "!control character 0x01", "{\"b\":1}");
    EXPECT("{\"a\":\"x\ny\"}\n{\"b\":1}", "!control character 0x0a", "{\"b\":1}");
    EXPECT("{\"a\":\"\xc3\x28\"}{}", "!JSON parse error", "{}");
    EXPECT("{\"a\":1,\"a\":2}", "!duplicate key");
}

static void a_byte_that_is_no_text_cuts_off_what_came_before(void **state)
{
    EXPECT("{\"execute\": \"\xff{\"a\":1}", "!cut off", "{\"a\":1}");
    EXPECT("\xff\xff{\"a\":1}", "{\"a\":1}");
}

static void nesting_is_bounded_and_skipped_to_its_end(void **state)
{
    enum { DEEP = 10 * JSON_STREAM_MAX_DEPTH };
    char *text = mem_alloc(2 * DEEP + 2);
    struct found f;

    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    memcpy(text + 2 * DEEP, "{}", 2);
    f = feed(text, 2 * DEEP + 2, 7);
    assert_int_equal(f.n, 2);
    assert_non_null(strstr(f.v[0], "levels of nesting"));
    assert_string_equal(f.v[1], "{}");
    clear(&f);
    /* At the limit itself it is a value. */
    f = feed(text + DEEP - JSON_STREAM_MAX_DEPTH, 2 * JSON_STREAM_MAX_DEPTH, 1000);
    assert_int_equal(f.n, 1);
    assert_int_equal(f.v[0][0], '[');
    clear(&f);
    mem_free(text);
}

static void length_is_bounded_and_skipped_to_its_end(void **state)
{
    size_t len = 2 * JSON_STREAM_MAX_BYTES;
    char *text = mem_alloc(len);
    struct found f;

    memset(text, 'x', len);
    memcpy(text, "{\"a\":\"", 6);
    memcpy(text + len - 4, "\"}[]", 4);
    f = feed(text, len, 65536);
    assert_int_equal(f.n, 2);
    assert_non_null(strstr(f.v[0], "longer than"));
    assert_string_equal(f.v[1], "[]");
    clear(&f);
    /* Outside of strings as well. */
    memset(text + 1, ' ', len - 1);
    memcpy(text + len - 3, "}[]", 3);
    f = feed(text, len, 65536);
    assert_int_equal(f.n, 2);
    assert_string_equal(f.v[1], "[]");
    clear(&f);
    mem_free(text);
}

static void refused_memory_is_an_error_and_no_more(void **state)
{
    struct json_stream s = {0};
    json_t *value = NULL;
    struct err *e = NULL;
    bool found;

    mem_fail_nth(1, 1);
    json_stream_feed(&s, "{", 1, &found, &value, &e);
    mem_fail_nth(0, 0);
    assert_true(found);
    assert_null(value);
    err_free(e);
    json_stream_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_whole_in_pieces_of_every_length),
        cmocka_unit_test(strings_may_be_in_single_quotes),
        cmocka_unit_test(after_an_error_the_next_value_is_understood),
        cmocka_unit_test(a_byte_that_is_no_text_cuts_off_what_came_before),
        cmocka_unit_test(nesting_is_bounded_and_skipped_to_its_end),
        cmocka_unit_test(length_is_bounded_and_skipped_to_its_end),
        cmocka_unit_test(refused_memory_is_an_error_and_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
