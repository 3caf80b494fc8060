/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <string.h>

#include "backup-client/plan.h"
#include "base/bytes.h"
#include "base/rng.h"
#include "tests/unit/backup-client/fake.h"

#define UNIT 512
#define UNITS 40000 /* 19.5 MiB: a partial block at the end */

/* A map with one flag word for each 512 bytes, which answers in short and ragged pieces. */
struct map {
    uint8_t flags[UNITS];
    uint64_t size;
    struct rng rng;
    bool ragged;
    uint64_t fetches, last_off;
    bool backwards;
};

static struct map dirty_map, alloc_map;

static bool map_fetch(void *arg, uint64_t off, uint64_t len, struct extents *x, struct err **errp)
{
    struct map *m = arg;
    uint64_t end = off + len;
    m->backwards |= off < m->last_off;
    m->last_off = off;
    m->fetches++;
    if (m->ragged)
        end = min_u64(end, off + UNIT * (1 + rng_below(&m->rng, 700)));
    for (uint64_t at = off; at < end;) {
        uint64_t next = min_u64((at / UNIT + 1) * UNIT, end);
        int r = extents_add(x, next - at, m->flags[at / UNIT]);
        assert_true(r >= 0);
        if (r == 0)
            break;
        at = next;
    }
    return true;
}

static void fill_map(struct map *m, uint64_t seed, uint64_t size, unsigned values, uint64_t longest)
{
    memset(m, 0, sizeof(*m));
    rng_seed(&m->rng, seed);
    m->size = size;
    m->ragged = rng_below(&m->rng, 2);
    for (uint64_t u = 0; u < UNITS;) {
        uint64_t run = 1 + rng_below(&m->rng, longest);
        uint8_t v = (uint8_t)rng_below(&m->rng, values);
        for (; run > 0 && u < UNITS; run--, u++)
            m->flags[u] = v;
    }
}

/* What must become of a block, seen byte by byte. */
static enum plan_kind model(uint64_t block, uint64_t size, bool inc, bool alloc)
{
    uint64_t first = block * BACKUP_BLOCK / UNIT;
    uint64_t end = div_round_up(min_u64((block + 1) * BACKUP_BLOCK, size), UNIT);
    bool any_dirty = !inc, all_zero = alloc;
    for (uint64_t u = first; u < end; u++) {
        any_dirty |= dirty_map.flags[u] & 1;
        all_zero &= (alloc_map.flags[u] & EXTENT_ZERO) != 0;
    }
    if (!any_dirty)
        return PLAN_SKIP;
    if (all_zero)
        return inc ? PLAN_ZERO : PLAN_SKIP;
    return PLAN_DATA;
}

static void compare(uint64_t seed, uint64_t size, bool inc, bool alloc, uint64_t max_data)
{
    struct span dirty, allocation;
    struct plan p = {.size = size};
    uint64_t pos = 0, off, len;
    enum plan_kind kind;
    span_init(&dirty, size, map_fetch, &dirty_map);
    span_init(&allocation, size, map_fetch, &alloc_map);
    p.dirty = inc ? &dirty : NULL;
    p.alloc = alloc ? &allocation : NULL;
    for (;;) {
        assert_true(plan_next(&p, max_data, &kind, &off, &len, NULL));
        if (len == 0)
            break;
        assert_int_equal(off, pos);
        assert_true(off % BACKUP_BLOCK == 0 && off + len <= size);
        assert_true(len % BACKUP_BLOCK == 0 || off + len == size);
        assert_true(kind != PLAN_DATA || len <= max_data);
        for (uint64_t b = off / BACKUP_BLOCK; b * BACKUP_BLOCK < off + len; b++)
            if (model(b, size, inc, alloc) != kind)
                fail_msg("seed %llu inc %d alloc %d: block %llu is %d", (unsigned long long)seed,
                         inc, alloc, (unsigned long long)b, kind);
        pos = off + len;
    }
    assert_int_equal(pos, size);
    assert_false(dirty_map.backwards);
    assert_false(alloc_map.backwards);
    span_free(&dirty);
    span_free(&allocation);
}

static void the_plan_agrees_with_a_byte_by_byte_model(void **state)
{
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        uint64_t size = UNIT * (1 + rng_below(&rng, UNITS));
        bool inc = rng_below(&rng, 3) > 0, alloc = rng_below(&rng, 4) > 0;
        uint64_t longest = rng_below(&rng, 2) ? 300 : 5000;
        fill_map(&dirty_map, seed * 2, size, 2, longest);
        fill_map(&alloc_map, seed * 2 + 1, size, 4, longest);
        compare(seed, size, inc, alloc, BACKUP_BLOCK << rng_below(&rng, 5));
    }
}

static void allocation_is_asked_only_inside_what_changed(void **state)
{
    struct span dirty, allocation;
    struct plan p = {.size = UNITS * UNIT, .dirty = &dirty, .alloc = &allocation};
    uint64_t off, len;
    enum plan_kind kind;
    memset(&dirty_map, 0, sizeof(dirty_map));
    memset(&alloc_map, 0, sizeof(alloc_map));
    dirty_map.flags[20000] = 1;
    span_init(&dirty, p.size, map_fetch, &dirty_map);
    span_init(&allocation, p.size, map_fetch, &alloc_map);
    do {
        assert_true(plan_next(&p, BACKUP_BLOCK, &kind, &off, &len, NULL));
        assert_true(len == 0 || (kind == PLAN_DATA) == (off == 20000 / 128 * BACKUP_BLOCK));
    } while (len > 0);
    assert_int_equal(alloc_map.fetches, 1);
    assert_int_equal(alloc_map.last_off, 20000 / 128 * BACKUP_BLOCK);
    span_free(&dirty);
    span_free(&allocation);
}

static bool empty_fetch(void *arg, uint64_t off, uint64_t len, struct extents *x, struct err **errp)
{
    return true;
}

static bool failing_fetch(void *arg, uint64_t off, uint64_t len, struct extents *x,
                          struct err **errp)
{
    return err_set(errp, EIO, "no map today");
}

static void a_map_that_fails_or_says_nothing_ends_the_plan(void **state)
{
    span_fetch *const fetch[] = {empty_fetch, failing_fetch};
    for (int i = 0; i < 2; i++) {
        struct span s;
        struct plan p = {.size = UNITS * UNIT, .dirty = &s};
        uint64_t off, len;
        enum plan_kind kind;
        struct err *e = NULL;
        span_init(&s, p.size, fetch[i], NULL);
        assert_false(plan_next(&p, BACKUP_BLOCK, &kind, &off, &len, &e));
        assert_int_equal(err_code(e), i ? EIO : EPROTO);
        err_free(e);
        span_free(&s);
    }
}

/* A map of 2^60 bytes, one extent an answer: how much is asked for at once? */
static uint64_t most_asked;
static bool huge_fetch(void *arg, uint64_t off, uint64_t len, struct extents *x, struct err **errp)
{
    most_asked = max_u64(most_asked, len);
    return extents_add(x, UINT64_C(1) << 58, 1) == 1; /* more than was asked: allowed */
}

static void huge_maps_are_asked_for_in_steps(void **state)
{
    struct span s;
    uint32_t flags;
    uint64_t len;
    span_init(&s, UINT64_C(1) << 60, huge_fetch, NULL);
    for (uint64_t off = 0; off < UINT64_C(1) << 60; off += len) {
        assert_true(span_at(&s, off, &flags, &len, NULL));
        assert_true(len > 0 && off + len <= UINT64_C(1) << 60);
    }
    assert_true(most_asked <= SPAN_FETCH_MAX);
    span_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_agrees_with_a_byte_by_byte_model),
        cmocka_unit_test(allocation_is_asked_only_inside_what_changed),
        cmocka_unit_test(a_map_that_fails_or_says_nothing_ends_the_plan),
        cmocka_unit_test(huge_maps_are_asked_for_in_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
