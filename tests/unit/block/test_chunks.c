/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "block/chunks_priv.h"

#define CHUNK 64
#define SPACE 4096
/* Far apart areas, so that the table sees large indexes too. */
#define FAR (UINT64_C(1) << 50)

static void random_changes_agree_with_a_plain_array(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct rng r;
        struct chunks c, clone;
        static uint8_t model[SPACE], frozen[SPACE], got[SPACE], data[SPACE];
        rng_seed(&r, seed);
        chunks_init(&c, CHUNK);
        memset(model, 0, SPACE);
        memset(frozen, 0, SPACE);
        assert_true(chunks_clone(&clone, &c));
        for (int k = 0; k < 300; k++) {
            uint64_t off = rng_below(&r, SPACE), len = rng_below(&r, SPACE - off + 1) % 300;
            switch (rng_below(&r, 8)) {
            case 0:
                assert_true(chunks_zero(&c, FAR + off, len));
                memset(model + off, 0, len);
                break;
            case 1:
                if (k % 3)
                    break;
                chunks_free(&clone);
                assert_true(chunks_clone(&clone, &c));
                memcpy(frozen, model, SPACE);
                break;
            case 2:
                assert_true(chunks_zero(&c, FAR + off, SPACE - off));
                memset(model + off, 0, SPACE - off);
                break;
            default:
                for (uint64_t i = 0; i < len; i++)
                    data[i] = (uint8_t)rng_u64(&r);
                assert_true(chunks_write(&c, FAR + off, data, len));
                memcpy(model + off, data, len);
            }
        }
        chunks_read(&c, FAR, got, SPACE);
        assert_memory_equal(got, model, SPACE);
        chunks_read(&clone, FAR, got, SPACE);
        assert_memory_equal(got, frozen, SPACE);

        bool held;
        for (uint64_t off = 0, run; off < SPACE; off += run) {
            run = chunks_run(&c, FAR + off, SPACE - off, &held);
            assert_true(run > 0);
            if (!held)
                assert_true(bytes_are_zero(model + off, run));
        }
        chunks_free(&c);
        chunks_free(&clone);
    }
}

static void equal_contents_have_equal_hashes_however_they_came_about(void **state)
{
    struct chunks a, b;
    chunks_init(&a, CHUNK);
    chunks_init(&b, CHUNK);
    assert_int_equal(chunks_hash(&a), chunks_hash(&b));
    assert_true(chunks_write(&a, 100, "hello", 5));
    assert_int_not_equal(chunks_hash(&a), chunks_hash(&b));
    assert_true(chunks_write(&b, FAR, "x", 1));
    assert_true(chunks_write(&b, 100, "jello", 5));
    assert_int_not_equal(chunks_hash(&a), chunks_hash(&b));
    assert_true(chunks_write(&b, 100, "h", 1));
    assert_int_not_equal(chunks_hash(&a), chunks_hash(&b));
    assert_true(chunks_write(&b, FAR, "", 1)); /* a chunk of zeros is as good as none */
    assert_int_equal(chunks_hash(&a), chunks_hash(&b));
    assert_true(chunks_zero(&b, 100, 5));
    assert_true(chunks_write(&b, 100 + CHUNK, "hello", 5));
    assert_int_not_equal(chunks_hash(&a), chunks_hash(&b));
    chunks_free(&a);
    chunks_free(&b);
}

static void without_memory_nothing_is_lost(void **state)
{
    for (uint64_t nth = 1; nth <= 3; nth++) {
        struct chunks a, b;
        char got[5];
        chunks_init(&a, CHUNK);
        assert_true(chunks_write(&a, 0, "hello", 5));
        mem_fail_nth(nth, 1);
        bool cloned = chunks_clone(&b, &a);
        bool wrote = cloned && chunks_write(&b, 0, "HELLO", 5);
        mem_fail_nth(0, 0);
        assert_int_equal(cloned, nth > 1);
        assert_int_equal(wrote, nth > 2);
        chunks_read(&a, 0, got, 5);
        assert_memory_equal(got, "hello", 5);
        chunks_free(&a);
        if (cloned) {
            chunks_read(&b, 0, got, 5);
            assert_memory_equal(got, wrote ? "HELLO" : "hello", 5);
        }
        chunks_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes_agree_with_a_plain_array),
        cmocka_unit_test(equal_contents_have_equal_hashes_however_they_came_about),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
