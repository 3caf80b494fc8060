/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Groups of jobs: all of them commit, or none.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "block/job.h"
#include "io/co.h"
#include "io/reactor.h"

struct plan {
    unsigned run_ms, prepare_ms;
    bool fail, fail_prepare;
    bool committed, aborted, cleaned;
};

static struct jobs jobs;

static bool plan_run(struct job *j, struct err **errp)
{
    const struct plan *p = j->opaque;

    for (unsigned i = 0; i < p->run_ms; i++) {
        co_sleep_until(clock_ns() + NS_PER_MS);
        if (job_pause_point(j) < 0)
            return false;
    }
    return !p->fail || err_set(errp, EIO, "the disk is broken");
}

static bool plan_prepare(struct job *j, struct err **errp)
{
    const struct plan *p = j->opaque;

    co_sleep_until(clock_ns() + p->prepare_ms * NS_PER_MS);
    return !p->fail_prepare || err_set(errp, EIO, "not now");
}

static void plan_commit(struct job *j)
{
    ((struct plan *)j->opaque)->committed = true;
}

static void plan_abort(struct job *j)
{
    ((struct plan *)j->opaque)->aborted = true;
}

static void plan_clean(struct job *j)
{
    ((struct plan *)j->opaque)->cleaned = true;
}

static const struct job_ops plan_ops = {.type = "plan",
                                        .run = plan_run,
                                        .prepare = plan_prepare,
                                        .commit = plan_commit,
                                        .abort = plan_abort,
                                        .clean = plan_clean};

static void group(struct plan *p, struct job **j, unsigned n)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    struct job_txn *t = job_txn_new();

    assert_non_null(t);
    for (unsigned i = 0; i < n; i++) {
        j[i] = job_new(&jobs, &plan_ops, names[i], &p[i], NULL);
        assert_non_null(j[i]);
        job_txn_join(j[i], t);
    }
    job_txn_release(t);
}

static void start(struct job **j, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_true(job_start(j[i], NULL));
}

static void ms(unsigned n)
{
    co_sleep_until(clock_ns() + n * NS_PER_MS);
}

static void run(co_fn *fn)
{
    struct reactor *r;

    jobs = (struct jobs){0};
    assert_true(reactor_new(REACTOR_SIM, &r, NULL));
    assert_true(reactor_run_co(r, fn, NULL));
    assert_int_equal(co_alive(), 0);
    assert_null(jobs.first);
    reactor_free(r);
}

#define TEST(name)                                                                                 \
    static void name##_body(void *arg);                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        run(name##_body);                                                                          \
    }                                                                                              \
    static void name##_body(void *arg)

TEST(they_wait_for_each_other_before_they_commit)
{
    struct plan p[2] = {{.run_ms = 1}, {.run_ms = 10, .prepare_ms = 5}};
    struct job *j[2];

    group(p, j, 2);
    start(j, 2);
    ms(5);
    assert_int_equal(j[0]->status, JOB_WAITING);
    assert_int_equal(j[1]->status, JOB_RUNNING);
    ms(7);
    assert_int_equal(j[0]->status, JOB_PENDING);
    assert_false(p[0].committed); /* the other may still fail to prepare */
    ms(10);
    assert_true(p[0].committed && p[1].committed && p[0].cleaned && p[1].cleaned);
}

TEST(one_that_fails_takes_the_others_along)
{
    for (unsigned early = 0; early < 2; early++) {
        struct plan p[3] = {
            {.run_ms = early ? 1 : 100}, {.run_ms = 3, .fail = true}, {.run_ms = 50}};
        struct job *j[3];

        group(p, j, 3);
        for (unsigned i = 0; i < 3; i++)
            j[i]->auto_dismiss = false;
        start(j, 3);
        ms(5);
        for (unsigned i = 0; i < 3; i++) {
            assert_true(p[i].aborted && !p[i].committed);
            assert_int_equal(j[i]->status, JOB_CONCLUDED);
            assert_true(!j[i]->error == (i != 1)); /* the others are cancelled, not failed */
            assert_true(job_dismiss(j[i], NULL));
        }
        ms(1);
    }
}

TEST(one_that_cannot_prepare_takes_the_others_along)
{
    struct plan p[2] = {{.run_ms = 1}, {.run_ms = 1, .prepare_ms = 5, .fail_prepare = true}};
    struct job *j[2];

    group(p, j, 2);
    start(j, 2);
    ms(20);
    assert_true(p[0].aborted && p[1].aborted);
}

TEST(cancelling_one_cancels_all)
{
    struct plan p[2] = {{.run_ms = 1}, {.run_ms = 100}};
    struct job *j[2];

    group(p, j, 2);
    start(j, 2);
    ms(5);
    assert_true(job_cancel(j[0], NULL)); /* the one that waits */
    ms(5);
    assert_true(p[0].aborted && p[1].aborted);
}

TEST(finalizing_one_finalizes_all)
{
    struct plan p[2] = {{.run_ms = 1}, {.run_ms = 2}};
    struct job *j[2];

    group(p, j, 2);
    j[0]->auto_finalize = j[1]->auto_finalize = false;
    start(j, 2);
    ms(10);
    assert_int_equal(j[0]->status, JOB_PENDING);
    assert_int_equal(j[1]->status, JOB_PENDING);
    assert_true(job_finalize(j[1], NULL));
    ms(1);
    assert_true(p[0].committed && p[1].committed);
}

TEST(jobs_that_never_started_are_dropped_in_any_order)
{
    for (unsigned first = 0; first < 2; first++) {
        struct plan p[2] = {{0}, {0}};
        struct job *j[2];

        group(p, j, 2);
        job_drop(j[first]);
        job_drop(j[!first]);
        assert_false(p[0].cleaned || p[1].aborted);
    }
    job_txn_release(job_txn_new());
    job_txn_release(NULL);
}

/* At any moment, with any fate: all or none. */
TEST(all_or_none_at_random)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rng rng;
        struct plan p[4] = {0};
        struct job *j[4];
        unsigned n, committed = 0;

        rng_seed(&rng, seed);
        n = 1 + rng_below(&rng, 4);
        for (unsigned i = 0; i < n; i++)
            p[i] = (struct plan){.run_ms = rng_below(&rng, 5),
                                 .prepare_ms = rng_below(&rng, 5),
                                 .fail = rng_below(&rng, 8) == 0,
                                 .fail_prepare = rng_below(&rng, 8) == 0};
        group(p, j, n);
        start(j, n);
        ms(rng_below(&rng, 12));
        if (rng_below(&rng, 2) == 0 && jobs.first)
            job_cancel(jobs.first, NULL);
        ms(30);
        for (unsigned i = 0; i < n; i++) {
            committed += p[i].committed;
            assert_true(p[i].cleaned && p[i].committed != p[i].aborted);
        }
        if (committed != 0 && committed != n)
            fail_msg("seed %llu: %u of %u have committed", (unsigned long long)seed, committed, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_wait_for_each_other_before_they_commit),
        cmocka_unit_test(one_that_fails_takes_the_others_along),
        cmocka_unit_test(one_that_cannot_prepare_takes_the_others_along),
        cmocka_unit_test(cancelling_one_cancels_all),
        cmocka_unit_test(finalizing_one_finalizes_all),
        cmocka_unit_test(jobs_that_never_started_are_dropped_in_any_order),
        cmocka_unit_test(all_or_none_at_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
