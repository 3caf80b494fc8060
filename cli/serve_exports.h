/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The exports that a running serve has opened: all at the start, others when its configuration is
 * read again.
 */
#ifndef CLI_SERVE_EXPORTS_H
#define CLI_SERVE_EXPORTS_H

#include "cli/serve_graph.h"
#include "cli/serve_opts.h"
#include "control/control.h"

struct serve_running {
    struct serve_export *x; /* as it was opened; owned */
    struct serve_export
        *now; /* what is said since, without a need to open it anew; NULL: the same */
    struct serve_graph graph;
    struct node *top; /* a reference of its own: bitmaps are stored when the export is gone */
    char *control_id; /* for clients of the control socket; NULL: there is none */
    struct serve_running *next;
};

struct serve_exports {
    struct server *server;   /* borrowed */
    struct control *control; /* borrowed; NULL: no control socket */
    struct serve_running *first;
    bool may_hang;
};

/* serve_exports_open: all of o's, which are taken over, also on failure. Yields. */
bool serve_exports_open(struct serve_exports *e, struct serve_opts *o, struct err **errp);
/* serve_exports_adopt: show them to the clients of a control socket. */
bool serve_exports_adopt(struct serve_exports *e, struct control *c, struct err **errp);
/* serve_exports_reload: serve what o says now, whose exports are taken over: new ones are opened;
 * those that are not there any more, or not as they were, let their clients finish and are closed.
 * What goes wrong with one of them is logged, and does not touch the others. Yields. */
void serve_exports_reload(struct serve_exports *e, struct serve_opts *o);
/* serve_exports_let_hang: may faults hang requests? At first they may not; see fault_let_hang. */
void serve_exports_let_hang(struct serve_exports *e, bool may);
/* serve_exports_finish: after server_stop, which returned flushed: who could not be flushed, and
 * writing of bitmaps. The first error; others are logged. Yields. */
void serve_exports_finish(struct serve_exports *e, int flushed, struct err **errp);
/* serve_exports_close: after server_free, or of what was never opened. Yields. */
void serve_exports_close(struct serve_exports *e);

#endif
