/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Faults of a control object's nodes.
 */
#ifndef CONTROL_FAULT_WATCH_H
#define CONTROL_FAULT_WATCH_H

#include "control/control_priv.h"

extern const struct qtype q_fault_fired_event;

/* fault_watch: let n's engine tell subscribed clients of each rule that fires: at most
 * FAULT_EVENTS_PER_SECOND a second for each engine, the others are counted. Once is enough. */
#define FAULT_EVENTS_PER_SECOND 100
bool fault_watch(struct control *c, struct graph_node *n, struct err **errp);
void fault_watches_clear(struct control *c);

/* faults_may_hang: from now on faults and breakpoints of c's nodes may hold requests; or no more.
 */
void faults_may_hang(struct control *c, bool may);

/* fault_node_find: the fault filter that a command means by node, or by export (one of both may be
 * NULL; if both are: the only one that there is), in the graph at or below that. NULL and *errp. */
struct graph_node *fault_node_find(struct control *c, const char *node, const char *export,
                                   struct err **errp);

#endif
