/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The node graph: format, filter and leaf nodes, and the requests that travel down it.
 *
 * Every node has a static driver (its table of functions) and children. node_submit is the only
 * data path: it checks a request once for everybody (range, alignment, read-only, drain),
 * splits or pads it to the node's limits, counts it, emulates what the driver lacks, and calls the
 * driver. All of it runs in coroutines of one reactor; there are no thread locks.
 */
#ifndef BLOCK_NODE_H
#define BLOCK_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "block/event.h"
#include "block/extent.h"
#include "block/overlap.h"
#include "io/lock.h"

enum req_op {
    REQ_READ,
    REQ_WRITE,
    REQ_ZERO,     /* the range reads as zeros afterwards */
    REQ_DISCARD,  /* the content is not needed any more; may be ignored */
    REQ_FLUSH,    /* all writes that completed before are durable afterwards; off = len = 0 */
    REQ_STATUS,   /* fill ext from off on: at least one extent, at most len bytes */
    REQ_CACHE,    /* prefetch hint */
    REQ_TRUNCATE, /* off: the new size in bytes, len = 0; new space reads as zeros */
    REQ_OP_COUNT
};

enum req_flags {
    REQ_FUA = 1,         /* WRITE, ZERO, DISCARD: durable when it completes */
    REQ_MAY_UNMAP = 2,   /* ZERO: may deallocate */
    REQ_NO_FALLBACK = 4, /* ZERO: fail with -ENOTSUP rather than write zeros slowly */
    REQ_COMPRESSED = 8,  /* WRITE of whole clusters to a format: compress them if it can */
    REQ_DEPTH = 16,      /* STATUS: say also which image of a chain has it (EXTENT_LEVEL) */
    REQ_ALONE = 32,      /* WRITE, ZERO: without READs of the range meanwhile (see track_reads) */
    REQ_OWN = 1 << 16,   /* TRUNCATE: this bit and those above are the driver's own */
    REQ_INSIDE = 128,    /* READ: of whoever has drained the node: it is let in all the same */
    REQ_KEEP = 64,       /* WRITE of whole clusters to a format: only where its image has nothing.
                            The bytes are what is read there already: no bitmap is marked */
};

/* What a write to the host file holds; the fault engine can select on it. */
enum req_kind {
    KIND_DATA,
    KIND_HEADER,
    KIND_L1,
    KIND_L2,
    KIND_REFTABLE,
    KIND_REFBLOCK,
    KIND_SNAPSHOT,
    KIND_BITMAP,
};

/* On whose behalf a coroutine runs: co_local()->origin, set by whoever starts it for a client.
 * NULL: nobody's. Borrowed: it outlives the coroutine. */
struct req_origin {
    const char *export, *client; /* the export's name; the client's address */
    uint64_t conn;               /* the number of its connection, from 1 */
};

struct req { /* lives on the submitter's stack or slot; borrowed downward */
    enum req_op op;
    uint32_t flags; /* enum req_flags */
    enum req_kind kind;
    uint64_t off, len;   /* bytes, in the receiving node's space */
    void *buf;           /* READ, WRITE: len bytes; WRITE does not modify them */
    struct extents *ext; /* STATUS: initialised by the caller */
};

/* What a node can take; filled in at open by the driver, all fields valid for power-of-two maths.*/
struct limits {
    /* align: requests to the driver are multiples of this; 1 = any byte. A node whose size is no
     * multiple of it must be growable (its last block sticks out). */
    uint32_t align;
    uint32_t mem_align; /* buffers are aligned to this (direct I/O); 1 = any */
    uint64_t max_len;   /* longest READ/WRITE handed to the driver; 0 = none */
    /* Preferred granularity of ZERO and DISCARD; 0 = align. Need not be powers of two. */
    uint64_t zero_align, discard_align;
    uint64_t max_zero, max_discard; /* longest ZERO, DISCARD; multiples of the above; 0 = none */
    uint32_t cluster;               /* allocation granularity worth telling clients; 0 = unknown */
};

struct node;
struct node_guard;
struct gate_pass;
struct bitmap_set;
struct bitmap_ops;

/* Flush. What the dispatcher does for a REQ_FLUSH on n (one at a time; others queue up behind it):
 *
 *  1. Note write_gen: the writes to n that have completed by now are what this flush covers.
 *  2. If the driver has write_back (a format): node_event(child[0], EV_FLUSH_TO_OS), then
 *     write_back(n), on every flush. An error ends the flush here.
 *  3. If n was written since its last successful flush: with write_back, first
 *     node_event(child[0], EV_FLUSH_TO_DISK); then submit(n, REQ_FLUSH), which makes the children
 *     durable (node_flush on each that it writes) and then does what had to wait for that.
 *     If it was not: a format's submit(REQ_FLUSH) is called all the same, without the event; a
 *     filter is passed by (child[0] is flushed); a leaf does nothing.
 *  4. If all that succeeded, what was noted in 1 is flushed. After an error nothing is.
 *
 * So a format driver announces neither flush event itself, and its barriers inside write_back are
 * plain node_flush calls on the child, which (as in QEMU) emit no event. A FUA write to a driver
 * without the fua_ops bit is followed by these same steps, before its EV_PWRITEV_DONE. (That write
 * counts as written. QEMU 7.2 counts it only afterwards: there a FUA write on a format that had
 * nothing else to flush announces no flush_to_disk.)
 */

struct driver { /* static const. A NULL function: not supported, or see there */
    const char *name;
    size_t state_size;  /* of node->state, zeroed at node_new */
    bool is_filter;     /* child[0] holds the same bytes at the same offsets */
    bool bitmaps_below; /* a filter that keeps no bitmaps: those named of it are child[0]'s */

    /* submit: do it; runs in a coroutine. Returns 0 or -errno. -ENOTSUP: for ZERO the dispatcher
     * falls back to writes, for DISCARD and CACHE it is success, for STATUS all is data.
     * NULL (filters only): forward to child[0]. */
    int (*submit)(struct node *n, struct req *r);
    /* write_back: the first half of a flush, for drivers that cache (formats; NULL: it caches
     * nothing). Write all cached metadata to the children, with the barriers (node_flush of a
     * child) that its order needs, but no barrier after it. 0 or -errno. May yield. See "Flush"
     * below. */
    int (*write_back)(struct node *n);
    /* event: a parent is about to do ev, or the dispatcher is about to write to n itself (PWRITEV,
     * PWRITEV_ZERO, PWRITEV_DONE, PWRITEV_RMW_*). May yield. NULL: filters forward what parents
     * announce to child[0], others ignore it. A filter with an event function forwards by itself
     * (node_event on its child) if it wants to. */
    void (*event)(struct node *n, enum blk_event ev);
    /* close: flush caches as far as possible and free what state holds (not state itself, not the
     * children). Runs in a coroutine; node_unref has tried a flush before, if anything was written.
     * Also called after an open that failed halfway: state may be as node_new left it. */
    void (*close)(struct node *n);

    /* backing: whose bytes show where n itself has none; borrowed. NULL (the function or its
     * result): nobody's. */
    struct node *(*backing)(const struct node *n);
    /* child_set: child[i], which is no format's file, is another node now. NULL: nothing to do. */
    void (*child_set)(struct node *n, unsigned i);
    /* set_read_only: n, which is drained, goes on for reading only, with all that it holds back
     * written; or for writing, too: its children that it writes can be written by then. After a
     * failure it is read-only, and something may not have been written. NULL: there is nothing to
     * do but in filters, which do as their child does, nobody else can. Yields. */
    bool (*set_read_only)(struct node *n, bool read_only, struct err **errp);
    /* bitmap_ops: it stores dirty bitmaps (block/node_bitmap.h). NULL: it cannot. */
    const struct bitmap_ops *bitmap_ops;

    uint32_t fua_ops; /* bit (1 << op): driver honours REQ_FUA itself; else a flush follows */
};

enum detect_zeroes {
    DETECT_ZEROES_OFF,
    DETECT_ZEROES_ON,
    DETECT_ZEROES_UNMAP, /* and may deallocate */
};

struct node {
    const struct driver *drv;
    void *state;
    char *name; /* for messages: usually the file name */
    struct node **child;
    unsigned n_child;
    unsigned refs;
    bool read_only;
    bool growable; /* writes past size are accepted and extend it (leaves under a format); reads
                      past it return zeros, STATUS says hole, DISCARD is clipped */
    uint64_t size; /* bytes; the driver keeps it current (for filters, the dispatcher does) */
    struct bitmap_set *bitmaps;       /* what marks changes; NULL: none. See block/node_bitmap.h */
    bool ignore_discard;              /* DISCARD does nothing, ZERO keeps space allocated */
    enum detect_zeroes detect_zeroes; /* WRITE of zeros becomes ZERO */
    struct limits limits;

    /* The rest belongs to the dispatcher. */
    unsigned in_flight;
    unsigned drained;          /* > 0: new requests wait */
    unsigned track_reads;      /* > 0: READs that begin from now on are heeded by REQ_ALONE */
    struct node_guard *guards; /* block/guard.h */
    struct gate_pass *passes;  /* requests that wait to be let in, or are with a guard */
    struct co_queue drain_waiters, idle_waiters;
    uint64_t write_gen, flushed_gen; /* a flush with nothing written since the last is free */
    struct co_mutex flush_lock;
    struct overlap_list overlaps; /* in use only where limits.align > 1, or with track_reads */
};

/* --- Graph. Control path. --- */

/* node_new: a node with zeroed state, one reference, limits of {1,1,...}. name is copied.
 * NULL and *errp on failure. */
struct node *node_new(const struct driver *drv, const char *name, struct err **errp);
/* node_attach: append child to parent->child; takes over the caller's reference to child on
 * success. A filter's first child gives it its size, limits.cluster, read_only and
 * growable. */
bool node_attach(struct node *parent, struct node *child, struct err **errp);
/* node_set_child: let parent's child[i] be this one, to which it gets a reference; the old one's
 * goes to the caller, who drops it. Both read the same; nothing is under way from parent to child.
 * node_drop_child: take the last child away, in the same way. */
struct node *node_set_child(struct node *parent, unsigned i, struct node *child);
struct node *node_drop_child(struct node *parent);
struct node *node_ref(struct node *n);
/* node_unref: the last reference closes the node, then drops its children. Must run in a coroutine;
 * yields. NULL is allowed. The node must be idle. */
void node_unref(struct node *n);

/* driver_find: a registered driver by name, or NULL. driver_register: called once per driver at
 * start by cli/; lets the control path list what is there. */
void driver_register(const struct driver *drv);
const struct driver *driver_find(const char *name);
const struct driver *driver_at(unsigned i); /* NULL past the end */

/* --- Data path. All yield, all return 0 or -errno. --- */

/* node_submit: see the top of this file. Errors of its own: -EINVAL (past the end for READ, DISCARD
 * and STATUS; overflow), -ENOSPC (past the end for WRITE and ZERO), -EPERM (read-only), -ENOTSUP
 * (NO_FALLBACK), -ENOMEM (bounce buffers). The driver gets ranges within the node (or growing it),
 * aligned to limits.align (STATUS and CACHE: any byte), READ and WRITE of at most max_len; ZERO cut
 * so that a piece either is made of whole zero_align blocks or lies within one. *r is not changed.
 * A node whose driver is a growing leaf (file, sim, mem under a format) accepts writes past its end
 * and grows: the driver opts in with node->growable (a filter inherits it from child[0]). */
int node_submit(struct node *n, struct req *r);

int node_read(struct node *n, uint64_t off, void *buf, uint64_t len);
int node_write(struct node *n, uint64_t off, const void *buf, uint64_t len, uint32_t flags);
int node_write_kind(struct node *n, uint64_t off, const void *buf, uint64_t len, uint32_t flags,
                    enum req_kind kind);
int node_zero(struct node *n, uint64_t off, uint64_t len, uint32_t flags);
int node_discard(struct node *n, uint64_t off, uint64_t len);
int node_flush(struct node *n);
int node_truncate(struct node *n, uint64_t size);
/* node_zeros: NODE_ZEROS bytes that are zero, aligned for any I/O and never to be written to. */
#define NODE_ZEROS (UINT64_C(1) << 20)
const void *node_zeros(void);
/* node_write_zeros: where REQ_ZERO's ways to be fast are not wanted. */
int node_write_zeros(struct node *n, uint64_t off, uint64_t len);
/* node_status: ext is cleared first. */
int node_status(struct node *n, uint64_t off, uint64_t len, struct extents *ext);
/* node_depth: how many images down the backing chain has it: the flags of the extents are 1 for n's
 * own image, 2 for its backing image..., 0 for what none has. Yields. */
int node_depth(struct node *n, uint64_t off, uint64_t len, struct extents *ext);

/* node_still_volatile: for a driver that says that a flush of n succeeded although it did not do
 * it: the next flush of n is then not passed by as if there were nothing to flush. */
static inline void node_still_volatile(struct node *n)
{
    n->write_gen++;
}

/* node_event: announce ev to n (n is the child of the announcer). Inline so that it costs one load
 * and a branch where nobody listens. */
void node_event_slow(struct node *n, enum blk_event ev);
static inline void node_event(struct node *n, enum blk_event ev)
{
    if (n->drv->event || n->drv->is_filter)
        node_event_slow(n, ev);
}

/* node_drain_begin: wait until n has no request in flight and hold new ones back until the matching
 * node_drain_end. Nests. Requests that n itself sends to its children are not held. Yields. */
void node_drain_begin(struct node *n);
void node_drain_end(struct node *n);
/* node_redirect: the requests that a drain of `from` holds back, and those that its guards do, go
 * to `to` instead, which is drained too. Does not yield. */
void node_redirect(struct node *from, struct node *to);

const char *req_op_name(enum req_op op);
const char *blk_event_name(enum blk_event ev);
/* blk_event_by_name: EV_COUNT if there is none. */
enum blk_event blk_event_by_name(const char *name);

#endif
