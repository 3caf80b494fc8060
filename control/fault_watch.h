/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Faults of a control object's nodes.
 */
#ifndef CONTROL_FAULT_WATCH_H
#define CONTROL_FAULT_WATCH_H

#include "control/control_priv.h"

extern const struct qtype q_fault_fired_event;

/* A fault engine, by one of its filters. Filters of both layers share one: the lower stands for
 * both. */
struct fault_place {
    const char *name;  /* of the node; or of the export whose own filter it is */
    struct node *node; /* NULL: none */
};
/* fault_place_at: number i, nodes that clients have made first; node is NULL past the end. */
struct fault_place fault_place_at(struct control *c, unsigned i);

/* fault_watch: let its engine tell subscribed clients of each rule that fires: at most
 * FAULT_EVENTS_PER_SECOND a second for each engine, the others are counted. Once is enough. */
#define FAULT_EVENTS_PER_SECOND 100
bool fault_watch(struct control *c, const struct fault_place *at, struct err **errp);
void fault_watches_clear(struct control *c);

/* faults_may_hang: from now on faults and breakpoints of c's nodes may hold requests; or no more.
 */
void faults_may_hang(struct control *c, bool may);

/* fault_place_find: the fault filter that a command means by node, or by export (one of both may be
 * NULL; if both are: the only one that there is), in the graph at or below that. Node NULL and
 * *errp. */
struct fault_place fault_place_find(struct control *c, const char *node, const char *export,
                                    struct err **errp);

#endif
