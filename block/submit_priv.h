/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of the dispatcher share. A request takes one of two ways through it: the plain one
 * (submit.c: already what the driver wants) or the slow one, an operation at a time (dispatch.c,
 * write.c, zero.c, bounce.c, flush.c).
 *
 * All of these run behind the gate of node_submit: the request is counted in in_flight and its
 * range has been checked. All yield and return 0 or -errno.
 */
#ifndef BLOCK_SUBMIT_PRIV_H
#define BLOCK_SUBMIT_PRIV_H

#include "block/node.h"

/* The most that one bounce buffer holds; longer transfers go through it piece by piece. */
#define BOUNCE_MAX (1u << 20)

/* gate_enter: wait until n (or to where the request is redirected meanwhile) is not drained and its
 * guards have no objection. Returns where the request is to go. Yields. */
struct node *gate_enter(struct node *n, const struct req *r);

/* submit_slow: everything that is not plain. */
int submit_slow(struct node *n, struct req *r);

/* driver_submit: hand r to the driver as it is. */
static inline int driver_submit(struct node *n, struct req *r)
{
    if (n->drv->submit)
        return n->drv->submit(n, r);
    return node_submit(n->child[0], r);
}

/* has_native_fua: does the driver (or whoever it forwards to) take REQ_FUA with op? */
static inline bool has_native_fua(const struct node *n, enum req_op op)
{
    return !n->drv->submit || (n->drv->fua_ops & (1u << op));
}

/* announce: tell n's own driver what the dispatcher is about to do to n. */
static inline void announce(struct node *n, enum blk_event ev)
{
    if (n->drv->event)
        n->drv->event(n, ev);
}

/* note_write: a write to n has ended, well or not. A flush that begins from here on covers it. */
static inline void note_write(struct node *n)
{
    n->write_gen++;
    if (n->drv->is_filter)
        n->size = n->child[0]->size;
}

/* flush_node: what node.h says under "Flush". */
int flush_node(struct node *n);

/* transfer: READ or WRITE (r->op) len bytes at off, both aligned to limits.align, buf fit for
 * mem_align: cut to max_len and given to the driver. kind and flags are r's. */
int transfer(struct node *n, const struct req *r, uint64_t off, void *buf, uint64_t len,
             uint32_t flags);

/* bounce_read: any READ, through an aligned buffer. */
int bounce_read(struct node *n, const struct req *r);

/* The ends of a write that cover blocks only in part, as they are on the disk. */
struct rmw {
    uint64_t start, stop; /* the range, widened to whole blocks */
    uint64_t head, tail;  /* bytes before and after the request in those blocks */
    uint8_t *buf;         /* owned: one or two blocks */
    uint8_t *tail_block;  /* in buf; the first block, if head, is at its start */
    uint64_t buf_len;
    bool merged; /* buf holds all of [start, stop) */
};
/* rmw_begin: read the ends of [off, off + len), announcing it. Needs an exclusive range. */
int rmw_begin(struct node *n, uint64_t off, uint64_t len, struct rmw *m);
void rmw_end(struct rmw *m);

/* bounce_write: write [m->start, m->stop): the ends from m, r->buf between them. */
int bounce_write(struct node *n, const struct req *r, const struct rmw *m, uint32_t flags);

/* write_op: a WRITE or ZERO, from overlap check to last event. */
int write_op(struct node *n, const struct req *asked);
/* write_finish: count the write, make it durable if FUA was asked of a driver that cannot. */
int write_finish(struct node *n, bool need_flush, int ret);

/* zero_op: a ZERO of any range, inside write_op. */
int zero_op(struct node *n, const struct req *r);

/* The node's bitmaps around a change of the node; n has some. reach: before a WRITE, ZERO or
 * DISCARD up to `end`: 0, or -EIO if they cannot be made to cover it. mark: after it, however it
 * ended. may_resize: before a TRUNCATE: 0 or -errno. follow: after it, however it ended. */
int bitmaps_reach(struct node *n, uint64_t end);
void bitmaps_mark(struct node *n, uint64_t off, uint64_t len);
int bitmaps_may_resize(struct node *n, uint64_t new_size);
void bitmaps_follow(struct node *n);

/* guards_act: ask n's guards about r. True: one has acted; the gate and all guards come again. */
bool guards_act(struct node *n, const struct req *r);

/* discard_op: a DISCARD, cut to what the driver can take. */
int discard_op(struct node *n, const struct req *r);

#endif
