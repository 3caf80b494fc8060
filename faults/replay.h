/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A trace decides instead of rules.
 *
 * Requests are alike if they have the same layer, op, offset, length, kind and FUA. The Nth of a
 * kind meets what the Nth of that kind met when the trace was written; of those that several
 * connections sent, each connection meets its own, as long as the trace has some for it. So a
 * replay depends neither on the order in which different requests arrive nor on rules, seeds and
 * scripts. A request that the trace does not have passes, and is counted.
 */
#ifndef FAULTS_REPLAY_H
#define FAULTS_REPLAY_H

#include "faults/trace.h"

/* rules_load_trace: r, which has no rules and never gets any, decides by this trace; *limits and
 * rules_cache are those that it was written with, and so is the seed. It is read whole before
 * anything is changed, and not needed afterwards. EINVAL: it is no trace, damaged, or has no end.
 */
bool rules_load_trace(struct rules *r, const char *path, struct fault_limits *limits,
                      struct err **errp);

struct replay_info {
    const char *path;
    uint64_t recorded; /* requests in the trace; those that came; others that came */
    uint64_t met, unknown;
    uint64_t faults_recorded, faults_met; /* of them: those that met something */
    bool full;                            /* what came when the trace was full is not in it */
};
/* rules_replay_info: false: it decides by rules. */
bool rules_replay_info(const struct rules *r, struct replay_info *out);
/* replay_describe: the same in words, for the log at exit; whether all came as recorded. */
bool replay_describe(const struct replay_info *i, char *buf, size_t buf_len);

#endif
