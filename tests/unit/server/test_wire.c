/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "server/wire.h"

static void a_request_is_decoded_and_its_magic_checked(void **state)
{
    uint8_t b[28] = {0x25, 0x60, 0x95, 0x13, 0, 0x11, 0, 6, 1, 2, 3, 4, 5, 6,
                     7,    8,    0,    0,    0, 0,    1, 0, 0, 0, 0, 0, 2, 0};
    struct wire_request w;

    assert_true(wire_get_request(b, &w));
    assert_int_equal(w.flags, 0x11);
    assert_int_equal(w.type, NBD_CMD_WRITE_ZEROES);
    assert_memory_equal(&w.cookie, b + 8, 8);
    assert_int_equal(w.off, 0x1000000);
    assert_int_equal(w.len, 0x200);
    for (int i = 0; i < 4; i++) {
        b[i] ^= 1;
        assert_false(wire_get_request(b, &w));
        b[i] ^= 1;
    }
}

static void an_extended_request_says_whether_its_length_is_a_payloads(void **state)
{
    uint8_t b[32] = {0x21, 0xe4, 0x1c, 0x71, 0, 0x20, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8,
                     0,    0,    0,    0,    1, 0,    0, 0, 1, 0, 0, 0, 0, 0, 2, 0};
    struct wire_request w;

    assert_true(wire_get_ext_request(b, &w));
    assert_int_equal(w.flags, NBD_CMD_FLAG_PAYLOAD_LEN);
    assert_int_equal(w.type, NBD_CMD_WRITE);
    assert_memory_equal(&w.cookie, b + 8, 8);
    assert_int_equal(w.off, 0x1000000);
    assert_int_equal(w.len, UINT64_C(0x100000000000200));
    assert_int_equal(w.payload, w.len);
    b[5] = 0x01; /* a WRITE has one all the same */
    assert_true(wire_get_ext_request(b, &w));
    assert_int_equal(w.payload, w.len);
    b[5] = 0x11;
    b[7] = 6;
    assert_true(wire_get_ext_request(b, &w));
    assert_int_equal(w.len, UINT64_C(0x100000000000200));
    assert_int_equal(w.payload, 0);
    for (int i = 0; i < 4; i++) {
        b[i] ^= 1;
        assert_false(wire_get_ext_request(b, &w));
        b[i] ^= 1;
    }
}

static void replies_have_the_bytes_of_the_specification(void **state)
{
    uint8_t b[20];
    uint64_t cookie;

    memcpy(&cookie, "cookie!!", 8);
    wire_put_simple(b, NBD_ENOSPC, cookie);
    assert_memory_equal(b,
                        "\x67\x44\x66\x98\0\0\0\x1c"
                        "cookie!!",
                        16);
    wire_put_chunk(b, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, cookie, 0x01020304);
    assert_memory_equal(b,
                        "\x66\x8e\x33\xef\0\1\x80\1"
                        "cookie!!\1\2\3\4",
                        20);
    wire_put_option_reply(b, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, 5);
    assert_memory_equal(b, "\0\3\xe8\x89\x04\x55\x65\xa9\0\0\0\7\x80\0\0\6\0\0\0\5", 20);
    wire_put_greeting(b, 3);
    assert_memory_equal(b, "NBDMAGICIHAVEOPT\0\3", 18);
}

static void an_option_is_decoded_and_its_magic_checked(void **state)
{
    uint8_t b[17] = "IHAVEOPT\0\0\0\7\xff\xff\xff\xff";
    struct wire_option o;

    assert_true(wire_get_option(b, &o));
    assert_int_equal(o.type, 7);
    assert_int_equal(o.len, 0xffffffff);
    b[7] = 'S';
    assert_false(wire_get_option(b, &o));
}

static void a_reader_never_goes_past_its_end(void **state)
{
    struct wire_reader r = {.p = (const uint8_t *)"\1\2\3\4\5", .left = 5};

    assert_int_equal(wire_u16(&r), 0x102);
    assert_non_null(wire_bytes(&r, 3));
    assert_non_null(wire_bytes(&r, 0));
    assert_false(r.bad);
    assert_int_equal(wire_u32(&r), 0);
    assert_true(r.bad);
    assert_null(wire_bytes(&r, 0)); /* and stays so */
}

static void go_is_decoded(void **state)
{
    struct wire_go g;

    assert_true(wire_get_go((const uint8_t *)"\0\0\0\2hd\0\2\0\3\0\1", 12, &g));
    assert_int_equal(g.name.len, 2);
    assert_memory_equal(g.name.p, "hd", 2);
    assert_int_equal(g.n_info, 2);
    assert_true(wire_go_asks(&g, 3) && wire_go_asks(&g, 1));
    assert_false(wire_go_asks(&g, 0) || wire_go_asks(&g, 2));
}

/* Each decoder gets its bytes in a block of exactly that size, so that the sanitizer sees any step
 * outside. */
static void decoders_survive_any_bytes_and_any_cut(void **state)
{
    static const char meta[] = "\0\0\0\4disk\0\0\0\2\0\0\0\5base:\0\0\0\0";
    static const char go[] = "\0\0\0\4disk\0\1\0\3";
    struct rng rng;

    rng_seed(&rng, 20261120);
    for (int round = 0; round < 20000; round++) {
        bool is_meta = round & 1;
        const char *from = is_meta ? meta : go;
        size_t whole = is_meta ? sizeof(meta) - 1 : sizeof(go) - 1;
        size_t len = round < 100 ? (size_t)round % (whole + 1) : whole;
        uint8_t *b = mem_alloc(len);
        struct wire_meta m;
        struct wire_go g;

        assert_non_null(b);
        memcpy(b, from, len);
        for (int i = 0; round >= 100 && i < 2; i++)
            b[rng_below(&rng, len)] = (uint8_t)(rng_u64(&rng) >> rng_below(&rng, 8));
        bool ok = is_meta ? wire_get_meta(b, len, &m) : wire_get_go(b, len, &g);
        if (round < 100)
            assert_int_equal(ok, len == whole);
        if (ok && is_meta) {
            for (uint32_t i = 0; i < m.n_queries; i++)
                assert_true(wire_string(&m.queries).len <= NBD_NAME_MAX);
            assert_false(m.queries.bad);
        }
        mem_free(b);
    }
}

static void errors_map_to_those_of_the_protocol(void **state)
{
    for (int e = 0; e < 200; e++) {
        enum nbd_error n = wire_error(e);
        assert_int_equal(n, wire_error(-e));
        assert_true(n == NBD_SUCCESS || n == NBD_EPERM || n == NBD_EIO || n == NBD_ENOMEM ||
                    n == NBD_EINVAL || n == NBD_ENOSPC || n == NBD_EOVERFLOW || n == NBD_ENOTSUP ||
                    n == NBD_ESHUTDOWN);
        assert_int_equal(n == NBD_SUCCESS, e == 0);
    }
    assert_int_equal(wire_error(EROFS), NBD_EPERM);
    assert_int_equal(wire_error(EDQUOT), NBD_ENOSPC);
    assert_int_equal(wire_error(EFBIG), NBD_ENOSPC);
    assert_int_equal(wire_error(ENODEV), NBD_EIO);
}

static void printable_text_is_short_and_harmless(void **state)
{
    char buf[WIRE_PRINTABLE_SIZE], want[84];

    assert_string_equal(wire_printable(buf, (struct wire_str){"a\n\x1b\xff~ b", 7}), "a???~ b");
    assert_string_equal(wire_printable(buf, (struct wire_str){"", 0}), "");
    memset(want, 'x', 80);
    memcpy(want + 80, "...", 4);
    char longer[81];
    memset(longer, 'x', 81);
    assert_string_equal(wire_printable(buf, (struct wire_str){longer, 81}), want);
    want[80] = '\0';
    assert_string_equal(wire_printable(buf, (struct wire_str){longer, 80}), want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_decoded_and_its_magic_checked),
        cmocka_unit_test(an_extended_request_says_whether_its_length_is_a_payloads),
        cmocka_unit_test(replies_have_the_bytes_of_the_specification),
        cmocka_unit_test(an_option_is_decoded_and_its_magic_checked),
        cmocka_unit_test(a_reader_never_goes_past_its_end),
        cmocka_unit_test(go_is_decoded),
        cmocka_unit_test(decoders_survive_any_bytes_and_any_cut),
        cmocka_unit_test(errors_map_to_those_of_the_protocol),
        cmocka_unit_test(printable_text_is_short_and_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
