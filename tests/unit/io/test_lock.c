/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "io/lock.h"
#include "io/reactor.h"

static struct reactor *reactor;

static int setup(void **state)
{
    return reactor_new(REACTOR_SIM, &reactor, NULL) ? 0 : -1;
}

static int teardown(void **state)
{
    assert_int_equal(co_alive(), 0);
    reactor_free(reactor);
    return 0;
}

static struct co_mutex mutex;
static int order[8], n_order;

static void take_mutex(void *arg)
{
    co_lock(&mutex);
    order[n_order++] = *(int *)arg;
    co_sleep_until(clock_ns() + NS_PER_MS);
    co_unlock(&mutex);
}

static void a_mutex_is_handed_over_in_order_of_arrival(void **state)
{
    static int id[4] = {0, 1, 2, 3};
    n_order = 0;
    for (int i = 0; i < 4; i++)
        assert_true(co_start(take_mutex, &id[i]));
    assert_int_equal(n_order, 1);
    reactor_run_until_idle(reactor);
    assert_int_equal(n_order, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(order[i], i);
    assert_false(mutex.held);
    assert_int_equal(clock_ns(), 4 * NS_PER_MS);
}

/* Readers and writers at random: never a writer with anybody else, and everybody gets a turn. */
static struct co_rwlock rw;
static int readers, writers, turns;
static struct rng rng;

static void rw_user(void *arg)
{
    for (int i = 0; i < 20; i++) {
        bool write = rng_below(&rng, 3) == 0;
        if (write)
            co_wrlock(&rw);
        else
            co_rdlock(&rw);
        *(write ? &writers : &readers) += 1;
        assert_true(writers == 0 || (writers == 1 && readers == 0));
        co_sleep_until(clock_ns() + (int64_t)rng_below(&rng, 1000));
        *(write ? &writers : &readers) -= 1;
        if (write)
            co_wrunlock(&rw);
        else
            co_rdunlock(&rw);
        co_sleep_until(clock_ns() + (int64_t)rng_below(&rng, 500));
        turns++;
    }
}

static void a_writer_is_alone_and_nobody_starves(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        rng_seed(&rng, seed);
        turns = 0;
        for (int i = 0; i < 15; i++)
            assert_true(co_start(rw_user, NULL));
        reactor_run_until_idle(reactor);
        if (turns != 15 * 20)
            fail_msg("seed %lu: only %d of 300 turns were had", (unsigned long)seed, turns);
    }
}

static void leave_group(void *arg)
{
    co_sleep_until(clock_ns() + NS_PER_MS);
    co_group_done(arg);
}

static void wait_group(void *arg)
{
    struct co_group g = {0};
    for (int i = 0; i < 5; i++) {
        co_group_add(&g);
        assert_true(co_start(leave_group, &g));
    }
    co_group_wait(&g);
    assert_int_equal(g.pending, 0);
    co_group_wait(&g); /* nobody left: returns at once */
    *(bool *)arg = true;
}

static void a_group_waits_for_all_its_members(void **state)
{
    bool done = false;
    assert_true(reactor_run_co(reactor, wait_group, &done));
    assert_true(done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_mutex_is_handed_over_in_order_of_arrival, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_writer_is_alone_and_nobody_starves, setup, teardown),
        cmocka_unit_test_setup_teardown(a_group_waits_for_all_its_members, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
