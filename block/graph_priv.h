/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Permissions, for the registry of nodes.
 */
#ifndef BLOCK_GRAPH_PRIV_H
#define BLOCK_GRAPH_PRIV_H

#include "block/graph.h"

/* graph_refresh: let the permissions of all edges follow from those of the users. False: there is a
 * conflict; who has made it undoes what it did, and refreshes again. */
bool graph_refresh(struct graph *g, struct err **errp);
/* graph_reaches: is `to` from, or below it? */
bool graph_reaches(const struct graph_node *from, const struct graph_node *to);

#endif
