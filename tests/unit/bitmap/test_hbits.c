/* SPDX-License-Identifier: BSD-3-Clause
 *
 * hbits against a plain array of bools, in seeded random sequences; memory bounds; failing
 * allocations. Replay a failure with SEED=n.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bitmap/hbits.h"

#define MODEL_MAX 1200000u

static uint64_t seed(void)
{
    const char *text = getenv("SEED");

    return text ? strtoull(text, NULL, 0) : 20240229;
}

struct model {
    uint8_t *bit;
    uint64_t n;
};

static void model_fill(struct model *m, uint64_t first, uint64_t n, bool value)
{
    memset(m->bit + first, value, n);
}

static uint64_t model_count(const struct model *m)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < m->n; i++)
        count += m->bit[i];
    return count;
}

/* All runs, then a few single bits. */
static void assert_same(const struct hbits *b, const struct model *m, struct rng *r)
{
    uint64_t at = 0;

    assert_int_equal(hbits_size(b), m->n);
    assert_int_equal(hbits_count(b), model_count(m));
    while (at < m->n) {
        bool value;
        uint64_t end = hbits_next(b, at, &value), i = at;

        assert_true(end > at && end <= m->n);
        while (i < end && m->bit[i] == value)
            i++;
        assert_int_equal(i, end);
        assert_true(end == m->n || m->bit[end] != value);
        assert_int_equal(hbits_test_all(b, at, end - at), value);
        assert_false(end < m->n && hbits_test_all(b, at, end - at + 1));
        at = end;
    }
    for (int i = 0; i < 20 && m->n > 0; i++) {
        uint64_t bit = rng_below(r, m->n);

        assert_int_equal(hbits_test(b, bit), m->bit[bit]);
    }
}

/* Sizes and positions that sit on and around the boundaries of words, leaves and nodes. */
static uint64_t pick(struct rng *r, uint64_t limit)
{
    static const uint64_t edge[] = {64, 4096, 8192, 8192 * 64, 8192 * 64 * 2};
    uint64_t v;

    if (limit == 0)
        return 0;
    switch (rng_below(r, 3)) {
    case 0:
        return rng_below(r, limit);
    case 1:
        return rng_below(r, min_u64(limit, 200));
    default:
        v = edge[rng_below(r, ARRAY_LEN(edge))] * rng_below(r, 5) + rng_below(r, 3);
        return v > 0 ? (v - 1) % limit : 0;
    }
}

static void random_or(struct hbits *b, struct model *m, struct rng *r)
{
    struct hbits *other = hbits_new(m->n);

    if (rng_below(r, 2))
        hbits_pack_above(other, 0);
    for (int i = 0; i < 4; i++) {
        uint64_t first = pick(r, m->n), n = pick(r, m->n - first + 1);

        assert_int_equal(hbits_set(other, first, n), 0);
        model_fill(m, first, n, true);
    }
    uint64_t at = pick(r, m->n), end = min_u64(m->n, at + 50000);
    uint64_t gap = UINT64_C(1) << rng_below(r, 12);

    for (; at < end; at += 1 + rng_below(r, gap + 1)) {
        assert_int_equal(hbits_set(other, at, 1), 0);
        model_fill(m, at, 1, true);
    }
    assert_int_equal(hbits_or(b, other), 0);
    hbits_free(other);
}

/* Bits far apart, and a few close together: what leaves are packed for. */
static void sprinkle(struct hbits *b, struct model *m, struct rng *r)
{
    for (uint64_t at = pick(r, 3000); at < m->n; at += 1 + rng_below(r, 1 << rng_below(r, 14))) {
        bool value = rng_below(r, 5) != 0;

        assert_int_equal(value ? hbits_set(b, at, 1) : hbits_clear(b, at, 1), 0);
        model_fill(m, at, 1, value);
    }
}

static void behaves_as_an_array_of_bits(void **state)
{
    struct rng r;
    struct model m = {.bit = calloc(MODEL_MAX, 1)};
    (void)state;

    for (uint64_t round = 0; round < 40; round++) {
        struct hbits *b;

        print_message("SEED=%llu round %llu\n", (unsigned long long)seed(),
                      (unsigned long long)round);
        rng_seed(&r, seed() + round);
        m.n = pick(&r, MODEL_MAX + 1);
        model_fill(&m, 0, MODEL_MAX, false);
        b = hbits_new(m.n);
        if (round % 2)
            hbits_pack_above(b, 0);
        if (round % 4 > 1)
            sprinkle(b, &m, &r);
        for (int step = 0; step < 25; step++) {
            uint64_t first = pick(&r, m.n), n = pick(&r, m.n - first + 1);
            uint64_t op = rng_below(&r, 10);

            if (op < 5) {
                assert_int_equal(hbits_set(b, first, n), 0);
                model_fill(&m, first, n, true);
            } else if (op < 8) {
                assert_int_equal(hbits_clear(b, first, n), 0);
                model_fill(&m, first, n, false);
            } else if (op < 9) {
                uint64_t size = pick(&r, MODEL_MAX + 1);
                bool value = rng_below(&r, 2);

                assert_int_equal(hbits_resize(b, size, value), 0);
                if (size > m.n)
                    model_fill(&m, m.n, size - m.n, value);
                m.n = size;
            } else {
                random_or(b, &m, &r);
            }
            assert_same(b, &m, &r);
        }
        hbits_free(b);
    }
    free(m.bit);
}

static void empty_and_full_arrays_of_a_pebibyte_disk_are_small(void **state)
{
    uint64_t n = (UINT64_C(1) << 50) / 65536;
    struct hbits *b = hbits_new(n);
    bool value;
    (void)state;

    assert_true(hbits_memory(b) < 4096);
    assert_int_equal(hbits_next(b, 0, &value), n);
    assert_false(value);
    assert_int_equal(hbits_set(b, 0, n), 0);
    assert_int_equal(hbits_count(b), n);
    assert_true(hbits_memory(b) < 4096);
    assert_int_equal(hbits_clear(b, n / 2, 1), 0);
    assert_int_equal(hbits_next(b, 0, &value), n / 2);
    assert_true(value);
    assert_int_equal(hbits_next(b, n / 2 + 1, &value), n);
    assert_true(hbits_memory(b) < 8192);
    hbits_free(b);
}

static void memory_of_what_was_cleared_is_given_back(void **state)
{
    struct hbits *b = hbits_new(1 << 24);
    uint64_t idle = hbits_memory(b);
    (void)state;

    for (uint64_t i = 0; i < 1 << 24; i += 5000)
        assert_int_equal(hbits_set(b, i, 1), 0);
    assert_true(hbits_memory(b) > idle);
    for (uint64_t i = 0; i < 1 << 24; i += 5000)
        assert_int_equal(hbits_clear(b, i, 1), 0);
    assert_int_equal(hbits_memory(b), idle);
    /* Bit by bit to full: the leaves go too. */
    for (uint64_t i = 0; i < 1 << 24; i++)
        assert_int_equal(hbits_set(b, i, 1), 0);
    assert_int_equal(hbits_memory(b), idle);
    assert_int_equal(hbits_count(b), 1 << 24);
    hbits_free(b);
}

static void largest_size_works(void **state)
{
    uint64_t n = UINT64_C(1) << 60;
    struct hbits *b = hbits_new(n);
    bool value;
    (void)state;

    assert_int_equal(hbits_set(b, n - 1, 1), 0);
    assert_int_equal(hbits_next(b, 0, &value), n - 1);
    assert_false(value);
    assert_int_equal(hbits_set(b, 0, n), 0);
    assert_int_equal(hbits_count(b), n);
    hbits_free(b);
}

/* Run op on a copy of a fixed array with the 1st, 2nd, ... allocation failing. */
typedef int op_fn(struct hbits *b);

static bool packed;

static struct hbits *fixture(void)
{
    struct hbits *b = hbits_new(300000);

    assert_non_null(b);
    if (packed)
        hbits_pack_above(b, 0);
    assert_int_equal(hbits_set(b, 0, 300000), 0);
    assert_int_equal(hbits_clear(b, 10000, 100000), 0);
    assert_int_equal(hbits_set(b, 20000, 7), 0);
    return b;
}

static int op_set(struct hbits *b)
{
    return hbits_set(b, 30001, 50000);
}

static int op_clear(struct hbits *b)
{
    return hbits_clear(b, 150001, 100000);
}

static int op_grow_clear(struct hbits *b)
{
    return hbits_resize(b, UINT64_C(1) << 40, false);
}

static int op_grow_set(struct hbits *b)
{
    return hbits_resize(b, UINT64_C(1) << 40, true);
}

static void assert_equal_bits(const struct hbits *a, const struct hbits *b, uint64_t from,
                              uint64_t to)
{
    while (from < to) {
        bool va, vb;
        uint64_t ea = hbits_next(a, from, &va), eb = hbits_next(b, from, &vb);

        assert_int_equal(va, vb);
        from = min_u64(ea, eb);
    }
}

static void sweep(op_fn *op, uint64_t touched_from, uint64_t touched_to)
{
    int ret = -ENOMEM;

    for (uint64_t nth = 1; ret != 0; nth++) {
        struct hbits *before = fixture(), *b = fixture();
        struct hbits *recount;

        mem_fail_nth(nth, 1);
        ret = op(b);
        mem_fail_nth(0, 0);
        assert_true(ret == 0 || ret == -ENOMEM);
        assert_true(nth > 1 || ret == -ENOMEM); /* the sweep did reach an allocation */
        if (ret < 0) {
            uint64_t counted = 0;

            assert_int_equal(hbits_size(b), 300000);
            assert_equal_bits(before, b, 0, touched_from);
            assert_equal_bits(before, b, touched_to, 300000);
            for (uint64_t i = 0; i < 300000; i++)
                counted += hbits_test(b, i);
            assert_int_equal(counted, hbits_count(b));
        }
        recount = hbits_new(hbits_size(b));
        assert_int_equal(hbits_or(recount, b), 0);
        assert_int_equal(hbits_count(recount), hbits_count(b));
        hbits_free(recount);
        hbits_free(b);
        hbits_free(before);
    }
}

static void failed_allocations_change_nothing_outside_the_range(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        packed = i;
        sweep(op_set, 30001, 80001);
        sweep(op_clear, 150001, 250001);
    }
    packed = false;
}

static void failed_growth_changes_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        packed = i;
        sweep(op_grow_clear, 300000, 300000);
        sweep(op_grow_set, 300000, 300000);
    }
    packed = false;
}

/* Two packed leaves that are all bits together are no leaf any more; too many bits are not packed.
 */
static void packed_leaves_join_to_what_is_smallest(void **state)
{
    (void)state;
    for (uint64_t n = 2; n <= 8192; n = n == 2 ? 300 : n == 300 ? 1000 : n * 8 + 192) {
        struct hbits *even = hbits_new(n), *odd = hbits_new(n);
        uint64_t empty = hbits_memory(even);

        hbits_pack_above(even, 0);
        hbits_pack_above(odd, 0);
        for (uint64_t i = 0; i < n; i++)
            assert_int_equal(hbits_set(i % 2 ? odd : even, i, 1), 0);
        struct hbits *both = hbits_union(even, odd);

        assert_int_equal(hbits_count(both), n);
        assert_true(hbits_test_all(both, 0, n));
        hbits_free(both);
        both = hbits_union(even, even); /* what both have counts once */
        assert_int_equal(hbits_count(both), hbits_count(even));
        assert_true(n < 3 || (hbits_test(both, 2) && !hbits_test(both, 1)));
        hbits_free(both);
        assert_int_equal(hbits_or(even, odd), 0);
        assert_int_equal(hbits_count(even), n);
        assert_int_equal(hbits_memory(even), empty);
        hbits_free(even);
        hbits_free(odd);
    }
}

/* Shrinking needs no memory, also where it cuts a packed leaf. */
static void shrinking_cuts_packed_leaves_without_memory(void **state)
{
    struct hbits *b = hbits_new(1000000);
    (void)state;

    hbits_pack_above(b, 0);
    for (uint64_t at = 3; at < 1000000; at += 700)
        assert_int_equal(hbits_set(b, at, 1), 0);
    mem_fail_nth(1, 1);
    for (uint64_t n = 1000000; n > 0; n -= min_u64(n, 333)) {
        bool value;

        assert_int_equal(hbits_resize(b, n, false), 0);
        assert_int_equal(hbits_count(b), n > 3 ? (n - 4) / 700 + 1 : 0);
        assert_true(hbits_next(b, 0, &value) <= n);
    }
    mem_fail_nth(0, 0);
    hbits_free(b);
}

/* A 64th of 1 PiB at 64 KiB (large_bitmaps.c does all of it): the memory of 1 % of scattered
 * bits is near what they hold in information, and what is cleared gives it back. */
static void scattered_bits_take_little_memory(void **state)
{
    uint64_t n = UINT64_C(1) << 28, idle;
    struct hbits *b = hbits_new(n);
    struct rng r;
    (void)state;

    hbits_pack_above(b, 0);
    idle = hbits_memory(b);
    rng_seed(&r, seed());
    for (uint64_t i = 0; i < n / 100; i++)
        assert_int_equal(hbits_set(b, rng_below(&r, n), 1), 0);
    assert_true(hbits_count(b) > n / 102);
    assert_true(hbits_memory(b) < 4 << 20);
    assert_int_equal(hbits_clear(b, 0, n / 2), 0);
    assert_int_equal(hbits_clear(b, n / 2, n / 2), 0);
    assert_int_equal(hbits_memory(b), idle);
    hbits_free(b);
}

static void filling_the_whole_needs_no_memory(void **state)
{
    struct hbits *b = fixture();
    (void)state;

    mem_fail_nth(1, 1);
    assert_int_equal(hbits_set(b, 0, 300000), 0);
    assert_int_equal(hbits_clear(b, 0, 300000), 0);
    mem_fail_nth(0, 0);
    assert_int_equal(hbits_count(b), 0);
    hbits_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_as_an_array_of_bits),
        cmocka_unit_test(empty_and_full_arrays_of_a_pebibyte_disk_are_small),
        cmocka_unit_test(memory_of_what_was_cleared_is_given_back),
        cmocka_unit_test(largest_size_works),
        cmocka_unit_test(failed_allocations_change_nothing_outside_the_range),
        cmocka_unit_test(failed_growth_changes_nothing),
        cmocka_unit_test(filling_the_whole_needs_no_memory),
        cmocka_unit_test(shrinking_cuts_packed_leaves_without_memory),
        cmocka_unit_test(packed_leaves_join_to_what_is_smallest),
        cmocka_unit_test(scattered_bits_take_little_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
