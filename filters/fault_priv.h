/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of the fault filter share.
 */
#ifndef FILTERS_FAULT_PRIV_H
#define FILTERS_FAULT_PRIV_H

#include "block/event.h"
#include "faults/live.h"
#include "filters/filters_priv.h"
#include "io/lock.h"

struct fault_node {
    struct rules *rules; /* a reference; the node that serves the lowest layer tells of them */
    enum fault_layer layer;
    bool may_hang;
    struct co_queue hung;
    struct hanging *hanging;   /* the others, whose timeout is still to come */
    struct co_queue stopped;   /* who waits for a request to meet a breakpoint */
    bool limited;              /* fault_limit has something to say */
    int64_t start_ns;          /* when serving began */
    struct fault_trace *trace; /* NULL: none */
    struct node *cache;        /* whose power faults cut; NULL: none */
    struct fault_node *peer;   /* has been told of the cache of one of both; NULL: nobody */
    bool tells;                /* the counters at its end */
};

/* fault_carry_out: do with r what was decided. Yields. */
int fault_carry_out(struct node *n, struct req *r, const struct fault_decision *d);
/* fault_end_hangs: nothing hangs any more. */
void fault_end_hangs(struct fault_node *f);
/* fault_pass: hand r to the child, with what lies over its content. Yields. */
int fault_pass(struct node *n, struct req *r);
/* fault_keep_old: show the engine what is there before r writes. 0 or -errno. */
int fault_keep_old(struct node *n, const struct req *r);
/* fault_announce: tell the engine of ev, and sleep at its breakpoints. Yields. */
void fault_announce(struct fault_node *f, enum blk_event ev);
/* fault_trace_end: write what is left, and let go of the file. */
void fault_trace_end(struct fault_node *f);
/* fault_limit: -ENOTSUP for a ZERO that is shorter than the zero alignment that was asked for, so
 * that writes take its place, which the rules then see; else 0. */
int fault_limit(const struct node *n, const struct req *r);

#endif
