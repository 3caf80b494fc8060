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
};

struct graph_node;

struct graph_edge {
    struct graph_node *parent; /* NULL: a user */
    struct graph_node *child;
    char *name; /* "file", "backing"; of a user: "root" */
    char *user; /* of a user, for messages: "export 'disk'" */
    enum graph_role role;
    unsigned perm, shared;
    struct graph_edge *next_child; /* of the same parent */
    struct graph_edge *next_user;  /* of the same child, newest first */
};

struct graph_node {
    char name[GRAPH_NAME_MAX + 1];
    struct node *node;  /* a reference; NULL while it is being opened */
    const char *driver; /* QEMU's name of it; static */
    bool read_only;
    bool owned;    /* named by a client, who must delete it; else it goes with its last user */
    void *options; /* of who made it, e.g. what blockdev-add was told */
    void (*free_options)(void *options);
    struct graph_edge *children, *users;
    struct graph_node *next; /* newest first */
};

struct graph { /* zeroed is valid */
    struct graph_node *nodes;
    uint64_t last_auto; /* of the names that are made up: #block1 */
};

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

/* graph_register_children: make up entries for the children of n's node that have none: what a
 * driver has opened by itself, as a format its backing files. n then stands before all of them. */
bool graph_register_children(struct graph *g, struct graph_node *n, struct err **errp);

/* graph_clear: drop everything, users or not, parents first. Yields. */
void graph_clear(struct graph *g);

#endif
