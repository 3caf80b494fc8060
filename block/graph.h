/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The registry of nodes: names, who uses what, and who may write where.
 *
 * A struct node knows its children only. Here every node that a control client can name has an
 * entry with edges both ways, so that it can be told who uses a node, and refused to delete what is
 * in use. Every edge carries what its user does with the node (perm) and what it bears others to do
 * (shared), by the rules of QEMU's block layer; an edge that would make two users of one node
 * conflict is refused. Edges of a driver that passes its parents' wishes down (a filter) follow
 * those of its own parents.
 *
 * Control path: nothing here yields except where it says so.
 */
#ifndef BLOCK_GRAPH_H
#define BLOCK_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "block/node.h"

#define GRAPH_NAME_MAX 31

enum graph_perm {
    PERM_CONSISTENT_READ = 1,
    PERM_WRITE = 2,
    PERM_WRITE_UNCHANGED = 4, /* writes that change no byte that is read: copy on read */
    PERM_RESIZE = 8,
    PERM_ALL = 15,
};

/* How a parent uses a child, which says what permissions its edge has. */
enum graph_role {
    ROLE_USER,         /* an export, a job: fixed permissions */
    ROLE_FORMAT,       /* metadata and data of a format */
    ROLE_DATA,         /* a part of the child is the parent's content */
    ROLE_COPY_ON_READ, /* as a filter, and what is read may be written back */
    ROLE_FILTER,       /* the child's content is the parent's */
    ROLE_BACKING,      /* read where the parent has nothing */
    ROLE_COPIED,       /* as a filter; once the parent is used, nobody else writes the child */
    ROLE_COPY,         /* where old data of another child goes; others may use it */
    ROLE_LOOK,         /* the child is there for what it knows, not for what it holds */
};

struct graph_node;

struct graph_edge {
    struct graph_node *parent; /* NULL: a user */
    struct graph_node *child;
    char *name; /* "file", "backing"; of a user: "root" */
    char *user; /* of a user, for messages: "export 'disk'" */
    enum graph_role role;
    bool relaxed; /* of role BACKING: a job moves content along the chain; see graph_relax */
    unsigned perm, shared;
    /* Of a user: how it moves to another node, which reads the same, when that takes the place of
     * its own (does not yield); or NULL, and for messages: what it is that stays where it is. */
    void (*move)(struct graph_edge *e, struct node *to);
    void *arg; /* of move */
    const char *stays_as;
    struct graph_edge *next_child; /* of the same parent */
    struct graph_edge *next_user;  /* of the same child, newest first */
};

struct graph_node {
    char name[GRAPH_NAME_MAX + 1];
    struct node *node;  /* a reference; NULL while it is being opened */
    const char *driver; /* QEMU's name of it; static */
    bool read_only;
    bool owned; /* named by a client, who must delete it; else it goes with its last user */
    bool marked, drained; /* see graph_mark */
    void *options;        /* of who made it, e.g. what blockdev-add was told */
    void (*free_options)(void *options);
    struct graph_edge *children, *users;
    struct graph_node *next; /* newest first */
};

struct graph { /* zeroed is valid */
    struct graph_node *nodes;
    uint64_t last_auto; /* of the names that are made up: #block1 */
};

/* graph_name_ok: is it formed as QEMU's identifiers (of nodes, jobs, exports): a letter, then
 * letters, digits, '-', '.', '_'? */
bool graph_name_ok(const char *name);
/* graph_find: an entry that is open, or NULL. graph_find_node: by its node. */
struct graph_node *graph_find(const struct graph *g, const char *name);
struct graph_node *graph_find_node(const struct graph *g, const struct node *n);

/* graph_reserve: an entry without a node yet. name NULL: one is made up, and the entry goes with
 * its last user. Errors: EINVAL "Invalid node-name: 'N'", EEXIST. */
struct graph_node *graph_reserve(struct graph *g, const char *name, const char *driver,
                                 bool read_only, struct err **errp);
/* graph_opened: the entry has its node; takes the reference over. */
void graph_opened(struct graph_node *n, struct node *node);
/* graph_drop: remove an entry that nobody uses with its edges; closes the node if there is one, and
 * then in turn what was used by nobody else and is not owned. Yields. */
void graph_drop(struct graph *g, struct graph_node *n);
/* graph_delete: what a client asked to delete, by name: refused while it is in use (EBUSY). Yields.
 */
bool graph_delete(struct graph *g, const char *name, struct err **errp);

/* graph_link: parent uses child. Errors: EPERM with QEMU's text on a conflict, with nothing
 * changed; ELOOP. */
bool graph_link(struct graph *g, struct graph_node *parent, struct graph_node *child,
                const char *name, enum graph_role role, struct err **errp);
/* graph_use: somebody outside of the graph uses a node. NULL and *errp on a conflict.
 * graph_unuse: no more. An unowned node that nobody uses any more is dropped: yields. */
struct graph_edge *graph_use(struct graph *g, struct graph_node *child, const char *user,
                             unsigned perm, unsigned shared, struct err **errp);
void graph_unuse(struct graph *g, struct graph_edge *e);

/* graph_writes_reach: does a write to `from` change what `to` holds? Also if they are one. */
bool graph_writes_reach(const struct graph_node *from, const struct graph_node *to);

/* graph_register_children: make up entries for the children of n's node that have none: what a
 * driver has opened by itself, as a format its backing files. n then stands before all of them. */
bool graph_register_children(struct graph *g, struct graph_node *n, struct err **errp);

/* graph_unlink: parent uses child no more. An unowned child that nobody else uses is dropped:
 * yields.
 */
void graph_unlink(struct graph *g, struct graph_node *parent, struct graph_node *child);

/* --- graph_move.c: changes of the graph while it is in use --- */

/* graph_mark: n is to be drained; parents: and whatever nodes use it. graph_drain_begin: drain all
 * that are marked, parents before their children: a request that is on its way through a parent
 * cannot end while the child is drained. Yields. graph_drain_add: one more, whose users are drained
 * or do nothing now. graph_drain_end: of all; then none is marked. One drain at a time. */
void graph_mark(struct graph_node *n, bool parents);
void graph_drain_begin(struct graph *g);
void graph_drain_add(struct graph_node *n);
void graph_drain_end(struct graph *g);

/* graph_check_idle: EBUSY with QEMU's text if somebody uses n who has to stay there.
 * graph_check_free: or if it is somebody's backing image. */
bool graph_check_idle(const struct graph_node *n, struct err **errp);
bool graph_check_free(const struct graph_node *n, struct err **errp);
/* graph_check_jobless: EBUSY with QEMU's text if a job works on n. */
bool graph_check_jobless(const struct graph_node *n, struct err **errp);
/* graph_replace: whoever uses `from`, but for node `except` (NULL: nobody), uses `to` instead, and
 * so do the requests that wait. Both read the same, and are drained as graph_mark with parents
 * says. Errors: EBUSY as above; ENOTSUP: a format has it as its file; EPERM, ELOOP as graph_link.
 * Then nothing has changed. Does not yield. */
bool graph_replace(struct graph *g, struct graph_node *from, struct graph_node *to,
                   const struct graph_node *except, struct err **errp);
/* graph_set_read_only: n and the children that were made with it (owned by nobody, no backing
 * images) go on read-only, or can be written. Drains each for a moment. Errors: EPERM as
 * graph_link, of the drivers. On failure all is as it was, or (read_only) not everything was
 * written. Yields.
 */
bool graph_set_read_only(struct graph *g, struct graph_node *n, bool read_only, struct err **errp);
/* graph_backing: the node that n, or what n filters, has as its backing image, or NULL.
 * graph_unfiltered: n, or what it filters. */
struct graph_node *graph_backing(const struct graph_node *n);
struct graph_node *graph_below(const struct graph_node *n); /* what it filters, or its backing */
struct graph_node *graph_unfiltered(struct graph_node *n);

/* graph_clear: drop everything, users or not, parents first. Yields. */
void graph_clear(struct graph *g);

#endif
