/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The node graph: making, linking and dropping nodes; the list of drivers; names.
 *
 * A node owns a reference to each of its children, and nothing points upwards: so a graph is
 * dropped from its top, and what two parents share lives until the second lets go.
 */
#include "block/node.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/node_bitmap.h"
#include "block/submit_priv.h"

#define MAX_DRIVERS 32

static const struct driver *drivers[MAX_DRIVERS];

void driver_register(const struct driver *drv)
{
    for (unsigned i = 0; i < MAX_DRIVERS; i++) {
        if (!drivers[i] || drivers[i] == drv) {
            drivers[i] = drv;
            return;
        }
    }
    assert(!"more drivers than MAX_DRIVERS");
}

const struct driver *driver_find(const char *name)
{
    for (unsigned i = 0; i < MAX_DRIVERS && drivers[i]; i++) {
        if (!strcmp(drivers[i]->name, name))
            return drivers[i];
    }
    return NULL;
}

const struct driver *driver_at(unsigned i)
{
    return i < MAX_DRIVERS ? drivers[i] : NULL;
}

static void node_free(struct node *n)
{
    mem_free(n->child);
    mem_free(n->state);
    mem_free(n->name);
    mem_free(n);
}

struct node *node_new(const struct driver *drv, const char *name, struct err **errp)
{
    assert(drv->submit || drv->is_filter);
    struct node *n = mem_new(struct node);
    if (n) {
        n->drv = drv;
        n->refs = 1;
        n->limits = (struct limits){.align = 1, .mem_align = 1};
        n->name = mem_strdup(name);
        n->state = mem_zalloc(drv->state_size);
        if (n->name && n->state)
            return n;
        node_free(n);
    }
    err_set(errp, ENOMEM, "out of memory opening \"%s\"", name);
    return NULL;
}

/* What a filter has of its child. */
static void follow_child(struct node *n, const struct node *child)
{
    n->size = child->size;
    n->limits.cluster = child->limits.cluster;
    n->growable = child->growable;
}

bool node_attach(struct node *parent, struct node *child, struct err **errp)
{
    size_t size = (parent->n_child + 1) * sizeof(struct node *);
    struct node **v = mem_realloc(parent->child, size);
    if (!v)
        return err_set(errp, ENOMEM, "out of memory attaching \"%s\" to \"%s\"", child->name,
                       parent->name);
    parent->child = v;
    parent->child[parent->n_child++] = child;
    if (parent->drv->is_filter && parent->n_child == 1) {
        follow_child(parent, child);
        parent->read_only = child->read_only;
    }
    return true;
}

struct node *node_set_child(struct node *parent, unsigned i, struct node *child)
{
    struct node *old = parent->child[i];

    parent->child[i] = node_ref(child);
    if (parent->drv->is_filter && i == 0)
        follow_child(parent, child);
    if (parent->drv->child_set)
        parent->drv->child_set(parent, i);
    return old;
}

struct node *node_drop_child(struct node *parent)
{
    struct node *old = parent->child[--parent->n_child];

    if (parent->drv->child_set)
        parent->drv->child_set(parent, parent->n_child);
    return old;
}

struct node *node_ref(struct node *n)
{
    n->refs++;
    return n;
}

/* The last chance of what was written and never flushed. Nobody waits for the result, so it is
 * logged: an owner who must know flushes before letting go. */
static void node_flush_last(struct node *n)
{
    if (n->read_only || n->write_gen == n->flushed_gen)
        return;
    int ret = flush_node(n);
    if (ret < 0)
        log_error("%s: flush at close: %s; recent writes may be lost", n->name, strerror(-ret));
}

void node_unref(struct node *n)
{
    if (!n)
        return;
    assert(n->refs > 0);
    if (n->refs > 1) {
        n->refs--;
        return;
    }
    assert(n->in_flight == 0);
    node_flush_last(n);
    if (n->drv->close)
        n->drv->close(n);
    node_bitmap_drop_all(n);
    for (unsigned i = 0; i < n->n_child; i++)
        node_unref(n->child[i]);
    node_free(n);
}

void node_event_slow(struct node *n, enum blk_event ev)
{
    while (!n->drv->event) {
        if (!n->drv->is_filter)
            return;
        n = n->child[0];
    }
    n->drv->event(n, ev);
}

const char *req_op_name(enum req_op op)
{
    static const char *const names[REQ_OP_COUNT] = {
        [REQ_READ] = "read",       [REQ_WRITE] = "write",       [REQ_ZERO] = "write-zeroes",
        [REQ_DISCARD] = "discard", [REQ_FLUSH] = "flush",       [REQ_STATUS] = "block-status",
        [REQ_CACHE] = "cache",     [REQ_TRUNCATE] = "truncate",
    };
    return (unsigned)op < REQ_OP_COUNT ? names[op] : "?";
}

static const char *const event_names[EV_COUNT] = {
#define X(id, name) name,
    BLOCK_EVENTS(X)
#undef X
};

const char *blk_event_name(enum blk_event ev)
{
    return (unsigned)ev < EV_COUNT ? event_names[ev] : "?";
}

enum blk_event blk_event_by_name(const char *name)
{
    for (unsigned i = 0; i < EV_COUNT; i++) {
        if (!strcmp(event_names[i], name))
            return (enum blk_event)i;
    }
    return EV_COUNT;
}
