/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sparse store of bytes against an array: random writes, zeros and drops.
 */
#include "tests/unit/faults/fault_test.h"

#include "faults/pages.h"

#define SIZE (64 * 1024)

static uint8_t want[SIZE], got[SIZE];
static bool held[SIZE];

static void compare(const struct pages *p, uint64_t seed)
{
    memset(got, 0xee, SIZE);
    pages_patch(p, 0, got, SIZE);
    for (uint64_t i = 0; i < SIZE; i++)
        if (got[i] != (held[i] ? want[i] : 0xee))
            fail_msg("seed %llu: byte %llu is 0x%02x", (unsigned long long)seed,
                     (unsigned long long)i, got[i]);
    for (uint64_t at = 0; at < SIZE;) {
        bool h;
        uint64_t n = pages_run(p, at, SIZE - at, &h);

        assert_true(n > 0);
        for (uint64_t i = at; i < at + n; i++)
            assert_int_equal(held[i], h);
        assert_true(at + n == SIZE || held[at + n] != h);
        at += n;
    }
}

static void play(uint64_t seed)
{
    struct pages p = {0};
    struct rng rng;

    rng_seed(&rng, seed);
    memset(held, 0, sizeof(held));
    for (unsigned i = 0; i < 200; i++) {
        uint64_t off = rng_below(&rng, SIZE), most = rng_below(&rng, 2) ? 100 : 20000;
        uint64_t len = min_u64(rng_below(&rng, most) + 1, SIZE - off);
        unsigned what = (unsigned)rng_below(&rng, 4);

        if (what == 0) {
            pages_drop(&p, off, len);
        } else if (what == 1) {
            memset(want + off, 0, len);
            assert_true(pages_write(&p, off, NULL, len));
        } else {
            memset(want + off, (int)rng_below(&rng, 200) + 1, len);
            assert_true(pages_write(&p, off, want + off, len));
        }
        memset(held + off, what != 0, len);
        if (i % 10 == 0)
            compare(&p, seed);
    }
    pages_drop(&p, 0, SIZE);
    assert_int_equal(p.n, 0);
    pages_free(&p);
}

static void it_holds_what_an_array_holds(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++)
        play(seed);
}

static void without_memory_nothing_else_changes(void **state)
{
    for (uint64_t nth = 1; nth < 200; nth++) {
        struct pages p = {0};
        uint8_t buf[200];

        memset(buf, 7, sizeof(buf));
        assert_true(pages_write(&p, 0, buf, 100));
        mem_fail_nth(nth, 0);
        bool ok = true;
        for (uint64_t i = 1; ok && i < 100; i++)
            ok = pages_write(&p, i * 4096, buf, 200);
        bool reached = mem_count() >= nth;
        mem_fail_nth(0, 0);
        assert_int_equal(ok, !reached);
        memset(buf, 1, sizeof(buf));
        pages_patch(&p, 0, buf, 200);
        assert_int_equal(buf[99], 7);
        assert_int_equal(buf[100], 1);
        pages_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_holds_what_an_array_holds),
        cmocka_unit_test(without_memory_nothing_else_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
