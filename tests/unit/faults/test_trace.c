/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Traces survive the way to bytes and back, and bytes that are none do no harm.
 */
#include "tests/unit/faults/fault_test.h"

#include "faults/fault_priv.h"
#include "faults/trace.h"

static uint64_t any(struct rng *rng)
{
    return rng_u64(rng) >> rng_below(rng, 64);
}

static void random_setup(struct rng *rng, struct trace_setup *s)
{
    if (rng_below(rng, 2))
        s->cache = (struct cache_conf){
            .on = true,
            .layer = (enum fault_layer)rng_below(rng, 2),
            .size = CACHE_SIZE_MIN + rng_below(rng, CACHE_SIZE_MAX - CACHE_SIZE_MIN + 1),
            .unit = rng_below(rng, 2) ? 512 : 4096,
            .destage = (enum cache_destage)rng_below(rng, DESTAGE_COUNT),
            .ignore_flush = rng_below(rng, 2),
            .states = 1 + (unsigned)rng_below(rng, CACHE_STATES_MAX),
        };
    s->limits.align = rng_below(rng, INT32_MAX);
    s->limits.max_transfer = rng_below(rng, INT32_MAX);
    s->limits.max_discard = rng_below(rng, INT32_MAX);
}

/* A decision that can be, about the disk. */
static void random_decision(struct rng *rng, const struct trace_record *t, struct fault_decision *d)
{
    static const enum fault_deed on_write[] = {FAULT_FAIL,    FAULT_HANG, FAULT_SHORT,
                                               FAULT_TORN,    FAULT_LOST, FAULT_MISDIRECT,
                                               FAULT_CORRUPT, FAULT_CUT,  FAULT_PASS};

    if (rng_below(rng, 3) == 0)
        d->delay_ns = 1 + (any(rng) >> 4);
    d->keep_old = rng_below(rng, 2);
    if (t->op == FAULT_WRITE)
        d->deed = on_write[rng_below(rng, ARRAY_LEN(on_write))];
    else if (t->op == FAULT_READ)
        d->deed = rng_below(rng, 2) ? FAULT_OLD : FAULT_SHORT;
    if (d->deed == FAULT_PASS)
        return;
    d->id = any(rng);
    d->on_disk = rng_below(rng, 2);
    d->powercut = rng_below(rng, 2);
    d->turn = rng_below(rng, 2);
    d->error = 1 + (int)rng_below(rng, 4095);
    if (d->deed == FAULT_SHORT)
        d->done = t->len ? any(rng) % t->len : 0;
    if (d->deed == FAULT_HANG)
        d->hang_ms = 1 + (any(rng) >> 24);
    if (d->deed == FAULT_TORN)
        d->tear = (struct fault_tear){4096, (uint8_t)rng_below(rng, KEEP_COUNT), any(rng), 0};
    if (d->tear.keep == KEEP_MASK)
        d->tear.mask = any(rng);
    if (d->deed == FAULT_MISDIRECT)
        d->delta = (int64_t)any(rng) / (rng_below(rng, 2) ? 1 : -1);
    d->swap = d->deed == FAULT_MISDIRECT && rng_below(rng, 2);
    if (d->delta == INT64_MIN)
        d->delta = 1;
    if (d->deed == FAULT_CORRUPT || d->deed == FAULT_OLD)
        d->damage = (struct fault_damage){
            (uint8_t)((d->deed == FAULT_OLD ? HOW_STALE : HOW_FLIP) + rng_below(rng, 2)),
            (uint8_t)any(rng),
            (unsigned)rng_below(rng, BITS_MAX),
            any(rng) >> 2,
            any(rng) >> 2,
            any(rng)};
}

static struct trace_record random_record(struct rng *rng)
{
    struct trace_record t;

    memset(&t, 0, sizeof(t)); /* they are compared as bytes */
    t.type = (enum trace_type)(1 + rng_below(rng, TRACE_TYPES - 1));
    if (t.type == TRACE_EVENT)
        t.event = (unsigned)rng_below(rng, EV_COUNT);
    if (t.type == TRACE_MARK)
        memset(t.mark, 'm', rng_below(rng, sizeof(t.mark)));
    if (t.type == TRACE_SETUP)
        random_setup(rng, &t.setup);
    if (t.type == TRACE_END)
        t.sum = rng_u64(rng);
    if (t.type != TRACE_REQUEST)
        return t;
    t.layer = (enum fault_layer)rng_below(rng, FAULT_WIRE);
    t.op = (enum fault_io)rng_below(rng, FAULT_IO_COUNT);
    t.kind = (unsigned)rng_below(rng, TRACE_KINDS);
    t.fua = rng_below(rng, 2);
    t.off = any(rng) >> 1;
    t.len = any(rng) >> 1;
    t.conn = any(rng);
    random_decision(rng, &t, &t.what);
    return t;
}

static void same_decision(const struct fault_decision *a, const struct fault_decision *b)
{
    assert_int_equal(a->deed, b->deed);
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->error, b->error);
    assert_int_equal(a->delay_ns, b->delay_ns);
    assert_int_equal(a->on_disk, b->on_disk);
    assert_int_equal(a->powercut, b->powercut);
    assert_int_equal(a->turn, b->turn);
    assert_int_equal(a->keep_old, b->keep_old);
    assert_int_equal(a->done, b->done);
    assert_int_equal(a->delta, b->delta);
    assert_int_equal(a->swap, b->swap);
    assert_int_equal(a->hang_ms, b->hang_ms);
    assert_int_equal(a->tear.unit, b->tear.unit);
    assert_int_equal(a->tear.keep, b->tear.keep);
    assert_int_equal(a->tear.draw, b->tear.draw);
    assert_int_equal(a->tear.mask, b->tear.mask);
    assert_int_equal(a->damage.how, b->damage.how);
    assert_int_equal(a->damage.byte, b->damage.byte);
    assert_int_equal(a->damage.bits, b->damage.bits);
    assert_int_equal(a->damage.off, b->damage.off);
    assert_int_equal(a->damage.len, b->damage.len);
    assert_int_equal(a->damage.draw, b->damage.draw);
}

static void same_record(const struct trace_record *a, const struct trace_record *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->event, b->event);
    assert_int_equal(a->layer, b->layer);
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->fua, b->fua);
    assert_int_equal(a->off, b->off);
    assert_int_equal(a->len, b->len);
    assert_int_equal(a->conn, b->conn);
    assert_string_equal(a->mark, b->mark);
    assert_int_equal(a->sum, b->sum);
    assert_int_equal(a->setup.cache.on, b->setup.cache.on);
    assert_int_equal(a->setup.cache.layer, b->setup.cache.layer);
    assert_int_equal(a->setup.cache.size, b->setup.cache.size);
    assert_int_equal(a->setup.cache.unit, b->setup.cache.unit);
    assert_int_equal(a->setup.cache.destage, b->setup.cache.destage);
    assert_int_equal(a->setup.cache.ignore_flush, b->setup.cache.ignore_flush);
    assert_int_equal(a->setup.cache.states, b->setup.cache.states);
    assert_memory_equal(&a->setup.limits, &b->setup.limits, sizeof(a->setup.limits));
    same_decision(&a->what, &b->what);
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
        same_record(&t, &back);
        for (size_t k = 0; k < n; k++) /* none of its beginnings is one */
            assert_int_equal(trace_decode(buf, k, &test_names, &back), 0);
    }
}

static void what_is_out_of_range_is_none(void **state)
{
#define FAILS (FAULT_FAIL << 2)
    static const uint8_t bad[][16] = {
        {0},
        {TRACE_TYPES},
        {0xff, 0xff},
        {TRACE_EVENT, EV_COUNT},
        {TRACE_EVENT, 0x80, 0x80, 0x01},
        {TRACE_REQUEST, FAULT_LAYERS},
        {TRACE_REQUEST, 0, FAULT_IO_COUNT * 2},
        {TRACE_REQUEST, 0, 0, TRACE_KINDS},
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, (FAULT_REPLY + 1) << 2},
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, 1, 0}, /* delayed by nothing */
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, FAILS, 1, 0, 0x80, 0x20},
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, FAILS, 1, 0, 0},              /* fails with success */
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, FAULT_HANG << 2, 1, 0, 5, 0}, /* for no time */
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, FAILS, 1, 64, 5},
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, FAILS, 1, 32, 5}, /* swaps nothing */
        {TRACE_REQUEST, FAULT_WIRE, 0, 0, 0, 0, 0, FAILS, 1, 0, 5},
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, FAULT_DISCONNECT << 2, 1, 0, 0, 0},
        {TRACE_REQUEST, 0, 0, 0, 0, 0, 0, FAULT_TORN << 2, 1, 0, 0, 0},
        {TRACE_REQUEST, 0, 2, 0, 0, 8, 0, FAULT_TORN << 2, 1, 0, 0, 0, 0, 0}, /* a unit of 0 */
        {TRACE_REQUEST, 0, 0, 0, 0, 8, 0, FAULT_SHORT << 2, 1, 0, 5, 8},      /* all of it */
        {TRACE_REQUEST, 0, 0, 0, 0, 8, 0, FAULT_CORRUPT << 2, 1, 0, 0, HOW_STALE},
        {TRACE_REQUEST, 0, 2, 0, 0, 8, 0, FAULT_OLD << 2, 1, 0, 0, HOW_STALE},
        {TRACE_REQUEST, FAULT_WIRE, 0, 0, 0, 8, 0, FAULT_REPLY << 2, 1, 0, 0, WRONG_ERRNO},
        {TRACE_SETUP, 2},
        {TRACE_SETUP, 1, FAULT_WIRE},
        {TRACE_SETUP, 1, 0, 0x80, 0x80, 0x40, 0x80, 0x05, 0, 0, 1}, /* units of 640 */
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
    assert_int_equal(h.last.what.deed, FAULT_FAIL);
    assert_int_equal(h.last.what.id, 1);
    assert_int_equal(h.last.what.error, EIO);
    assert_int_equal(h.last.off, 512);
    assert_int_equal(rules_check(r, FAULT_WRITE, 0, 512).error, 0);
    assert_int_equal(h.n, 2); /* the faults decide */
    ask(r, FAULT_WRITE, 0, 512);
    assert_int_equal(h.n, 3);
    assert_int_equal(h.last.what.error, ENOSPC);
    assert_int_equal(h.last.what.id, 2);
    ask(r, FAULT_FLUSH, 0, 0);
    assert_int_equal(h.n, 4);
    assert_int_equal(h.last.what.deed, FAULT_PASS);
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
