/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the engine asks of a replay.
 */
#ifndef FAULTS_REPLAY_PRIV_H
#define FAULTS_REPLAY_PRIV_H

#include "faults/replay.h"

struct replay;

/* replay_new: of no requests. replay_add: the next of them. False without memory. */
struct replay *replay_new(const char *path);
bool replay_add(struct replay *p, const struct trace_record *t);
void replay_free(struct replay *p);
/* replay_has_layer: has it any request of this layer? */
bool replay_has_layer(const struct replay *p, enum fault_layer layer);
/* replay_decide: what became of such a request when its turn came; by is p's. */
void replay_decide(struct replay *p, const struct rules_names *names, const struct fault_req *q,
                   struct fault_decision *d);
const struct replay_info *replay_info(const struct replay *p);
void replay_set_full(struct replay *p);

#endif
