/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Permissions, for the registry of nodes.
 */
#ifndef BLOCK_GRAPH_PRIV_H
#define BLOCK_GRAPH_PRIV_H

#include "block/graph.h"

/* graph_refresh: let the permissions of all edges follow from those of the users. False: there is a
 * conflict, and all are as they were before. */
bool graph_refresh(struct graph *g, struct err **errp);

#endif
