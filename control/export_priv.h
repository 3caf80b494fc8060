/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Exports, for the commands about them.
 */
#ifndef CONTROL_EXPORT_PRIV_H
#define CONTROL_EXPORT_PRIV_H

#include "control/export.h"
#include "faults/rules.h"

struct nbd_host { /* what nbd-server-start made */
    struct server *server;
    char *path;    /* of a Unix socket */
    bool borrowed; /* its owner stops it */
};

struct control_export {
    struct control *ctl;
    struct control_export *next; /* newest first */
    char *id, *name;
    struct graph_edge *use; /* NULL at its very end */
    struct node *fault;     /* its own fault filter, on top of the node; NULL: none */
    bool shutting_down;     /* a coroutine takes it away */
    bool borrowed;          /* its owner takes it away */
    char *keeper;           /* so does this; NULL: clients do */
};

struct export_wish {
    const char *id, *name, *node_name, *description;
    bool writable;
    bool legacy;           /* node_name was given as a device's, too: for the message */
    struct bitmap *frozen; /* published as well; NULL: none. It stays frozen until it is gone */
    const char *keeper;    /* who alone may remove it; NULL: clients */
    const json_t *bitmaps; /* a list of names, or of objects with node and name; NULL: none */
};

/* export_fault.c. export_top: what is served for n: itself, or a fault filter on it, so that faults
 * of the guest and of the wire may come at any time. Such a filter joins the engine of the one
 * below it, if there is one. A reference; *rules (borrowed from it) and e->fault are set.
 * export_crash_open: state i of a cut power, as e shows it; arg is e. Yields. */
struct node *export_top(struct control_export *e, struct graph_node *n, struct rules **rules,
                        struct err **errp);
struct node *export_crash_open(void *arg, unsigned i, struct err **errp);

struct control_export *export_find(struct control *c, const char *id);
/* export_add, export_del: with the lock for changes held; QEMU's texts. Both yield. hard: also if
 * there are clients. After export_del it may be there for a while, shutting down. */
bool export_add(struct control *c, const struct export_wish *w, struct err **errp);
bool export_del(struct control *c, const char *id, bool hard, struct err **errp);
/* export_remove: for its keeper: hard, and it is gone afterwards. Needs no lock. */
bool export_remove(struct control *c, const char *id, struct err **errp);

#endif
