/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Draining a node: a moment in which no request runs in it.
 *
 * node_submit counts requests and stops at the gate while the node is drained. What a request that
 * runs already sends further down, or does again on its own node (padding, the flush after a FUA
 * write), does not pass the gate: it must end for the drain to end.
 *
 * Who waits at the gate does so with a pass, on a list of the node: if another node takes this
 * one's place meanwhile, all passes are made out to that one. A pass is on the list until the
 * request is let in, also between its being woken and its going on.
 */
#include "block/submit_priv.h"

#include <assert.h>

struct gate_pass { /* on the stack of the coroutine that waits */
    struct node *at;
    struct gate_pass *next, **link;
};

/* Not inline: the compiler would see the list hold what is on a stack, and not see that pass_take
 * ends that. */
__attribute__((noinline)) static void pass_put(struct gate_pass *p, struct node *n)
{
    p->at = n;
    p->next = n->passes;
    p->link = &n->passes;
    if (p->next)
        p->next->link = &p->next;
    n->passes = p;
}

static void pass_take(struct gate_pass *p)
{
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
}

struct node *gate_enter(struct node *n, const struct req *r)
{
    struct gate_pass p;

    pass_put(&p, n);
    do {
        while (p.at->drained)
            co_queue_wait(&p.at->drain_waiters);
    } while (p.at->guards && !(r->flags & REQ_KEEP) && guards_act(p.at, r));
    pass_take(&p);
    return p.at;
}

void node_redirect(struct node *from, struct node *to)
{
    assert(from->drained && to->drained && from != to);
    while (from->passes) {
        struct gate_pass *p = from->passes;

        pass_take(p);
        pass_put(p, to);
    }
    co_queue_wake_all(&from->drain_waiters); /* to wait there */
}

void node_drain_begin(struct node *n)
{
    n->drained++;
    while (n->in_flight)
        co_queue_wait(&n->idle_waiters);
}

void node_drain_end(struct node *n)
{
    assert(n->drained > 0);
    if (--n->drained == 0)
        co_queue_wake_all(&n->drain_waiters);
}
