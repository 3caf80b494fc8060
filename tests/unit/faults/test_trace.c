/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Traces survive the way to bytes and back, and bytes that are none do no harm.
 */
#include "tests/unit/faults/fault_test.h"

#include "faults/trace.h"

static struct trace_record random_record(struct rng *rng)
{
    struct trace_record t = {.type = (enum trace_type)(1 + rng_below(rng, TRACE_TYPES - 1))};

    if (t.type == TRACE_EVENT)
        t.event = (unsigned)rng_below(rng, EV_COUNT);
    if (t.type == TRACE_MARK)
        memset(t.mark, 'm', rng_below(rng, sizeof(t.mark)));
    if (t.type != TRACE_REQUEST)
        return t;
    t.layer = (enum fault_layer)rng_below(rng, FAULT_LAYERS);
    t.op = (enum fault_io)rng_below(rng, FAULT_IO_COUNT);
    t.kind = (unsigned)rng_below(rng, TRACE_KINDS);
    t.fua = rng_below(rng, 2);
    t.off = rng_u64(rng) >> rng_below(rng, 64);
    t.len = rng_u64(rng) >> rng_below(rng, 64);
    t.conn = rng_u64(rng) >> rng_below(rng, 64);
    t.deed = (enum fault_deed)rng_below(rng, FAULT_REPLY + 1);
    t.rule = rng_u64(rng) >> rng_below(rng, 64);
    t.error = (unsigned)rng_below(rng, 4096);
    t.delay_ns = rng_u64(rng) >> rng_below(rng, 64);
    return t;
}

static void records_come_back_as_they_were(void **state)
{
    uint8_t buf[TRACE_RECORD_MAX];
    struct trace_record t, back;
    struct rng rng;
    (void)state;

    rng_seed(&rng, 1);
    for (unsigned i = 0; i < 20000; i++) {
        t = random_record(&rng);
        size_t n = trace_encode(&t, buf);

        assert_in_range(n, 1, TRACE_RECORD_MAX);
        assert_int_equal(trace_decode(buf, n, &test_names, &back), n);
        assert_memory_equal(&t, &back, sizeof(t));
        for (size_t k = 0; k < n; k++) /* none of its beginnings is one */
            assert_int_equal(trace_decode(buf, k, &test_names, &back), 0);
    }
}

static void what_is_out_of_range_is_none(void **state)
{
    static const uint8_t bad[][12] = {{0},
                                      {TRACE_TYPES},
                                      {0xff, 0xff},
                                      {TRACE_EVENT, EV_COUNT},
                                      {TRACE_EVENT, 0x80, 0x80, 0x01},
                                      {TRACE_REQUEST, FAULT_LAYERS},
                                      {TRACE_REQUEST, 0, FAULT_IO_COUNT * 2},
                                      {TRACE_REQUEST, 0, 0, TRACE_KINDS},
                                      {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, FAULT_REPLY + 1},
                                      {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x20},
                                      {TRACE_MARK, 64},
                                      {TRACE_MARK, 30}};
    struct trace_record t;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (trace_decode(bad[i], sizeof(bad[i]), &test_names, &t) != 0)
            fail_msg("number %zu is taken for a record", i);
}

struct heard {
    unsigned n;
    struct trace_record last;
};

static void hear(void *arg, const struct trace_record *t)
{
    struct heard *h = arg;

    h->n++;
    h->last = *t;
}

static void all_that_an_engine_meets_is_recorded_once(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"read_aio\"\niotype = \"read\"\n"
                                      "[fault]\nop = write\naction = error\nerrno = ENOSPC\n");
    struct heard h = {0};
    (void)state;

    assert_false(rules_mark(r, "nobody"));
    assert_false(rules_watches(r, FAULT_HOST, FAULT_BLOCK_STATUS));
    rules_on_trace(r, hear, &h);
    assert_true(rules_watches(r, FAULT_HOST, FAULT_BLOCK_STATUS));
    assert_true(rules_listens(r, EV_WRITE_AIO));
    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(h.last.type, TRACE_EVENT);
    assert_int_equal(h.last.event, EV_READ_AIO);
    assert_int_equal(rules_check(r, FAULT_READ, 512, 1024).error, EIO);
    assert_int_equal(h.n, 2);
    assert_int_equal(h.last.deed, FAULT_FAIL);
    assert_int_equal(h.last.rule, 1);
    assert_int_equal(h.last.error, EIO);
    assert_int_equal(h.last.off, 512);
    assert_int_equal(rules_check(r, FAULT_WRITE, 0, 512).error, 0);
    assert_int_equal(h.n, 2); /* the faults decide */
    ask(r, FAULT_WRITE, 0, 512);
    assert_int_equal(h.n, 3);
    assert_int_equal(h.last.error, ENOSPC);
    assert_int_equal(h.last.rule, 2);
    ask(r, FAULT_FLUSH, 0, 0);
    assert_int_equal(h.n, 4);
    assert_int_equal(h.last.deed, FAULT_PASS);
    assert_true(rules_mark(r, "here"));
    assert_string_equal(h.last.mark, "here");
    rules_on_trace(r, NULL, NULL);
    ask(r, FAULT_FLUSH, 0, 0);
    assert_int_equal(h.n, 5);
    rules_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_as_they_were),
        cmocka_unit_test(what_is_out_of_range_is_none),
        cmocka_unit_test(all_that_an_engine_meets_is_recorded_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
