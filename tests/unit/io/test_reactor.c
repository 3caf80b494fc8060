/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Coroutines, timers and mail, on each kind of reactor.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io.h"
#include "io/lock.h"
#include "io/reactor.h"
#include "tests/unit/io/kinds.h"

/* --- Coroutines. --- */

static char trace[64];

static void note(char c)
{
    size_t n = strlen(trace);
    trace[n] = c;
    trace[n + 1] = '\0';
}

static void two_steps(void *arg)
{
    const char *name = arg;
    note(name[0]);
    co_reschedule();
    note(name[1]);
}

static void nested_body(void *arg)
{
    trace[0] = '\0';
    note('(');
    assert_true(co_start(two_steps, "ab"));
    assert_true(co_start(two_steps, "cd"));
    note(')');
    co_reschedule();
    note('.');
}

static void a_coroutine_runs_until_it_yields_and_wakes_in_order(void **state)
{
    assert_true(reactor_run_co(reactor, nested_body, NULL));
    assert_string_equal(trace, "(ac)bd.");
}

static void use_stack(void *arg)
{
    volatile char deep[100 * 1024];
    for (size_t i = 0; i < sizeof(deep); i += 512)
        deep[i] = (char)i;
    co_reschedule();
    assert_int_equal(deep[512], 0);
    (*(int *)arg)++;
}

static void many_body(void *arg)
{
    int ended = 0;
    for (int i = 0; i < 300; i++)
        assert_true(co_start(use_stack, &ended));
    while (ended < 300)
        co_reschedule();
    assert_int_equal(co_alive(), 1);
}

static void many_coroutines_keep_their_stacks_apart(void **state)
{
    assert_true(reactor_run_co(reactor, many_body, NULL));
}

/* --- Time. --- */

static void sleep_body(void *arg)
{
    int64_t before = clock_ns();
    co_sleep_until(before + 20 * NS_PER_MS);
    assert_true(clock_ns() >= before + 20 * NS_PER_MS);
}

static void a_sleep_lasts_at_least_as_long_as_asked(void **state)
{
    assert_true(reactor_run_co(reactor, sleep_body, NULL));
}

static void note_timer(void *arg)
{
    note(*(char *)arg);
}

static void timers_body(void *arg)
{
    static char names[] = "0123456789";
    struct timer t[10] = {0};
    int64_t now = clock_ns();
    trace[0] = '\0';
    for (int i = 0; i < 10; i++)
        assert_true(timer_set(&t[i], now + (10 + (i * 7) % 10) * NS_PER_MS, note_timer, &names[i]));
    timer_cancel(&t[3]); /* would be second */
    timer_cancel(&t[3]);
    assert_true(timer_set(&t[0], now + 30 * NS_PER_MS, note_timer, &names[0])); /* first to last */
    co_sleep_until(now + 40 * NS_PER_MS);
    assert_string_equal(trace, "69258147"
                               "0");
}

static void timers_fire_by_deadline_and_can_be_moved_and_cancelled(void **state)
{
    assert_true(reactor_run_co(reactor, timers_body, NULL));
}

static int add_one(void *arg)
{
    ++*(int *)arg;
    return *(int *)arg;
}

static void offload_body(void *arg)
{
    int v[40] = {0};
    for (int i = 0; i < 40; i++) {
        v[i] = i;
        assert_int_equal(io_offload(add_one, &v[i]), i + 1);
    }
}

static void offloaded_work_returns_its_result(void **state)
{
    assert_true(reactor_run_co(reactor, offload_body, NULL));
}

static void offload_one(void *arg)
{
    int v = 1;
    assert_int_equal(io_offload(add_one, &v), 2);
    co_group_done(arg);
}

static void offload_many_body(void *arg)
{
    struct co_group g = {0};
    for (int i = 0; i < 200; i++) {
        co_group_add(&g);
        assert_true(co_start(offload_one, &g));
    }
    co_group_wait(&g);
}

static void two_hundred_jobs_run_on_a_bounded_number_of_workers(void **state)
{
    assert_true(reactor_run_co(reactor, offload_many_body, NULL));
}

/* --- Coroutines that keep each other busy. --- */

static bool hook_ran;

static void hook(void *arg)
{
    hook_ran = true;
}

static void busy_body(void *arg)
{
    struct deferred d = {.fn = hook};
    hook_ran = false;
    reactor_defer(&d);
    for (int i = 0; i < 100; i++)
        co_reschedule();
    assert_true(hook_ran);
}

static void a_busy_coroutine_does_not_hold_up_what_was_deferred(void **state)
{
    assert_true(reactor_run_co(reactor, busy_body, NULL));
}

/* --- A kernel, or a container, that refuses io_uring. --- */

static bool refuse_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = 4, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

enum { FELL_BACK = 40, NO_SECCOMP, NO_REACTOR, WRONG_KIND, URING_AFTER_ALL };

static int reactor_without_io_uring(void)
{
    struct reactor *r = NULL;
    if (!refuse_io_uring())
        return NO_SECCOMP;
    unsetenv("BREAKWATER_IO");
    if (reactor_new(REACTOR_URING, &r, NULL))
        return URING_AFTER_ALL;
    if (!reactor_new(REACTOR_AUTO, &r, NULL))
        return NO_REACTOR;
    bool threads = strcmp(reactor_name(r), "threads") == 0;
    reactor_free(r);
    return threads ? FELL_BACK : WRONG_KIND;
}

static void where_io_uring_is_refused_threads_take_over(void **state)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(reactor_without_io_uring());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_SECCOMP)
        skip();
    assert_int_equal(WEXITSTATUS(status), FELL_BACK);
}

static int run_kind(enum reactor_kind k)
{
    static const struct CMUnitTest pure[] = {
        cmocka_unit_test(a_coroutine_runs_until_it_yields_and_wakes_in_order),
        cmocka_unit_test(many_coroutines_keep_their_stacks_apart),
        cmocka_unit_test(a_sleep_lasts_at_least_as_long_as_asked),
        cmocka_unit_test(timers_fire_by_deadline_and_can_be_moved_and_cancelled),
        cmocka_unit_test(a_busy_coroutine_does_not_hold_up_what_was_deferred),
        cmocka_unit_test(offloaded_work_returns_its_result),
        cmocka_unit_test(two_hundred_jobs_run_on_a_bounded_number_of_workers),
    };
    kind = k;
    return cmocka_run_group_tests(pure, setup, teardown);
}

int main(void)
{
    const struct CMUnitTest fallback[] = {
        cmocka_unit_test(where_io_uring_is_refused_threads_take_over),
    };
    int failed = cmocka_run_group_tests(fallback, NULL, NULL);
    failed += run_kind(REACTOR_SIM) + run_kind(REACTOR_THREADS);
    if (uring_is_granted())
        failed += run_kind(REACTOR_URING);
    return failed;
}
