/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The filters: nodes that stack above a child of the same size. Each constructor takes over the
 * reference to child on success only. None of the constructors yields.
 */
#ifndef FILTERS_FILTERS_H
#define FILTERS_FILTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "block/node.h"
#include "faults/fault.h"
#include "faults/options.h"
#include "faults/rules.h"

extern const struct driver fault_driver, fault_guest_driver, cbw_driver, cbw_view_driver,
    offset_driver, raw_driver;

/* fault_open: checks every request and event against rules (taken over on success; freed at close,
 * after its counters were logged). Sits under the format, as blkdebug does: the host layer. */
struct node *fault_open(struct node *child, struct rules *rules, struct err **errp);
/* fault_guest_open: the second filter, above the format, for faults of the guest layer. It takes a
 * reference of its own to rules, those of the first; without a first one it logs the counters. */
struct node *fault_guest_open(struct node *child, struct rules *rules, struct err **errp);
/* fault_stack_open: fault_open (layer host) or fault_guest_open, over a cache if rules have a
 * [cache] of this layer. */
struct node *fault_stack_open(struct node *child, struct rules *rules, enum fault_layer layer,
                              struct err **errp);
/* fault_let_hang: may faults hang requests of this fault node? No, as at first: those that hang
 * and those that would fail with -ESHUTDOWN. To be told when serving begins, and when it ends: a
 * request that hung while the image is opened or drained would hang everything. */
void fault_let_hang(struct node *n, bool may);
/* fault_set_limits: let n, fresh from fault_open, have these limits instead of its child's. EINVAL
 * with blkdebug's text where they do not go together. */
bool fault_set_limits(struct node *n, const struct fault_limits *limits, struct err **errp);
/* fault_set_cache: whose power faults cut (see filters/cache.h); borrowed, it lies below n. */
void fault_set_cache(struct node *n, struct node *cache);
/* Breakpoints, as blkdebug's, on a node of fault_open. fault_break: the next operation that
 * announces this event is held: -ENOENT for an unknown event. fault_resume: let the newest
 * operation that this tag holds go on; -ENOENT: none. fault_remove_break: forget what holds nothing
 * yet, and resume all of this tag; -ENOENT if there was nothing to forget, even if it resumed some.
 * fault_wait_break: yields until an operation is held by this tag; -ESHUTDOWN once the node may not
 * hold any (fault_let_hang). */
int fault_break(struct node *n, const char *event, const char *tag);
int fault_resume(struct node *n, const char *tag);
int fault_remove_break(struct node *n, const char *tag);
bool fault_is_suspended(const struct node *n, const char *tag);
int fault_wait_break(struct node *n, const char *tag);
/* Rules at run time (faults/live.h). fault_find: the first fault filter at or below n, down to the
 * file; NULL: none. fault_lower: the one of the host layer, which breakpoints want. fault_lowest:
 * that, or the first if there is none of the host layer. fault_rules:
 * its engine, which the filters of both layers share. fault_adopt, fault_replace: as rules_adopt
 * and rules_replace, and what listens for the event "none" hears it. fault_cache: as set; NULL:
 * none. */
struct node *fault_find(struct node *n);
struct node *fault_lower(struct node *n);
struct node *fault_lowest(struct node *n);
struct rules *fault_rules(struct node *n);
bool fault_adopt(struct node *n, struct rules *fresh, const char *before, struct err **errp);
bool fault_replace(struct node *n, struct rules *fresh, struct err **errp);
struct node *fault_cache(struct node *n);
/* fault_trace_start: record all that n (of the host layer) and the other filters of its engine hear
 * and decide, in a new file of at most limit bytes (faults/trace.h), until n is closed. */
bool fault_trace_start(struct node *n, const char *path, uint64_t limit, struct err **errp);
/* fault_names: the block layer's names of events and kinds, as rules_new wants them. */
const struct rules_names *fault_names(void);

/* offset_open: bytes [off, off + size) of child; size 0 = to the end. read_only adds protection. */
struct node *offset_open(struct node *child, uint64_t off, uint64_t size, bool read_only,
                         struct err **errp);

/* raw_open: all of child as it is. read_only adds protection. */
struct node *raw_open(struct node *child, bool read_only, struct err **errp);

/* cbw_open: copy before write: frozen views of child while it is written through this node. With no
 * view it only forwards. */
struct node *cbw_open(struct node *child, struct err **errp);

struct cbw_view_opts {
    uint32_t cluster;       /* copy unit in bytes, power of two, 512 .. 16 MiB; 0 = 64 KiB */
    uint64_t scratch_limit; /* most bytes of old data to hold; past it the view breaks (its reads
                               then fail with -EIO, also those that are under way) rather than make
                               guest writes fail. Zeros and holes take none of it. */
    int scratch_fd;         /* an unlinked file for the scratch, owned by the view after success;
                               below 0: memory */
    struct node *scratch;   /* or this node, borrowed: old data is written to it where it was on the
                               disk, zeros too: a copy that others make as well */
    uint32_t scratch_flags; /* of writes to it: REQ_COMPRESSED */
    bool must_keep; /* a change through the cbw node fails when what it destroys cannot be kept;
                       else the view breaks. For the only view of a cbw node */
    void (*broken)(void *arg); /* the view breaks now; NULL: nobody wants to know. Does not yield */
    void (*filling)(void *arg); /* the scratch holds four fifths of its limit: once, as above */
    void *arg;
};
/* cbw_view_open: a read-only node that shows cbw's content of this instant. The caller has drained
 * cbw around the call. Its size is that of this instant; its STATUS never fails, even when it is
 * broken (all is data then). Any number of views may be alive; an older one reads what it lacks
 * through newer ones, so each guest write copies at most once. Dropping the last reference hands
 * what older views need over to them. */
struct node *cbw_view_open(struct node *cbw, const struct cbw_view_opts *opts, struct err **errp);
/* cbw_guard: let cbw copy before every change of its child, made by whomever, though cbw is in
 * nobody's way to it. The child is drained. cbw_unguard: no more; yields. */
void cbw_guard(struct node *cbw);
void cbw_unguard(struct node *cbw);
/* cbw_set_timeout: a change waits for no copy longer than this (0: for ever); what comes then is as
 * if the copy had failed with -ETIMEDOUT. cbw_wait: for copies that were left behind so. Yields. */
void cbw_set_timeout(struct node *cbw, uint64_t timeout_ns);
void cbw_wait(struct node *cbw);
/* cbw_view_deny: nobody will read whole units of this range (-EACCES; STATUS: a hole) and nothing
 * of them is kept. 0 or -ENOMEM. cbw_view_release: the same for what may be in the scratch already,
 * where its room is given back; nothing happens while an older view needs it. Yields. */
int cbw_view_deny(struct node *view, uint64_t off, uint64_t len);
int cbw_view_release(struct node *view, uint64_t off, uint64_t len);
/* cbw_view_put: the node that is its scratch has the view's content of whole units from off on: it
 * needs no copy any more. Also for what nobody will ever want to read. cbw_view_next: the run from
 * off (< size) on of which the scratch has all, or nothing: its end in bytes. */
void cbw_view_put(struct node *view, uint64_t off, uint64_t len);
uint64_t cbw_view_next(const struct node *view, uint64_t off, bool *has);
/* cbw_view_done: how many bytes of the disk the scratch has. */
uint64_t cbw_view_done(const struct node *view);
/* cbw_view_error: why it broke: -errno; 0: it has not. *reading is set then: the disk, and not the
 * scratch. */
int cbw_view_error(const struct node *view, bool *reading);
/* cbw_view_broken: true once the scratch limit or an error has broken the view. */
bool cbw_view_broken(const struct node *view);
uint64_t cbw_view_scratch(const struct node *view); /* bytes held */

#endif
