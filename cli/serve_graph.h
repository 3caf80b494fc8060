/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The node graph that `breakwater serve` builds: [cbw] -> [guest faults] -> [offset] ->
 * format -> [faults] -> file.
 */
#ifndef CLI_SERVE_GRAPH_H
#define CLI_SERVE_GRAPH_H

#include "block/node.h"
#include "cli/serve_opts.h"

struct serve_graph {
    struct node *top;                        /* one reference */
    struct node *format;                     /* in the graph; NULL: raw */
    struct node *cbw;                        /* in the graph; NULL: no checkpoints */
    struct node *host_faults, *guest_faults; /* in the graph; NULL: none */
    struct rules *rules;                     /* theirs */
    struct node *cache;                      /* in the graph; NULL: no [cache] */
    const struct serve_export *x;            /* for crash states */
    struct export_bitmap *bitmaps;           /* to publish; names belong to the options */
    unsigned n_bitmaps;
};

/* serve_graph_open: yields. On failure nothing is left open. */
bool serve_graph_open(const struct serve_export *x, struct serve_graph *g, struct err **errp);
/* serve_overlay_add: -s: a temporary image on top. Part of serve_graph_open. */
bool serve_overlay_add(const struct serve_export *x, struct serve_graph *g, struct err **errp);
/* serve_bitmaps_add: find or make the bitmaps that the options name. Part of serve_graph_open. */
bool serve_bitmaps_add(const struct serve_export *x, struct serve_graph *g, struct err **errp);
/* serve_graph_crash: state i of the cut power, as the export shows it. arg: the graph. Yields. */
struct node *serve_graph_crash(void *arg, unsigned i, struct err **errp);
/* serve_graph_is_cut: was the power of its disk cut? Then the last flush fails, as it should. */
bool serve_graph_is_cut(const struct serve_graph *g);
/* serve_graph_let_hang: may faults hang requests? At first they may not; see fault_let_hang. */
void serve_graph_let_hang(struct serve_graph *g, bool may);
/* serve_graph_close: what is left after the nodes were handed on and closed. */
void serve_graph_close(struct serve_graph *g);

#endif
