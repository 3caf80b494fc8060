/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cover.h"
#include "base/bytes.h"

#define START 1000

static void chunks_in_order_make_up_the_whole(void **state)
{
    struct cover c;
    cover_init(&c, START);
    for (unsigned i = 0; i < 1000; i++) {
        assert_false(cover_is(&c, 1000));
        cover_add(&c, START + i, 1);
        assert_int_equal(c.n, 1);
    }
    assert_true(cover_is(&c, 1000));
    assert_false(cover_is(&c, 999));
}

static void what_comes_twice_does_not_replace_what_is_missing(void **state)
{
    static const struct {
        uint64_t off, len;
    } bad[][2] = {
        {{0, 50}, {0, 50}}, {{0, 60}, {50, 40}}, {{50, 50}, {40, 20}}, {{0, 50}, {51, 50}},
        {{0, 99}, {0, 0}},  {{1, 99}, {0, 0}},   {{0, 101}, {0, 0}},   {{0, 50}, {UINT64_MAX, 1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct cover c;
        cover_init(&c, START);
        cover_add(&c, START + bad[i][0].off, bad[i][0].len);
        cover_add(&c, START + bad[i][1].off, bad[i][1].len);
        if (cover_is(&c, 100))
            fail_msg("case %zu was accepted", i);
    }
}

/* Against a map of bytes: random chunks in random order, sometimes with one too many or too few. */
static void any_order_is_judged_as_a_map_of_bytes_would(void **state)
{
    for (unsigned seed = 0; seed < 20000; seed++) {
        unsigned char map[64] = {0};
        unsigned from[64], n = 0, r = seed;
        struct cover c;
        bool once = true;
        cover_init(&c, START);
        for (unsigned at = 0; at < 64; at += 1 + (unsigned)rand_r(&r) % 9)
            from[n++] = at;
        unsigned ends[65];
        for (unsigned i = 0; i < n; i++)
            ends[i] = i + 1 < n ? from[i + 1] : 64;
        unsigned damage = (unsigned)rand_r(&r) % 3, victim = (unsigned)rand_r(&r) % n;
        for (unsigned i = n; i > 0; i--) { /* a random order, taken from the end */
            unsigned j = (unsigned)rand_r(&r) % i, a = from[j], b = ends[j];
            from[j] = from[i - 1];
            ends[j] = ends[i - 1];
            if (damage == 1 && i - 1 == victim)
                continue;
            unsigned times = damage == 2 && i - 1 == victim ? 2 : 1;
            while (times-- > 0) {
                cover_add(&c, START + a, b - a);
                for (unsigned k = a; k < b; k++)
                    once &= map[k]++ == 0;
            }
        }
        once &= memchr(map, 0, sizeof(map)) == NULL;
        if (cover_is(&c, 64) != once)
            fail_msg("seed %u: %d, not %d", seed, !once, once);
    }
}

static void more_pieces_than_there_is_room_for_are_refused(void **state)
{
    struct cover c;
    cover_init(&c, START);
    for (unsigned i = 0; i <= COVER_RANGES; i++)
        cover_add(&c, START + 2 * i, 1);
    for (unsigned i = 0; i <= COVER_RANGES; i++)
        cover_add(&c, START + 2 * i + 1, 1);
    assert_true(c.full);
    assert_false(cover_is(&c, 2 * (COVER_RANGES + 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_in_order_make_up_the_whole),
        cmocka_unit_test(what_comes_twice_does_not_replace_what_is_missing),
        cmocka_unit_test(any_order_is_judged_as_a_map_of_bytes_would),
        cmocka_unit_test(more_pieces_than_there_is_room_for_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
