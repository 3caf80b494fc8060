/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of the language beyond blkdebug share.
 */
#ifndef TESTS_FAULT_TEST_H
#define TESTS_FAULT_TEST_H

#include "tests/unit/faults/rules_test.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "faults/fault.h"
#include "faults/text.h"

static inline struct fault_decision ask(struct rules *r, enum fault_io op, uint64_t off,
                                        uint64_t len)
{
    struct fault_req q = {.layer = FAULT_HOST, .op = op, .off = off, .len = len};
    struct fault_decision d;

    rules_decide(r, &q, &d);
    return d;
}

static inline struct fault_decision ask_req(struct rules *r, struct fault_req q)
{
    struct fault_decision d;

    rules_decide(r, &q, &d);
    return d;
}

/* An engine from options, one fault each; NULL ends. */
static inline struct rules *faults_of(const char *const *options)
{
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;

    assert_non_null(r);
    for (unsigned i = 0; options[i]; i++)
        if (!rules_load_option(r, options[i], i + 1, &e))
            fail_msg("%s", err_msg(e));
    rules_set_seed(r, 1);
    return r;
}

#define FAULTS(...) faults_of((const char *const[]){__VA_ARGS__, NULL})

#endif
