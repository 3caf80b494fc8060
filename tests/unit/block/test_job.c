/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Jobs: the states they go through, and what they can be told in which.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "block/job.h"
#include "io/reactor.h"

static struct jobs jobs;
static char trace[1024];

static void say(const char *text)
{
    if (*trace)
        strcat(trace, " ");
    strcat(trace, text);
}

static void expect(const char *want)
{
    assert_string_equal(trace, want);
    trace[0] = '\0';
}

static void on_status(struct job *j, void *arg)
{
    say(job_status_name(j->status));
}

static void on_ended(struct job *j, void *arg)
{
    say(j->error ? "ENDED-failed" : j->cancelled ? "ENDED-cancelled" : "ENDED");
}

/* What run does, as told by opaque. */
struct plan {
    bool fail, fail_prepare, to_ready;
    unsigned steps; /* of a millisecond, with a pause point each */
};

static bool plan_run(struct job *j, struct err **errp)
{
    const struct plan *p = j->opaque;

    for (j->total = p->steps; j->done < p->steps; j->done++) {
        co_sleep_until(clock_ns() + NS_PER_MS);
        if (job_pause_point(j) < 0)
            return false;
    }
    if (p->to_ready && job_stay_ready(j) < 0)
        return false;
    return !p->fail || err_set(errp, EIO, "the disk is broken");
}

static bool plan_prepare(struct job *j, struct err **errp)
{
    const struct plan *p = j->opaque;

    say("prepare");
    return !p->fail_prepare || err_set(errp, EIO, "not now");
}

static void plan_commit(struct job *j)
{
    say("commit");
}

static void plan_abort(struct job *j)
{
    say("abort");
}

static void plan_clean(struct job *j)
{
    say("clean");
}

static const struct job_ops plan_ops = {.type = "plan",
                                        .run = plan_run,
                                        .prepare = plan_prepare,
                                        .commit = plan_commit,
                                        .abort = plan_abort,
                                        .clean = plan_clean};

static struct job *begin(struct plan *p)
{
    struct job *j = job_new(&jobs, &plan_ops, "j", p, NULL);

    assert_non_null(j);
    return j;
}

static void ms(unsigned n)
{
    co_sleep_until(clock_ns() + n * NS_PER_MS);
}

static void run(co_fn *fn)
{
    struct reactor *r;

    jobs = (struct jobs){.status = on_status, .ended = on_ended};
    trace[0] = '\0';
    assert_true(reactor_new(REACTOR_SIM, &r, NULL));
    assert_true(reactor_run_co(r, fn, NULL));
    assert_int_equal(co_alive(), 0);
    assert_null(jobs.first);
    reactor_free(r);
}

static void success_body(void *arg)
{
    struct plan p = {.steps = 3};
    struct job *j = begin(&p);

    assert_true(job_start(j, NULL));
    ms(2);
    assert_int_equal(j->done, 1);
    assert_int_equal(j->total, 3);
    expect("created running");
    ms(10);
    expect("waiting pending prepare commit clean ENDED concluded null");
}

static void success_goes_through_all_states(void **state)
{
    run(success_body);
}

static void finish(struct job *j, const char *want)
{
    assert_true(job_start(j, NULL));
    ms(10);
    expect(want);
}

static void failures_body(void *arg)
{
    struct plan p = {.fail = true}, q = {.fail_prepare = true};
    struct job *j = begin(&p);

    j->auto_dismiss = false;
    finish(j, "created running aborting abort clean ENDED-failed concluded");
    assert_string_equal(err_msg(j->error), "the disk is broken");
    assert_null(job_new(&jobs, &plan_ops, "j", &p, NULL)); /* the name is taken until dismissed */
    assert_true(job_dismiss(j, NULL));
    ms(1);
    expect("null");
    finish(
        begin(&q),
        "created running waiting pending prepare aborting abort clean ENDED-failed concluded null");
}

static void failures_abort_and_keep_the_reason(void **state)
{
    run(failures_body);
}

static void cancel_body(void *arg)
{
    struct plan p = {.steps = 100};
    struct job *j = begin(&p);

    assert_true(job_cancel(j, NULL));
    finish(j, "created aborting abort clean ENDED-cancelled concluded null");
    j = begin(&p);
    assert_true(job_start(j, NULL));
    ms(5);
    assert_true(job_pause(j, NULL));
    ms(5);
    assert_true(job_cancel(j, NULL)); /* also while it is paused */
    ms(5);
    expect("created running paused aborting abort clean ENDED-cancelled concluded null");
    p.steps = 0;
    j = begin(&p);
    j->auto_finalize = false;
    assert_true(job_start(j, NULL));
    ms(5);
    assert_true(job_cancel(j, NULL));
    ms(5);
    expect("created running waiting pending aborting abort clean ENDED-cancelled concluded null");
}

static void a_cancelled_job_aborts_in_every_state(void **state)
{
    run(cancel_body);
}

static void pause_body(void *arg)
{
    struct plan p = {.steps = 3};
    struct job *j = begin(&p);
    struct err *e = NULL;

    assert_true(job_start(j, NULL));
    assert_true(job_pause(j, NULL));
    assert_false(job_pause(j, &e));
    assert_string_equal(err_msg(e), "Job is already paused");
    err_free(e);
    e = NULL;
    ms(50);
    expect("created running paused");
    assert_int_equal(j->done, 0);
    assert_true(job_resume(j, NULL));
    assert_false(job_resume(j, &e));
    assert_string_equal(err_msg(e), "Can't resume a job that was not paused");
    err_free(e);
    ms(50);
    expect("running waiting pending prepare commit clean ENDED concluded null");
}

static void a_paused_job_rests_until_it_is_resumed(void **state)
{
    run(pause_body);
}

static void ready_body(void *arg)
{
    struct plan p = {.to_ready = true};
    struct job *j = begin(&p);

    assert_true(job_start(j, NULL));
    ms(5);
    assert_true(job_pause(j, NULL));
    ms(5);
    assert_true(job_resume(j, NULL));
    ms(5);
    expect("created running ready standby ready");
    assert_true(job_complete(j, NULL));
    ms(5);
    expect("waiting pending prepare commit clean ENDED concluded null");
}

static void a_ready_job_waits_to_be_completed(void **state)
{
    run(ready_body);
}

static void manual_body(void *arg)
{
    struct plan p = {0};
    struct job *j = begin(&p);

    j->auto_finalize = j->auto_dismiss = false;
    finish(j, "created running waiting pending");
    assert_true(job_finalize(j, NULL));
    ms(5);
    expect("prepare commit clean ENDED concluded");
    assert_true(job_dismiss(j, NULL));
    ms(5);
    expect("null");
}

static void jobs_can_be_finalized_and_dismissed_by_hand(void **state)
{
    run(manual_body);
}

/* Every verb in every state: allowed or refused with the text, and without a trace if refused. */
static void verbs_body(void *arg)
{
    static bool (*const verb[])(struct job *, struct err **) = {
        job_cancel, job_pause, job_resume, job_complete, job_finalize, job_dismiss};
    static const char *const names[] = {"cancel",   "pause",    "resume",
                                        "complete", "finalize", "dismiss"};
    /* By state: created, running, paused, ready, standby, waiting, pending, aborting, concluded. */
    static const char *const allowed[] = {"111111100", "111110000", "111110000",
                                          "000100000", "000000100", "000000001"};

    for (unsigned v = 0; v < 6; v++) {
        for (unsigned s = 0; s < 9; s++) {
            struct plan p = {0};
            struct job *j = begin(&p);
            struct err *e = NULL;

            trace[0] = '\0';
            j->status = s;
            j->user_paused = v == 2;
            j->pause_count = v == 2;
            bool ok = verb[v](j, &e);
            assert_int_equal(ok, allowed[v][s] == '1');
            if (!ok) {
                char want[100];

                snprintf(want, sizeof(want),
                         "Job 'j' in state '%s' cannot accept command verb '%s'",
                         job_status_name(s), names[v]);
                assert_string_equal(err_msg(e), want);
                assert_false(j->cancelled || j->complete_asked || j->finalize_asked ||
                             j->dismiss_asked);
                err_free(e);
            }
            j->status = JOB_CREATED;
            j->user_paused = false;
            j->pause_count = 0;
            j->cancelled = true;
            assert_true(job_start(j, NULL));
        }
    }
}

static void verbs_are_refused_in_states_that_cannot_take_them(void **state)
{
    run(verbs_body);
}

static void stop_body(void *arg)
{
    struct plan running = {.steps = 1000000}, quick = {0};
    struct job *a = job_new(&jobs, &plan_ops, "a", &running, NULL);
    struct job *b = job_new(&jobs, &plan_ops, "b", &quick, NULL);

    b->auto_dismiss = false;
    assert_true(job_start(a, NULL) && job_start(b, NULL));
    ms(5);
    assert_true(job_pause(a, NULL));
    ms(5);
    jobs_stop(&jobs);
    assert_null(jobs.first);
}

static void all_jobs_end_when_all_ends(void **state)
{
    run(stop_body);
}

static void names_body(void *arg)
{
    static const char *const bad[] = {"", "1", "a b", "#x"};
    struct err *e = NULL;

    for (unsigned i = 0; i < 4; i++) {
        assert_null(job_new(&jobs, &plan_ops, bad[i], NULL, &e));
        assert_non_null(strstr(err_msg(e), "Invalid job ID '"));
        err_free(e);
        e = NULL;
    }
}

static void names_are_checked(void **state)
{
    run(names_body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(success_goes_through_all_states),
        cmocka_unit_test(failures_abort_and_keep_the_reason),
        cmocka_unit_test(a_cancelled_job_aborts_in_every_state),
        cmocka_unit_test(a_paused_job_rests_until_it_is_resumed),
        cmocka_unit_test(a_ready_job_waits_to_be_completed),
        cmocka_unit_test(jobs_can_be_finalized_and_dismissed_by_hand),
        cmocka_unit_test(verbs_are_refused_in_states_that_cannot_take_them),
        cmocka_unit_test(all_jobs_end_when_all_ends),
        cmocka_unit_test(names_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
