/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A thousand faults behave as if each were asked in turn; and delays have the shapes they promise.
 */
#include "tests/unit/faults/fault_test.h"

#include "faults/live.h"

#define MANY 300

/* The same faults twice: in one engine together, where they are indexed, and each in one of its
 * own, asked in order until one ends it. */
static struct rules *together, *alone[MANY];

static void random_option(struct rng *rng, unsigned i, char *buf, size_t len)
{
    struct out o = {buf, len, 0};
    static const char *const ops[] = {"read", "write", "read,write", "write,flush"};

    out_put(&o, "id=f%u op=%s action=%s", i, ops[rng_below(rng, 4)],
            rng_below(rng, 4) ? "error" : "log");
    if (rng_below(rng, 4))
        out_put(&o, " range=%u+%u", (unsigned)rng_below(rng, 64) * 512,
                (unsigned)rng_below(rng, 10) * 512 + 1);
    if (rng_below(rng, 2))
        out_put(&o, " event=%s", rng_below(rng, 2) ? "l2_load" : "write_aio,l1_update");
    if (rng_below(rng, 3) == 0)
        out_put(&o, " state=%u", (unsigned)rng_below(rng, 3));
    if (rng_below(rng, 3) == 0)
        out_put(&o, " minlen=%u", (unsigned)rng_below(rng, 8) * 512);
    if (rng_below(rng, 4) == 0)
        out_put(&o, " conn=%u", (unsigned)rng_below(rng, 12) + 1);
    if (rng_below(rng, 4) == 0)
        out_put(&o, " client=%u*", (unsigned)rng_below(rng, 3));
    if (rng_below(rng, 4) == 0)
        out_put(&o, " export=%s", rng_below(rng, 2) ? "a*" : "b");
    if (rng_below(rng, 4) == 0)
        out_put(&o, " every=3");
    if (rng_below(rng, 6) == 0)
        out_put(&o, " prob=30%%");
}

static uint64_t ask_alone(unsigned n, const struct fault_req *q)
{
    for (unsigned i = 0; i < n; i++) {
        struct fault_decision d = ask_req(alone[i], *q);

        if (d.deed != FAULT_PASS)
            return i + 1; /* its number in the other */
    }
    return 0;
}

/* What stands behind the first colon and blank, and tells the counters. */
static const char *counters(struct rules *r, unsigned i, char *line, size_t len)
{
    assert_true(rules_describe(r, i, line, len));
    return strstr(line, ": seen");
}

static void set_states(unsigned n, uint32_t state)
{
    rules_set_state(together, state);
    for (unsigned i = 0; i < n; i++)
        rules_set_state(alone[i], state);
}

static void play(uint64_t seed, unsigned n)
{
    static const char *const clients[] = {"0x", "1y", "2z"}, *const exports[] = {"ab", "b"};
    struct rng rng;
    char text[200], a[512], b[512];

    rng_seed(&rng, seed);
    together = rules_new(&test_names);
    rules_set_seed(together, 1);
    for (unsigned i = 0; i < n; i++) {
        random_option(&rng, i, text, sizeof(text));
        alone[i] = rules_new(&test_names);
        rules_set_seed(alone[i], 1);
        assert_true(rules_load_option(together, text, i + 1, NULL));
        assert_true(rules_load_option(alone[i], text, i + 1, NULL));
    }
    for (unsigned k = 0; k < 2000; k++) {
        static const enum fault_io ops[] = {FAULT_READ, FAULT_WRITE, FAULT_FLUSH};
        struct fault_req q = {.op = ops[rng_below(&rng, 3)]};

        if (q.op != FAULT_FLUSH) {
            q.off = rng_below(&rng, 64) * 512;
            q.len = (rng_below(&rng, 8) + 1) * 512;
        }
        q.events = rng_below(&rng, 2) ? UINT64_C(1) << EV_L2_LOAD : UINT64_C(1) << EV_L1_UPDATE;
        q.conn = rng_below(&rng, 13); /* 0: nobody knows */
        q.client = q.conn ? clients[q.conn % 3] : NULL;
        q.export = q.conn ? exports[q.conn % 2] : NULL;
        if (k % 50 == 0)
            set_states(n, (uint32_t)rng_below(&rng, 3) + 1);
        assert_int_equal(ask_req(together, q).id, ask_alone(n, &q));
    }
    for (unsigned i = 0; i < n; i++) {
        assert_string_equal(counters(together, i, a, sizeof(a)),
                            counters(alone[i], 0, b, sizeof(b)));
        rules_free(alone[i]);
    }
    rules_free(together);
}

static void many_decide_as_each_would_in_turn(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        play(seed, 3);
        play(seed, 20);
        play(seed, MANY);
    }
}

static void without_memory_for_an_index_they_are_walked(void **state)
{
    for (uint64_t nth = 1; nth < 20; nth++) {
        struct rules *r = rules_new(&test_names);

        for (unsigned i = 0; i < 20; i++) {
            char text[64];

            snprintf(text, sizeof(text), "op=read range=%u+1 action=error", i);
            assert_true(rules_load_option(r, text, i + 1, NULL));
        }
        mem_fail_nth(nth, 0);
        assert_int_equal(ask(r, FAULT_READ, 19, 1).deed, FAULT_FAIL);
        mem_fail_nth(0, 0);
        assert_int_equal(ask(r, FAULT_READ, 20, 1).deed, FAULT_PASS);
        rules_free(r);
    }
}

static uint64_t delay_at(struct rules *r, uint64_t off, uint64_t at_ms)
{
    return ask_req(r, (struct fault_req){.op = FAULT_READ, .off = off, .len = 1, .at_ms = at_ms})
               .delay_ns /
           1000;
}

static void delays_have_their_shapes(void **state)
{
    struct rules *r = FAULTS("op=read window=10s..20s action=delay ms=100..300 shape=ramp");
    unsigned below = 0, far = 0;

    assert_int_equal(delay_at(r, 0, 9999), 0);
    assert_int_equal(delay_at(r, 0, 10000), 100000);
    assert_int_equal(delay_at(r, 0, 15000), 200000);
    assert_int_equal(delay_at(r, 0, 19999), 299980);
    assert_int_equal(delay_at(r, 0, 20000), 0);
    rules_free(r);
    r = FAULTS("op=read action=delay ms=10..200 shape=lognormal");
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t us = delay_at(r, i, 0);

        below += us <= 10000;
        far += us > 200000;
    }
    assert_in_range(below, 4800, 5200);
    assert_in_range(far, 60, 140);
    rules_free(r);
    r = FAULTS("op=read action=delay ms=7 shape=fixed");
    assert_int_equal(delay_at(r, 0, 0), 7000);
    rules_free(r);
}

static void sink(enum log_level level, const char *line, void *arg)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_decide_as_each_would_in_turn),
        cmocka_unit_test(without_memory_for_an_index_they_are_walked),
        cmocka_unit_test(delays_have_their_shapes),
    };
    log_set_sink(sink, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
