/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The volatile write cache, its power cut, and the states that may remain: each is legal, all that
 * are possible of few writes are there, and none is there twice.
 */
#include "tests/unit/block/probe.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "block/mem_disk.h"
#include "filters/cache.h"

#define DISK ((uint64_t)256 * KiB)

static uint8_t buf[DISK], got[DISK], model[DISK];
static struct node *medium;

static struct node *open_cache(struct cache_conf conf)
{
    struct node *n;

    conf.on = true;
    conf.size = conf.size ? conf.size : MiB;
    conf.unit = conf.unit ? conf.unit : 512;
    conf.states = conf.states ? conf.states : 1000;
    medium = mem_open(DISK, NULL);
    n = cache_open(medium, &conf, NULL);
    assert_non_null(n);
    memset(model, 0, DISK);
    return n;
}

static void put(struct node *n, uint64_t off, uint64_t len, uint8_t byte, uint32_t flags)
{
    memset(buf, byte, len);
    memset(model + off, byte, len);
    assert_int_equal(node_write(n, off, buf, len, flags), 0);
}

static void expect(struct node *n, uint64_t off, uint64_t len, uint8_t byte)
{
    assert_int_equal(node_read(n, off, got, len), 0);
    for (uint64_t i = 0; i < len; i++)
        if (got[i] != byte)
            fail_msg("byte %llu is 0x%02x, not 0x%02x", (unsigned long long)(off + i), got[i],
                     byte);
}

SIM_TEST(writes_are_found_at_once_and_are_on_the_medium_after_a_flush)
{
    struct node *n = open_cache((struct cache_conf){0});
    struct extents ext;

    put(n, 1000, 2000, 1, 0);
    expect(n, 1000, 2000, 1);
    expect(n, 3000, 100, 0);
    expect(medium, 0, 4096, 0);
    extents_init(&ext, 8);
    assert_int_equal(node_status(n, 1000, 2000, &ext), 0);
    assert_int_equal(ext.v[0].flags, 0);
    extents_free(&ext);
    assert_int_equal(node_flush(n), 0);
    expect(medium, 1000, 2000, 1);
    expect(n, 1000, 2000, 1);
    node_unref(n);
}

SIM_TEST(a_flush_that_is_ignored_succeeds_and_does_nothing)
{
    struct node *n = open_cache((struct cache_conf){.ignore_flush = true});

    put(n, 0, 512, 1, 0);
    assert_int_equal(node_flush(n), 0);
    expect(medium, 0, 512, 0);
    cache_powercut(n);
    assert_int_equal(cache_crash_count(n), 2);
    node_unref(n);
}

SIM_TEST(an_orderly_end_writes_everything)
{
    struct node *n = open_cache((struct cache_conf){.ignore_flush = true});
    struct node *m = node_ref(medium);

    put(n, 0, 512, 1, 0);
    node_unref(n);
    expect(m, 0, 512, 1);
    node_unref(m);
}

SIM_TEST(fua_is_on_the_medium_at_once_and_other_writes_are_not)
{
    struct node *n = open_cache((struct cache_conf){0});

    put(n, 0, 1024, 1, 0);
    put(n, 512, 1024, 2, REQ_FUA);
    expect(medium, 0, 512, 0);
    expect(medium, 512, 1024, 2);
    expect(n, 0, 512, 1);
    expect(n, 512, 1024, 2);
    cache_powercut(n);
    /* The older write may be lost or kept in its first unit; it never wins over the FUA write. */
    assert_int_equal(cache_crash_count(n), 2);
    for (unsigned i = 0; i < 2; i++) {
        struct node *s = cache_crash_open(n, i, NULL);

        expect(s, 512, 1024, 2);
        node_unref(s);
    }
    node_unref(n);
}

SIM_TEST(a_full_cache_destages_the_oldest)
{
    struct node *n = open_cache((struct cache_conf){.size = MiB});

    for (unsigned i = 0; i < 40; i++)
        put(n, i % 4 * 64 * KiB, 64 * KiB, (uint8_t)(i + 1), 0);
    expect(n, 0, 64 * KiB, 37);
    assert_int_equal(node_read(medium, 0, got, 512), 0);
    assert_int_not_equal(got[0], 0);
    node_unref(n);
}

SIM_TEST(what_is_long_goes_past_after_what_came_before)
{
    struct node *n = open_cache((struct cache_conf){.size = 64 * KiB});

    put(n, 0, 512, 1, 0);
    put(n, 256, 128 * KiB, 2, 0);
    expect(medium, 0, 256, 1);
    expect(medium, 256, 128 * KiB, 2);
    expect(n, 0, 256, 1);
    expect(n, 256, 128 * KiB, 2);
    node_unref(n);
}

SIM_TEST(after_the_cut_nothing_goes_any_more)
{
    struct node *n = open_cache((struct cache_conf){0});
    struct extents ext;
    struct err *e = NULL;

    put(n, 0, 512, 1, 0);
    assert_null(cache_crash_open(n, 0, &e));
    assert_non_null(strstr(err_msg(e), "the power was not cut"));
    err_free(e);
    cache_powercut(n);
    cache_powercut(n);
    extents_init(&ext, 8);
    assert_int_equal(node_read(n, 0, got, 512), -ESHUTDOWN);
    assert_int_equal(node_write(n, 0, buf, 512, 0), -ESHUTDOWN);
    assert_int_equal(node_zero(n, 0, 512, 0), -ESHUTDOWN);
    assert_int_equal(node_status(n, 0, 512, &ext), -ESHUTDOWN);
    assert_int_equal(node_flush(n), -ESHUTDOWN);
    extents_free(&ext);
    expect(medium, 0, 512, 0);
    node_unref(n);
}

SIM_TEST(what_is_dropped_is_gone)
{
    struct node *n = open_cache((struct cache_conf){0});

    put(n, 0, 512, 1, 0);
    assert_int_equal(node_flush(n), 0);
    put(n, 0, 512, 2, 0);
    cache_drop_unflushed(n);
    expect(n, 0, 512, 1);
    node_unref(n);
}

SIM_TEST(crash_states_are_private_and_leave_the_medium_alone)
{
    struct node *n = open_cache((struct cache_conf){0}), *a, *b;

    put(n, 0, 512, 1, 0);
    cache_powercut(n);
    a = cache_crash_open(n, 0, NULL);
    b = cache_crash_open(n, 1, NULL);
    expect(a, 0, 512, 0);
    expect(b, 0, 512, 1);
    put(a, 100, 10, 7, 0);
    assert_int_equal(node_zero(b, 0, 256, 0), 0);
    expect(a, 100, 10, 7);
    expect(b, 0, 256, 0);
    expect(b, 256, 256, 1);
    assert_int_equal(node_flush(a), 0);
    expect(medium, 0, 4096, 0);
    node_unref(a);
    node_unref(b);
    node_unref(n);
}

/* --- Legal states --- */

#define SECTORS 6
#define MOST 8

/* Every write is of whole sectors and has its own byte; history[s] are the values of sector s from
 * the durable one on. */
static uint8_t history[SECTORS][MOST * 2 + 1];
static unsigned n_history[SECTORS];

static void forget_history(struct node *n)
{
    for (unsigned s = 0; s < SECTORS; s++) {
        history[s][0] = n_history[s] ? history[s][n_history[s] - 1] : 0;
        n_history[s] = 1;
    }
}

static void write_sectors(struct node *n, struct rng *rng, uint8_t byte)
{
    unsigned s = (unsigned)rng_below(rng, SECTORS), len;
    bool fua = rng_below(rng, 5) == 0;

    len = (unsigned)rng_below(rng, SECTORS - s) + 1;
    put(n, s * 512, len * 512, byte, fua ? REQ_FUA : 0);
    for (unsigned i = s; i < s + len; i++) {
        if (fua)
            n_history[i] = 0;
        history[i][n_history[i]++] = byte;
    }
}

static uint64_t content_of(struct node *s, uint64_t seed, unsigned state)
{
    uint64_t hash = 0;

    assert_int_equal(node_read(s, 0, got, SECTORS * 512), 0);
    for (unsigned k = 0; k < SECTORS; k++) {
        bool legal = false;

        for (unsigned i = 0; i < n_history[k]; i++)
            legal |= history[k][i] == got[k * 512];
        if (!legal)
            fail_msg("seed %llu, state %u: sector %u holds 0x%02x", (unsigned long long)seed, state,
                     k, got[k * 512]);
        for (unsigned i = 1; i < 512; i++)
            assert_int_equal(got[k * 512 + i], got[k * 512]);
        hash = rng_hash(hash ^ got[k * 512]);
    }
    return hash;
}

static void play(uint64_t seed, enum cache_destage destage)
{
    struct node *n =
        open_cache((struct cache_conf){.destage = destage, .seed = seed, .states = 2000});
    struct rng rng;
    uint64_t seen[2000];

    memset(n_history, 0, sizeof(n_history));
    forget_history(n);
    rng_seed(&rng, seed);
    for (unsigned i = 0; i < MOST; i++) {
        write_sectors(n, &rng, (uint8_t)(i + 1));
        if (rng_below(&rng, 6) == 0) {
            assert_int_equal(node_flush(n), 0);
            forget_history(n);
        }
    }
    assert_int_equal(node_read(n, 0, got, SECTORS * 512), 0);
    assert_memory_equal(got, model, SECTORS * 512);
    cache_powercut(n);
    for (unsigned i = 0; i < cache_crash_count(n); i++) {
        struct node *s = cache_crash_open(n, i, NULL);
        char text[100];

        seen[i] = content_of(s, seed, i);
        for (unsigned k = 0; k < i; k++)
            if (seen[k] == seen[i])
                fail_msg("seed %llu: states %u and %u are the same", (unsigned long long)seed, k,
                         i);
        assert_true(cache_crash_describe(n, i, text, sizeof(text)));
        node_unref(s);
    }
    assert_true(cache_crash_count(n) >= 1);
    node_unref(n);
}

SIM_TEST(every_state_is_legal_and_told_once)
{
    for (uint64_t seed = 1; seed <= 150; seed++)
        for (unsigned d = 0; d < DESTAGE_COUNT; d++)
            play(seed, (enum cache_destage)d);
}

SIM_TEST(of_three_writes_all_subsets_are_there)
{
    struct node *n = open_cache((struct cache_conf){0});
    bool found[8] = {false};

    for (unsigned i = 0; i < 3; i++)
        put(n, i * 4096, 512, 1, 0);
    cache_powercut(n);
    assert_int_equal(cache_crash_count(n), 8);
    for (unsigned i = 0; i < 8; i++) {
        struct node *s = cache_crash_open(n, i, NULL);
        unsigned which = 0;

        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(node_read(s, k * 4096, got, 512), 0);
            which |= (unsigned)got[0] << k;
        }
        assert_false(found[which]);
        found[which] = true;
        node_unref(s);
    }
    node_unref(n);
}

SIM_TEST(a_long_write_tears_at_its_units)
{
    struct node *n = open_cache((struct cache_conf){.unit = 4096});
    unsigned torn = 0, parts = 0;
    char text[100];

    put(n, 0, 64 * KiB, 1, 0);
    cache_powercut(n);
    assert_true(cache_crash_count(n) > 5);
    for (unsigned i = 0; i < cache_crash_count(n); i++) {
        struct node *s = cache_crash_open(n, i, NULL);
        unsigned kept = 0;

        assert_int_equal(node_read(s, 0, got, 64 * KiB), 0);
        for (unsigned u = 0; u < 16; u++) {
            kept += got[u * 4096];
            for (unsigned k = 1; k < 4096; k++)
                assert_int_equal(got[u * 4096 + k], got[u * 4096]);
        }
        torn += kept > 0 && kept < 16;
        assert_true(cache_crash_describe(n, i, text, sizeof(text)));
        parts += strstr(text, "parts of the next") && kept > 0 && kept < 16;
        node_unref(s);
    }
    assert_int_equal(torn, cache_crash_count(n) - 2);
    assert_int_equal(parts, 1);
    node_unref(n);
}

SIM_TEST(partly_written_units_are_told_by_their_content)
{
    struct node *n = open_cache((struct cache_conf){0});

    put(n, 0, 512, 5, 0);
    assert_int_equal(node_flush(n), 0);
    put(n, 100, 100, 5, 0); /* what is there already */
    put(n, 300, 100, 6, 0);
    cache_powercut(n);
    assert_int_equal(cache_crash_count(n), 2);
    node_unref(n);
}

SIM_TEST(there_are_no_more_states_than_asked_for)
{
    struct node *n = open_cache((struct cache_conf){.states = 20});

    for (unsigned i = 0; i < 200; i++)
        put(n, i * 512, 512, (uint8_t)i + 1, 0);
    cache_powercut(n);
    assert_int_equal(cache_crash_count(n), 20);
    node_unref(n);
}

/* --- Races --- */

static struct node *racer;
static int flushed;

static void flush_run(void *arg)
{
    flushed = node_flush(racer);
}

SIM_TEST(a_cut_in_the_middle_of_a_flush_leaves_legal_states)
{
    static struct probe p;
    struct cache_conf conf = {.on = true, .size = MiB, .unit = 512, .states = 1000};
    struct node *leaf = probe_open(&p, &probe_driver);
    struct node *n = racer = cache_open(leaf, &conf, NULL);

    for (unsigned i = 0; i < 4; i++)
        put(n, i * 4096, 512, (uint8_t)(i + 1), 0);
    p.delay_ns = NS_PER_MS;
    flushed = 1;
    assert_true(co_start(flush_run, NULL));
    co_sleep_until(clock_ns() + NS_PER_MS * 3 / 2); /* one is written, one on its way */
    cache_powercut(n);
    assert_int_equal(flushed, -ESHUTDOWN);
    assert_int_equal(cache_crash_count(n), 4); /* two are left */
    for (unsigned i = 0; i < 4; i++) {
        struct node *s = cache_crash_open(n, i, NULL);

        expect(s, 0, 512, 1);
        expect(s, 4096, 512, 2);
        node_unref(s);
    }
    p.delay_ns = 0;
    node_unref(n);
}

static void read_run(void *arg)
{
    expect(racer, 0, 512, 9);
    *(bool *)arg = true;
}

/* The medium has been read when the flush writes to it, and the answer comes after that. */
static bool slow;

static int slow_submit(struct node *n, struct req *r)
{
    int ret = node_submit(n->child[0], r);

    if (r->op == REQ_READ && slow)
        co_sleep_until(clock_ns() + NS_PER_MS);
    return ret;
}

static const struct driver slow_driver = {.name = "slow", .is_filter = true, .submit = slow_submit};

SIM_TEST(a_read_during_a_flush_finds_what_was_written)
{
    struct cache_conf conf = {.on = true, .size = MiB, .unit = 512, .states = 1000};
    struct node *medium_ = node_new(&slow_driver, "slow", NULL);
    bool done = false;

    assert_true(node_attach(medium_, mem_open(DISK, NULL), NULL));
    racer = cache_open(medium_, &conf, NULL);
    put(racer, 0, 512, 9, 0);
    slow = true;
    assert_true(co_start(read_run, &done));
    assert_false(done);
    slow = false;
    assert_int_equal(node_flush(racer), 0);
    co_sleep_until(clock_ns() + 5 * NS_PER_MS);
    assert_true(done);
    node_unref(racer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_are_found_at_once_and_are_on_the_medium_after_a_flush),
        cmocka_unit_test(a_flush_that_is_ignored_succeeds_and_does_nothing),
        cmocka_unit_test(an_orderly_end_writes_everything),
        cmocka_unit_test(fua_is_on_the_medium_at_once_and_other_writes_are_not),
        cmocka_unit_test(a_full_cache_destages_the_oldest),
        cmocka_unit_test(what_is_long_goes_past_after_what_came_before),
        cmocka_unit_test(after_the_cut_nothing_goes_any_more),
        cmocka_unit_test(what_is_dropped_is_gone),
        cmocka_unit_test(crash_states_are_private_and_leave_the_medium_alone),
        cmocka_unit_test(every_state_is_legal_and_told_once),
        cmocka_unit_test(of_three_writes_all_subsets_are_there),
        cmocka_unit_test(a_long_write_tears_at_its_units),
        cmocka_unit_test(partly_written_units_are_told_by_their_content),
        cmocka_unit_test(there_are_no_more_states_than_asked_for),
        cmocka_unit_test(a_cut_in_the_middle_of_a_flush_leaves_legal_states),
        cmocka_unit_test(a_read_during_a_flush_finds_what_was_written),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
