/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A trace decides as the rules did that it was written under, in whatever order different requests
 * come; and what it does not have passes.
 */
#include "tests/unit/faults/fault_test.h"

#include <unistd.h>

#include "faults/replay.h"

struct tape { /* a trace in memory */
    uint8_t buf[1 << 20];
    size_t n;
};

static struct tape tape;

static void write_down(void *arg, const struct trace_record *t)
{
    (void)arg;
    assert_in_range(tape.n, 0, sizeof(tape.buf) - TRACE_RECORD_MAX);
    tape.n += trace_encode(t, tape.buf + tape.n);
}

static void record(struct rules *r)
{
    trace_header(tape.buf, rules_seed(r));
    tape.n = TRACE_HEADER_LEN;
    rules_on_trace(r, write_down, NULL);
}

static void finish(void)
{
    struct trace_record end = {.type = TRACE_END,
                               .sum = trace_sum(TRACE_SUM_FIRST, tape.buf, tape.n)};

    write_down(NULL, &end);
}

/* An engine that replays so many bytes of the tape; NULL: *errp. */
static struct rules *replay_of(size_t n, struct err **errp)
{
    char path[] = "/tmp/test-replay-XXXXXX";
    int fd = mkstemp(path);
    struct rules *r = rules_new(&test_names);
    struct fault_limits limits;
    bool ok;

    assert_true(fd >= 0 && write(fd, tape.buf, n) == (ssize_t)n);
    ok = rules_load_trace(r, path, &limits, errp);
    close(fd);
    unlink(path);
    if (ok)
        return r;
    assert_int_equal(rules_count(r), 0);
    rules_free(r);
    return NULL;
}

static struct rules *replay(void)
{
    struct err *e = NULL;
    struct rules *r = replay_of(tape.n, &e);

    if (!r)
        fail_msg("%s", err_msg(e));
    return r;
}

static struct replay_info info_of(const struct rules *r)
{
    struct replay_info i;

    assert_true(rules_replay_info(r, &i));
    return i;
}

static struct fault_req random_request(struct rng *rng)
{
    struct fault_req q = {
        .layer = (enum fault_layer)rng_below(rng, FAULT_WIRE),
        .op = (enum fault_io)rng_below(rng, FAULT_IO_COUNT),
        .conn = 1 + rng_below(rng, 3),
    };

    if (q.op == FAULT_FLUSH)
        return q;
    q.off = rng_below(rng, 8) * 4096;
    q.len = 4096 << rng_below(rng, 3);
    q.fua = q.op == FAULT_WRITE && q.layer == FAULT_GUEST && rng_below(rng, 2);
    q.kind = q.op == FAULT_WRITE && q.layer == FAULT_HOST ? (unsigned)rng_below(rng, 6) : 0;
    return q;
}

static bool alike(const struct fault_req *a, const struct fault_req *b)
{
    return a->layer == b->layer && a->op == b->op && a->off == b->off && a->len == b->len &&
           a->fua == b->fua && a->kind == b->kind && a->conn == b->conn;
}

static void same(const struct fault_decision *a, const struct fault_decision *b)
{
    assert_int_equal(a->deed, b->deed);
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->delay_ns, b->delay_ns);
    assert_int_equal(a->done, b->done);
    assert_int_equal(a->delta, b->delta);
    assert_int_equal(a->on_disk, b->on_disk);
    assert_int_equal(a->tear.draw, b->tear.draw);
    assert_int_equal(a->tear.mask, b->tear.mask);
    assert_int_equal(a->damage.draw, b->damage.draw);
    if (a->deed == FAULT_FAIL)
        assert_int_equal(a->error, b->error);
}

#define REQUESTS 3000

static void decisions_are_the_same_in_any_order_of_arrival(void **state)
{
    static struct fault_req q[REQUESTS];
    static struct fault_decision was[REQUESTS];
    static unsigned order[REQUESTS];
    struct fault_decision d;
    struct rules *r =
        FAULTS("op=read layer=guest nth=5 every=7 action=short",
               "op=write prob=20% action=torn keep=random",
               "op=write layer=guest conn=2 prob=50% action=misdirect delta=64k",
               "op=read prob=30% action=corrupt bits=3", "op=flush every=3 layer=guest action=lost",
               "op=zero,trim prob=10% action=error errno=ENOSPC", "kind=l2 action=delay ms=1..50");
    struct rng rng;
    (void)state;

    rng_seed(&rng, 3);
    record(r);
    for (unsigned i = 0; i < REQUESTS; i++) {
        q[i] = random_request(&rng);
        was[i] = ask_req(r, q[i]);
        order[i] = i;
    }
    finish();
    rules_free(r);
    r = replay();
    for (unsigned i = 0; i + 1 < REQUESTS; i++) { /* bubbles: those that are alike stay in order */
        for (unsigned k = 0; k < 20 && i + 1 + k < REQUESTS; k++) {
            unsigned *a = &order[i + k], *b = &order[i + k + 1], old = *a;

            if (rng_below(&rng, 2) && !alike(&q[*a], &q[*b])) {
                *a = *b;
                *b = old;
            }
        }
    }
    for (unsigned i = 0; i < REQUESTS; i++) {
        d = ask_req(r, q[order[i]]);
        same(&was[order[i]], &d);
    }
    assert_int_equal(info_of(r).met, REQUESTS);
    assert_int_equal(info_of(r).unknown, 0);
    assert_int_equal(info_of(r).faults_met, info_of(r).faults_recorded);
    assert_in_range(info_of(r).faults_recorded, REQUESTS / 10, REQUESTS);
    rules_free(r);
}

static unsigned warnings;

static void count_warnings(enum log_level level, const char *line, void *arg)
{
    (void)arg;
    if (level == LOG_LEVEL_WARN && strstr(line, "the trace does not have"))
        warnings++;
}

static void what_the_trace_does_not_have_passes_and_is_told_once(void **state)
{
    struct rules *r = FAULTS("op=read action=error");
    struct replay_info i;
    char text[512];
    (void)state;

    record(r);
    ask(r, FAULT_READ, 0, 512);
    finish();
    rules_free(r);
    r = replay();
    warnings = 0;
    log_set_sink(count_warnings, NULL);
    assert_int_equal(ask(r, FAULT_READ, 512, 512).deed, FAULT_PASS);
    assert_int_equal(ask(r, FAULT_READ, 0, 1024).deed, FAULT_PASS);
    assert_int_equal(ask(r, FAULT_WRITE, 0, 512).deed, FAULT_PASS);
    i = info_of(r);
    assert_false(replay_describe(&i, text, sizeof(text)));
    assert_non_null(strstr(text, "of 1 requests 0 came, of 1 faults 0; 3 others came"));
    assert_int_equal(ask(r, FAULT_READ, 0, 512).error, EIO);
    assert_int_equal(ask(r, FAULT_READ, 0, 512).deed, FAULT_PASS); /* it came once */
    log_set_sink(NULL, NULL);
    assert_int_equal(warnings, 1);
    i = info_of(r);
    assert_int_equal(i.met, 1);
    assert_int_equal(i.unknown, 4);
    assert_int_equal(ask_req(r, (struct fault_req){FAULT_GUEST, FAULT_READ, .len = 512}).deed,
                     FAULT_PASS);
    assert_false(rules_watches(r, FAULT_GUEST, FAULT_READ));
    assert_true(rules_watches(r, FAULT_HOST, FAULT_BLOCK_STATUS));
    rules_free(r);
}

static void each_connection_meets_its_own(void **state)
{
    struct fault_req one = {FAULT_GUEST, FAULT_READ, .len = 512, .conn = 1}, two = one, three = one;
    struct rules *r = FAULTS("layer=guest op=read conn=2 action=error errno=EPERM",
                             "layer=guest op=read conn=1 nth=2 action=error errno=ENOSPC");
    (void)state;

    two.conn = 2;
    three.conn = 3;
    record(r);
    ask_req(r, one);
    ask_req(r, two);
    ask_req(r, one);
    finish();
    rules_free(r);
    r = replay();
    assert_int_equal(ask_req(r, two).error, EPERM);
    assert_int_equal(ask_req(r, one).deed, FAULT_PASS);
    assert_int_equal(ask_req(r, three).error, ENOSPC); /* there is one left, whosever it was */
    assert_int_equal(ask_req(r, one).deed, FAULT_PASS);
    assert_int_equal(info_of(r).unknown, 1);
    rules_free(r);
}

static void blkdebugs_decisions_are_replayed_with_their_turn_of_the_loop(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"none\"\niotype = \"write\"\nerrno = \"28\"\n"
                                      "once = \"on\"\n");
    struct fault_req q = {FAULT_HOST, FAULT_WRITE, .kind = 3, .off = 4096, .len = 512};
    struct fault_decision d;
    (void)state;

    record(r);
    rules_event(r, EV_NONE, NULL);
    assert_int_equal(rules_check_req(r, &q).error, ENOSPC);
    finish();
    rules_free(r);
    r = replay();
    rules_event(r, EV_NONE, NULL);
    assert_true(rules_idle(r));
    d = ask_req(r, q);
    assert_int_equal(d.deed, FAULT_FAIL);
    assert_int_equal(d.error, ENOSPC);
    assert_true(d.turn);
    rules_free(r);
}

static void damage_at_rest_has_a_place_to_be(void **state)
{
    struct rules *r = FAULTS("op=write range=0+8k action=lost", "op=read action=corrupt stale=on");
    uint8_t buf[512] = {0}, old[512];
    (void)state;

    record(r);
    ask(r, FAULT_WRITE, 4096, 512);
    ask(r, FAULT_READ, 1024, 512);
    finish();
    rules_free(r);
    r = replay();
    memset(old, 7, sizeof(old));
    assert_int_equal(ask(r, FAULT_WRITE, 4096, 512).deed, FAULT_LOST);
    assert_true(rules_rest_set(r, 1, 4096, old, 512));
    rules_rest_patch(r, FAULT_HOST, 4096, buf, 512);
    assert_memory_equal(buf, old, 512);
    assert_true(rules_wants_old(r, FAULT_HOST, 1024, 512));
    assert_false(rules_wants_old(r, FAULT_HOST, 2048, 512));
    rules_give_old(r, FAULT_HOST, 1024, old, 512);
    memset(buf, 0, sizeof(buf));
    rules_patch_old(r, ask(r, FAULT_READ, 1024, 512).id, 1024, buf, 512);
    assert_memory_equal(buf, old, 512);
    rules_free(r);
}

static void no_rule_can_be_added_to_a_replay(void **state)
{
    struct rules *r = FAULTS("op=read action=error"), *fresh;
    struct err *e = NULL;
    (void)state;

    record(r);
    finish();
    rules_free(r);
    r = replay();
    rules_serve_layer(r, FAULT_HOST);
    fresh = FAULTS("op=write action=error");
    assert_false(rules_adopt(r, fresh, NULL, &e));
    assert_non_null(strstr(err_msg(e), "A trace decides"));
    err_free(e);
    rules_free(fresh);
    rules_free(r);
}

static void a_damaged_trace_is_refused_whole(void **state)
{
    struct rules *r = FAULTS("op=write action=torn prob=50%", "op=read action=delay ms=1..9");
    size_t whole;
    (void)state;

    record(r);
    for (unsigned i = 0; i < 20; i++) {
        ask(r, i & 1 ? FAULT_WRITE : FAULT_READ, i * 4096, 4096);
        rules_event(r, i % EV_COUNT, NULL);
    }
    finish();
    rules_free(r);
    whole = tape.n;
    for (size_t n = 0; n < whole; n++) {
        struct err *e = NULL;

        assert_null(replay_of(n, &e));
        assert_int_equal(err_code(e), EINVAL);
        err_free(e);
        e = NULL;
        tape.buf[n] ^= 1u << n % 8;
        assert_null(replay_of(whole, &e));
        err_free(e);
        tape.buf[n] ^= 1u << n % 8;
    }
    tape.buf[whole] = TRACE_FULL; /* behind the end */
    assert_null(replay_of(whole + 1, NULL));
    rules_free(replay());
}

static void a_refused_allocation_leaves_nothing_behind(void **state)
{
    struct rules *r = FAULTS("op=write action=lost", "op=read action=delay ms=3");
    (void)state;

    record(r);
    for (unsigned i = 0; i < 3000; i++)
        ask(r, i & 1 ? FAULT_WRITE : FAULT_READ, i * 4096, 4096);
    finish();
    rules_free(r);
    for (unsigned nth = 1;; nth++) {
        struct rules *fresh = rules_new(&test_names);
        struct fault_limits limits;
        char path[] = "/tmp/test-replay-XXXXXX";
        int fd = mkstemp(path);
        struct err *e = NULL;
        bool ok;

        assert_true(fd >= 0 && write(fd, tape.buf, tape.n) == (ssize_t)tape.n);
        mem_fail_nth(nth, 0);
        ok = rules_load_trace(fresh, path, &limits, &e);
        mem_fail_nth(0, 0);
        close(fd);
        unlink(path);
        rules_free(fresh);
        if (ok)
            break;
        assert_int_equal(err_code(e), ENOMEM);
        err_free(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decisions_are_the_same_in_any_order_of_arrival),
        cmocka_unit_test(what_the_trace_does_not_have_passes_and_is_told_once),
        cmocka_unit_test(each_connection_meets_its_own),
        cmocka_unit_test(blkdebugs_decisions_are_replayed_with_their_turn_of_the_loop),
        cmocka_unit_test(damage_at_rest_has_a_place_to_be),
        cmocka_unit_test(no_rule_can_be_added_to_a_replay),
        cmocka_unit_test(a_damaged_trace_is_refused_whole),
        cmocka_unit_test(a_refused_allocation_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
