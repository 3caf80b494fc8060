/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Selectors and draws: which requests a fault strikes, what its counts are counts of, and that
 * nothing but seed, fault and request decides a draw.
 */
#include "tests/unit/faults/fault_test.h"

static bool hit(struct rules *r, enum fault_io op, uint64_t off, uint64_t len)
{
    return ask(r, op, off, len).deed == FAULT_FAIL;
}

static void op_and_layer_choose_and_the_rest_is_not_watched(void **state)
{
    struct rules *r = FAULTS("op=read,flush action=error", "layer=guest op=trim action=error");
    (void)state;

    for (unsigned io = 0; io < FAULT_IO_COUNT; io++) {
        bool host = io == FAULT_READ || io == FAULT_FLUSH;

        assert_int_equal(rules_watches(r, FAULT_HOST, io), host);
        assert_int_equal(rules_watches(r, FAULT_GUEST, io), io == FAULT_DISCARD);
        assert_int_equal(hit(r, io, 0, io == FAULT_FLUSH ? 0 : 512), host);
    }
    assert_int_equal(ask_req(r, (struct fault_req){FAULT_GUEST, FAULT_DISCARD, .len = 1}).deed,
                     FAULT_FAIL);
    assert_true(rules_has_layer(r, FAULT_GUEST));
    rules_free(r);
}

static void an_armed_blkdebug_rule_is_watched_too(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"read_aio\"\n");
    (void)state;

    assert_false(rules_watches(r, FAULT_HOST, FAULT_READ));
    rules_event(r, EV_READ_AIO, NULL);
    assert_true(rules_watches(r, FAULT_HOST, FAULT_READ));
    assert_false(rules_watches(r, FAULT_GUEST, FAULT_READ));
    rules_free(r);
}

static void range_is_touched_at_its_first_and_last_byte(void **state)
{
    struct rules *r = FAULTS("op=read,flush range=1M+4k action=error");
    (void)state;

    assert_false(hit(r, FAULT_READ, 1 * MiB - 512, 512));
    assert_true(hit(r, FAULT_READ, 1 * MiB - 512, 513));
    assert_true(hit(r, FAULT_READ, 1 * MiB + 4095, 1));
    assert_false(hit(r, FAULT_READ, 1 * MiB + 4096, 512));
    assert_true(hit(r, FAULT_READ, 0, 8 * MiB));
    assert_false(hit(r, FAULT_FLUSH, 0, 0));
    rules_free(r);
}

static void length_kind_and_fua_must_fit(void **state)
{
    struct rules *r = FAULTS("op=read minlen=4k action=error", "kind=l2,refblock action=error",
                             "layer=guest fua=on action=error",
                             "layer=guest fua=off op=zero "
                             "action=error");
    struct fault_req w = {.op = FAULT_WRITE, .len = 512};
    (void)state;

    assert_false(hit(r, FAULT_READ, 0, 4095));
    assert_true(hit(r, FAULT_READ, 0, 4096));
    for (w.kind = 0; w.kind < 6; w.kind++)
        assert_int_equal(ask_req(r, w).deed == FAULT_FAIL, w.kind == 3 || w.kind == 5);
    w = (struct fault_req){.layer = FAULT_GUEST, .op = FAULT_WRITE, .len = 512};
    assert_int_equal(ask_req(r, w).deed, FAULT_PASS);
    w.fua = true;
    assert_int_equal(ask_req(r, w).deed, FAULT_FAIL);
    w.op = FAULT_WRITE_ZEROES; /* fua=on is for writes of zeros as well, but not by default */
    assert_int_equal(ask_req(r, w).deed, FAULT_FAIL);
    w.fua = false;
    assert_int_equal(ask_req(r, w).deed, FAULT_FAIL);
    rules_free(r);
}

/* The pattern of n reads: "x" struck, "." passed. */
static void expect_pattern(const char *option, const char *pattern)
{
    struct rules *r = FAULTS(option);

    for (size_t i = 0; pattern[i]; i++)
        if (hit(r, FAULT_READ, 0, 512) != (pattern[i] == 'x'))
            fail_msg("%s: request %zu", option, i + 1);
    rules_free(r);
}

static void counts_strike_when_they_say(void **state)
{
    (void)state;
    expect_pattern("op=read action=error", "xxxx");
    expect_pattern("op=read action=error nth=3", "..x...");
    expect_pattern("op=read action=error every=3", "..x..x..x");
    expect_pattern("op=read action=error nth=2 every=3", ".x..x..x");
    expect_pattern("op=read action=error limit=2", "xx...");
    expect_pattern("op=read action=error once=on", "x....");
    expect_pattern("op=read action=error every=2 limit=2", ".x.x....");
    expect_pattern("op=read action=error prob=100%", "xxx");
}

static void only_what_matches_is_counted(void **state)
{
    struct rules *r = FAULTS("op=read range=0+512 minlen=512 nth=2 action=error");
    (void)state;

    assert_false(hit(r, FAULT_READ, 0, 512));
    assert_false(hit(r, FAULT_WRITE, 0, 512));
    assert_false(hit(r, FAULT_READ, 512, 512));
    assert_false(hit(r, FAULT_READ, 0, 511));
    assert_true(hit(r, FAULT_READ, 0, 512));
    rules_free(r);
}

static void a_limit_counts_strikes_and_not_chances(void **state)
{
    struct rules *r = FAULTS("op=read prob=10% limit=3 action=error");
    unsigned n = 0;
    (void)state;

    for (unsigned i = 0; i < 1000; i++)
        n += hit(r, FAULT_READ, i * 512, 512);
    assert_int_equal(n, 3);
    rules_free(r);
}

static void states_are_shared_with_blkdebug_and_seen_as_they_were(void **state)
{
    struct rules *r = rules_of(SET_STATE "event = \"read_aio\"\nnew_state = \"7\"\n"
                                         "[fault]\nstate=7\nop=read\naction=error\n"
                                         "[fault]\nstate=1\nop=write\naction=state\nnew_state=7\n"
                                         "[fault]\nstate=7\nop=write\naction=error\n");
    (void)state;

    assert_false(hit(r, FAULT_READ, 0, 1));
    assert_false(hit(r, FAULT_WRITE, 0, 1)); /* it sets 7 but was in 1 */
    assert_int_equal(rules_state(r), 7);
    assert_true(hit(r, FAULT_WRITE, 0, 1));
    assert_true(hit(r, FAULT_READ, 0, 1));
    rules_free(r);
    r = rules_of(SET_STATE "event = \"read_aio\"\nnew_state = \"7\"\n"
                           "[fault]\nstate=7\nop=read\naction=error\n");
    rules_event(r, EV_READ_AIO, NULL);
    assert_true(hit(r, FAULT_READ, 0, 1));
    rules_free(r);
}

static void modifiers_go_on_and_the_first_other_action_ends_it(void **state)
{
    struct rules *r = FAULTS("op=read action=delay ms=5", "op=read action=delay ms=7",
                             "op=read action=error errno=ENOSPC", "op=read action=error",
                             "op=read action=delay ms=100");
    struct fault_decision d = ask(r, FAULT_READ, 0, 1);
    char line[300];
    (void)state;

    assert_int_equal(d.error, ENOSPC);
    assert_int_equal(d.delay_ns, 12000000);
    assert_string_equal(d.by, "--fault 3");
    assert_true(rules_describe(r, 3, line, sizeof(line)));
    assert_string_equal(line, "--fault 4 fault layer=host op=read action=error errno=EIO: seen 0, "
                              "matched 0, fired 0");
    rules_free(r);
}

static void space_ends_when_the_quota_is_written(void **state)
{
    struct rules *r = FAULTS("range=0+1M action=nospace after=8k");
    (void)state;

    assert_false(hit(r, FAULT_WRITE, 0, 4096));
    assert_false(hit(r, FAULT_WRITE, 2 * MiB, 1 * MiB)); /* elsewhere: takes nothing of it */
    assert_true(hit(r, FAULT_WRITE, 0, 4097));
    assert_false(hit(r, FAULT_WRITE_ZEROES, 0, 4096));
    assert_int_equal(ask(r, FAULT_WRITE, 0, 1).error, ENOSPC);
    rules_free(r);
}

/* --- Draws --- */

#define N 400

/* Bit i: request i of a shuffled sequence over N/4 ranges, each met 4 times, was struck. The order
 * of the sequence is `order`'s; the result is by request, so the order must not show in it. */
static void draw_all(struct rules *r, uint64_t order, bool struck[N])
{
    unsigned perm[N], met[N / 4] = {0};
    struct rng rng;

    rng_seed(&rng, order);
    for (unsigned i = 0; i < N; i++) {
        unsigned k = (unsigned)rng_below(&rng, i + 1);

        perm[i] = perm[k];
        perm[k] = i;
    }
    for (unsigned i = 0; i < N; i++) {
        unsigned range = perm[i] / 4;

        /* Whichever of the four comes first is the first. */
        struck[range * 4 + met[range]++] = hit(r, FAULT_READ, range * 4096, 4096);
    }
}

#define DRAWS "op=read prob=30% action=error"

static void the_same_seed_decides_the_same_in_any_order(void **state)
{
    bool a[N], b[N];
    unsigned n = 0;
    (void)state;

    for (uint64_t order = 1; order <= 5; order++) {
        struct rules *r = FAULTS(DRAWS);

        draw_all(r, order, order == 1 ? a : b);
        rules_free(r);
        if (order > 1 && memcmp(a, b, sizeof(a)) != 0)
            fail_msg("order %llu decides otherwise", (unsigned long long)order);
    }
    for (unsigned i = 0; i < N; i++)
        n += a[i];
    assert_in_range(n, N * 20 / 100, N * 40 / 100);
}

static void another_seed_decides_otherwise(void **state)
{
    struct rules *r = FAULTS(DRAWS), *other = FAULTS(DRAWS);
    bool a[N], b[N];
    (void)state;

    rules_set_seed(other, 2);
    draw_all(r, 1, a);
    draw_all(other, 1, b);
    assert_memory_not_equal(a, b, sizeof(a));
    rules_free(r);
    rules_free(other);
}

static void unrelated_faults_change_nothing(void **state)
{
    struct rules *alone = FAULTS(DRAWS);
    struct rules *among =
        FAULTS("op=write prob=50% action=error", "range=1G+1 action=error",
               "op=read prob=50% action=delay ms=1..9", DRAWS, "op=flush action=lost");
    struct rules *named = FAULTS("id=me " DRAWS),
                 *moved = FAULTS("op=trim action=lost", "id=me " DRAWS);
    bool a[N], b[N];
    (void)state;

    draw_all(alone, 1, a);
    draw_all(among, 2, b);
    assert_memory_equal(a, b, sizeof(a));
    draw_all(named, 1, b);
    assert_memory_not_equal(a, b, sizeof(a)); /* a name is another identity */
    draw_all(moved, 1, a);
    assert_memory_equal(a, b, sizeof(a));
    rules_free(alone);
    rules_free(among);
    rules_free(named);
    rules_free(moved);
}

static void the_same_fault_written_twice_draws_twice(void **state)
{
    struct rules *once = FAULTS(DRAWS), *twice = FAULTS(DRAWS, DRAWS);
    bool a[N], b[N];
    unsigned one = 0, two = 0;
    (void)state;

    draw_all(once, 1, a);
    draw_all(twice, 1, b);
    for (unsigned i = 0; i < N; i++) {
        one += a[i];
        two += b[i];
    }
    assert_true(two > one + N / 10);
    rules_free(once);
    rules_free(twice);
}

static void a_request_that_comes_again_draws_again(void **state)
{
    struct rules *r = FAULTS(DRAWS);
    unsigned n = 0;
    (void)state;

    for (unsigned i = 0; i < N; i++)
        n += hit(r, FAULT_READ, 0, 512);
    assert_in_range(n, N * 20 / 100, N * 40 / 100);
    rules_free(r);
}

static void draws_stay_bounded_and_survive_without_memory(void **state)
{
    struct rules *r = FAULTS("op=read prob=50% action=error");
    unsigned n = 0;
    (void)state;

    mem_fail_nth(1, 1);
    for (uint64_t i = 0; i < 1000; i++)
        n += hit(r, FAULT_READ, i * 512, 512);
    mem_fail_nth(0, 0);
    assert_in_range(n, 400, 600);
    for (uint64_t i = 0; i < 100000; i++) /* more than the table holds */
        n += hit(r, FAULT_READ, i * 512, 512);
    assert_in_range(n, 48000, 53000);
    rules_free(r);
}

static void delays_are_spread_over_their_range(void **state)
{
    struct rules *r = FAULTS("op=read action=delay ms=10..20");
    uint64_t lo = UINT64_MAX, hi = 0;
    (void)state;

    for (uint64_t i = 0; i < 2000; i++) {
        uint64_t ns = ask(r, FAULT_READ, i * 512, 512).delay_ns;

        lo = min_u64(lo, ns);
        hi = max_u64(hi, ns);
    }
    assert_in_range(lo, 10000000, 10200000);
    assert_in_range(hi, 19800000, 20000000);
    rules_free(r);
}

static void the_users_seed_stands_before_the_files(void **state)
{
    static const char text[] = "[engine]\nseed=7\n";
    struct rules *r = rules_new(&test_names), *other = rules_new(&test_names);
    (void)state;

    assert_int_not_equal(rules_seed(r), rules_seed(other));
    assert_true(rules_load(r, "f", text, strlen(text), NULL));
    assert_int_equal(rules_seed(r), 7);
    rules_set_seed(r, 9);
    assert_true(rules_load(r, "f", text, strlen(text), NULL));
    assert_int_equal(rules_seed(r), 9);
    rules_free(r);
    rules_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(op_and_layer_choose_and_the_rest_is_not_watched),
        cmocka_unit_test(an_armed_blkdebug_rule_is_watched_too),
        cmocka_unit_test(range_is_touched_at_its_first_and_last_byte),
        cmocka_unit_test(length_kind_and_fua_must_fit),
        cmocka_unit_test(counts_strike_when_they_say),
        cmocka_unit_test(only_what_matches_is_counted),
        cmocka_unit_test(a_limit_counts_strikes_and_not_chances),
        cmocka_unit_test(states_are_shared_with_blkdebug_and_seen_as_they_were),
        cmocka_unit_test(modifiers_go_on_and_the_first_other_action_ends_it),
        cmocka_unit_test(space_ends_when_the_quota_is_written),
        cmocka_unit_test(the_same_seed_decides_the_same_in_any_order),
        cmocka_unit_test(another_seed_decides_otherwise),
        cmocka_unit_test(unrelated_faults_change_nothing),
        cmocka_unit_test(the_same_fault_written_twice_draws_twice),
        cmocka_unit_test(a_request_that_comes_again_draws_again),
        cmocka_unit_test(draws_stay_bounded_and_survive_without_memory),
        cmocka_unit_test(delays_are_spread_over_their_range),
        cmocka_unit_test(the_users_seed_stands_before_the_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
