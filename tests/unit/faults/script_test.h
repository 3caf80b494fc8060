/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of scripts share. They run on a stack as small as a coroutine's.
 */
#ifndef TESTS_SCRIPT_TEST_H
#define TESTS_SCRIPT_TEST_H

#include "tests/unit/faults/fault_test.h"

#include <pthread.h>

#include "base/sanitizers.h"
#include "faults/fault_priv.h"
#include "faults/script.h"

#if WITH_ASAN
#define STACK_BYTES ((size_t)1 << 20)
#else
#define STACK_BYTES ((size_t)112 << 10) /* of 256: others are on it already */
#endif

static inline struct script *script_of(const char *text, struct err **errp)
{
    struct script_conf conf = {"test.lua", "decide", SCRIPT_BUDGET, SCRIPT_MEMORY};

    return script_new(&conf, text, strlen(text), errp);
}

static inline bool ask_at(struct script *s, uint64_t off, struct script_answer *a,
                          char problem[512])
{
    struct fault_req q = {.layer = FAULT_GUEST,
                          .op = FAULT_WRITE,
                          .off = off,
                          .len = 8,
                          .data = "abcdefgh",
                          .export = "disk",
                          .conn = 3,
                          .at_ms = 1234};
    struct script_question question = {&q, &test_names, 1, 9, 77};

    problem[0] = 0;
    return script_ask(s, &question, a, problem, 512);
}

/* What group runs on such a stack returns. */
static inline int on_small_stack(void *(*group)(void *failed))
{
    pthread_attr_t attr;
    pthread_t thread;
    int failed = 1;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (pthread_create(&thread, &attr, group, &failed) == 0)
        pthread_join(thread, NULL);
    return failed;
}

#endif
