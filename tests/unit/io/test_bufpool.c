/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "io/bufpool.h"
#include "io/reactor.h"

#define LIMIT ((size_t)64 << 10)

static struct reactor *reactor;
static struct bufpool *pool;
static size_t most;
static int served;
static struct rng rng;

static int setup(void **state)
{
    if (!reactor_new(REACTOR_SIM, &reactor, NULL))
        return -1;
    pool = bufpool_new(LIMIT);
    return pool ? 0 : -1;
}

static int teardown(void **state)
{
    bufpool_free(pool);
    assert_int_equal(co_alive(), 0);
    reactor_free(reactor);
    return 0;
}

static void user(void *arg)
{
    for (int i = 0; i < 10; i++) {
        size_t len = 1 + rng_below(&rng, 20000);
        if (rng_below(&rng, 10) == 0)
            len = 2 * LIMIT; /* larger than the limit: must be alone */
        char *buf = bufpool_get(pool, len);
        assert_non_null(buf);
        assert_int_equal((uintptr_t)buf % 4096, 0);
        if (bufpool_in_use(pool) > most && len < LIMIT)
            most = bufpool_in_use(pool);
        memset(buf, (int)i, len);
        co_sleep_until(clock_ns() + (int64_t)rng_below(&rng, 100));
        for (size_t k = 0; k < len; k += 997)
            assert_int_equal(buf[k], i);
        bufpool_put(pool, buf, len);
    }
    served++;
}

static void the_limit_holds_and_everybody_is_served(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        rng_seed(&rng, seed);
        served = 0;
        most = 0;
        for (int i = 0; i < 12; i++)
            assert_true(co_start(user, NULL));
        reactor_run_until_idle(reactor);
        if (served != 12 || most > LIMIT || bufpool_in_use(pool) != 0)
            fail_msg("seed %lu: served %d, most %zu, left %zu", (unsigned long)seed, served, most,
                     bufpool_in_use(pool));
    }
}

static int small_rounds;

static void small_user(void *arg)
{
    for (; small_rounds > 0; small_rounds--) {
        void *buf = bufpool_get(pool, LIMIT / 16);
        assert_non_null(buf);
        co_sleep_until(clock_ns() + (int64_t)(1 + rng_below(&rng, 100)));
        bufpool_put(pool, buf, LIMIT / 16);
    }
}

static void large_user(void *arg)
{
    void *buf = bufpool_get(pool, LIMIT);
    assert_non_null(buf);
    *(int *)arg = small_rounds;
    bufpool_put(pool, buf, LIMIT);
}

static void small_requests_do_not_starve_a_large_one(void **state)
{
    int left = 0;
    rng_seed(&rng, 1);
    small_rounds = 10000;
    for (int i = 0; i < 40; i++)
        assert_true(co_start(small_user, NULL));
    assert_true(co_start(large_user, &left));
    reactor_run_until_idle(reactor);
    assert_true(left > 9000);
}

static void use_8_megabytes(void *arg)
{
    struct bufpool *big = arg;
    void *buf[8];
    for (int i = 0; i < 8; i++)
        assert_non_null(buf[i] = bufpool_get(big, 1 << 20));
    for (int i = 0; i < 8; i++)
        bufpool_put(big, buf[i], 1 << 20);
    assert_int_equal(bufpool_idle(big), 8 << 20);

    /* One buffer stays in use throughout: it is kept, the seven others go. */
    for (int i = 0; i < 30; i++) {
        void *b = bufpool_get(big, 1 << 20);
        co_sleep_until(clock_ns() + NS_PER_S / 10);
        bufpool_put(big, b, 1 << 20);
    }
    assert_true(bufpool_idle(big) >= 1 << 20 && bufpool_idle(big) <= 2 << 20);
    co_sleep_until(clock_ns() + 3 * NS_PER_S);
    assert_true(bufpool_idle(big) <= 1 << 20);
}

static void idle_buffers_are_kept_while_used_and_freed_after(void **state)
{
    struct bufpool *big = bufpool_new(16 << 20);
    assert_true(reactor_run_co(reactor, use_8_megabytes, big));
    bufpool_free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(idle_buffers_are_kept_while_used_and_freed_after, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_limit_holds_and_everybody_is_served, setup, teardown),
        cmocka_unit_test_setup_teardown(small_requests_do_not_starve_a_large_one, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
