/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bitmaps as bytes, held against a plain array.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bitmap/bitmap.h"

#define PIECE 512

static uint64_t stored_room(const struct bitmap *b)
{
    return round_up(bitmap_stored_size(b->size, b->granularity), PIECE);
}

/* Each granule by itself. */
static void expect_bits(const struct bitmap *b, const uint8_t *bytes)
{
    for (uint64_t i = 0; i * b->granularity < b->size; i++) {
        bool dirty;
        bitmap_next(b, i * b->granularity, &dirty);
        if (dirty != (bytes[i / 8] >> i % 8 & 1))
            fail_msg("bit %llu", (unsigned long long)i);
    }
}

static void bytes_are_bits_lowest_first(void **state)
{
    struct rng rng;
    rng_seed(&rng, 3);
    for (unsigned round = 0; round < 60; round++) {
        uint64_t size = 1 + rng_below(&rng, 40 * MiB);
        struct bitmap *b = bitmap_new(NULL, size, 512u << rng_below(&rng, 4));
        struct bitmap *again = bitmap_new(NULL, size, b->granularity);
        uint64_t len = stored_room(b);
        uint8_t *bytes = calloc(len, 1), *back = calloc(len, 1);
        for (unsigned i = (unsigned)rng_below(&rng, 300); i > 0; i--)
            bitmap_mark(b, rng_below(&rng, size), 1 + rng_below(&rng, 1 << rng_below(&rng, 22)));
        /* In pieces, backwards. */
        for (uint64_t at = len; at > 0; at -= PIECE)
            bitmap_save(b, at - PIECE, bytes + at - PIECE, PIECE);
        expect_bits(b, bytes);
        for (uint64_t i = div_round_up(size, b->granularity); i < len * 8; i++)
            assert_false(bytes[i / 8] >> i % 8 & 1); /* unused tail bits are zero */
        assert_int_equal(bitmap_load(again, 0, bytes, len), 0);
        assert_int_equal(bitmap_dirty_bytes(again), bitmap_dirty_bytes(b));
        bitmap_save(again, 0, back, len);
        assert_memory_equal(bytes, back, len);
        for (uint64_t at = 0; at < len; at += PIECE) {
            enum bitmap_piece kind = bitmap_piece_kind(b, at, PIECE);
            bool clear = true, set = true;
            for (unsigned i = 0; i < PIECE; i++) {
                clear &= bytes[at + i] == 0;
                set &= bytes[at + i] == 0xff;
            }
            assert_int_equal(kind, clear ? BITMAP_PIECE_CLEAR
                                   : set ? BITMAP_PIECE_SET
                                         : BITMAP_PIECE_MIXED);
        }
        bitmap_free(b);
        bitmap_free(again);
        free(bytes);
        free(back);
    }
}

static void loading_adds_and_minds_the_end(void **state)
{
    uint8_t ones[PIECE];
    struct bitmap *b = bitmap_new(NULL, 1000 * 512, 512);
    memset(ones, 0xff, sizeof(ones));
    assert_int_equal(bitmap_load(b, 0, ones, PIECE), 0);
    assert_int_equal(bitmap_dirty_bytes(b), 1000 * 512);
    bitmap_free(b);
    b = bitmap_new(NULL, 1000 * 512, 512);
    bitmap_mark(b, 0, 1);
    memset(ones, 0, sizeof(ones));
    ones[124] = 0x80; /* granule 999 */
    ones[125] = 0x01; /* past the end */
    assert_int_equal(bitmap_load(b, 0, ones, PIECE), 0);
    assert_int_equal(bitmap_dirty_bytes(b), 2 * 512);
    bitmap_free(b);
}

static void loading_without_memory_says_so(void **state)
{
    uint8_t bytes[PIECE] = {1};
    struct bitmap *b = bitmap_new(NULL, 64 * MiB, 512);
    mem_fail_nth(1, 0);
    assert_true(bitmap_load(b, 0, bytes, PIECE) < 0);
    mem_fail_nth(0, 0);
    assert_int_equal(bitmap_load(b, 0, bytes, PIECE), 0);
    assert_int_equal(bitmap_dirty_bytes(b), 512);
    bitmap_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_bits_lowest_first),
        cmocka_unit_test(loading_adds_and_minds_the_end),
        cmocka_unit_test(loading_without_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
