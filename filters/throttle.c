/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The throttle filter, and the groups whose limits its nodes share.
 *
 * Requests wait in order of arrival, reads and writes apart, at the node that they came through;
 * when the buckets let one go, the nodes of the group take turns, so that a busy one cannot starve
 * the rest. One timer per direction fires when the next may go. Flushes, block status and resizes
 * never wait.
 */
#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "filters/filters_priv.h"
#include "filters/throttle_priv.h"
#include "io/reactor.h"

struct waiter { /* on the stack of the coroutine that waits */
    struct waiter *next;
    struct co *co;
    uint64_t len;
};

struct queue {
    struct waiter *head, **tail;
};

struct member { /* the state of a throttle node */
    struct throttle_group *group;
    struct member *next, *prev; /* a ring */
    struct queue queue[2];      /* reads, writes */
    unsigned lifted;
};

struct side {
    struct throttle_group *group;
    bool write;
    struct timer timer;
    struct member *turn; /* whose request goes next, if it has one */
    unsigned waiting;    /* in the queues of all members */
};

struct throttle_group {
    unsigned refs, n_members;
    struct buckets buckets;
    struct side side[2];
};

struct throttle_group *throttle_group_new(const struct throttle_limits *limits, struct err **errp)
{
    struct throttle_group *g;

    if (!throttle_limits_check(limits, errp))
        return NULL;
    g = mem_new(struct throttle_group);
    if (!g) {
        err_set(errp, ENOMEM, "out of memory for a throttle group");
        return NULL;
    }
    g->refs = 1;
    g->buckets.limits = *limits;
    g->buckets.leaked_ns = clock_ns();
    g->side[0].group = g->side[1].group = g;
    g->side[1].write = true;
    return g;
}

struct throttle_group *throttle_group_ref(struct throttle_group *g)
{
    g->refs++;
    return g;
}

void throttle_group_unref(struct throttle_group *g)
{
    if (!g || --g->refs > 0)
        return;
    assert(g->n_members == 0);
    mem_free(g);
}

unsigned throttle_group_members(const struct throttle_group *g)
{
    return g->n_members;
}

static void let_go(struct side *s, struct member *m)
{
    struct queue *q = &m->queue[s->write];
    struct waiter *w = q->head;

    q->head = w->next;
    if (!q->head)
        q->tail = &q->head;
    s->waiting--;
    buckets_add(&s->group->buckets, s->write, w->len);
    co_wake(w->co);
}

/* Let go all whose time has come, and set the timer for the next. */
static void serve_side(void *arg)
{
    struct side *s = arg;
    int64_t now = clock_ns(), wait = 0;

    timer_cancel(&s->timer);
    while (s->waiting > 0) {
        wait = buckets_wait_ns(&s->group->buckets, s->write, now);
        /* Without memory for the timer: too early is better than never. */
        if (wait > 0 && timer_set(&s->timer, now + wait, serve_side, s))
            return;
        while (!s->turn->queue[s->write].head)
            s->turn = s->turn->next;
        let_go(s, s->turn);
        s->turn = s->turn->next;
    }
}

static void admit(struct member *m, bool write, uint64_t len)
{
    struct throttle_group *g = m->group;
    struct side *s = &g->side[write];
    struct queue *q = &m->queue[write];
    struct waiter w = {.co = co_self(), .len = len};
    int64_t now = clock_ns(), wait = 0;

    if (m->lifted || !buckets_limit(&g->buckets, write))
        return;
    if (s->waiting == 0)
        wait = buckets_wait_ns(&g->buckets, write, now);
    if (s->waiting == 0 && (wait == 0 || !timer_set(&s->timer, now + wait, serve_side, s))) {
        buckets_add(&g->buckets, write, len);
        return;
    }
    *q->tail = &w;
    q->tail = &w.next;
    s->waiting++;
    co_yield ();
}

static int throttle_submit(struct node *n, struct req *r)
{
    if (r->op == REQ_READ)
        admit(n->state, false, r->len);
    else if (r->op == REQ_WRITE || r->op == REQ_ZERO || r->op == REQ_DISCARD)
        admit(n->state, true, r->len);
    return node_submit(n->child[0], r);
}

void throttle_lift(struct node *n, bool lift)
{
    struct member *m = n->state;

    assert(lift || m->lifted > 0);
    m->lifted += lift ? 1 : -1U;
    for (unsigned i = 0; i < 2 && lift; i++) {
        while (m->queue[i].head)
            let_go(&m->group->side[i], m);
        serve_side(&m->group->side[i]);
    }
}

static void throttle_close(struct node *n)
{
    struct member *m = n->state;
    struct throttle_group *g = m->group;

    if (!g)
        return;
    for (unsigned i = 0; i < 2; i++) {
        assert(!m->queue[i].head);
        if (g->side[i].turn == m)
            g->side[i].turn = m->next == m ? NULL : m->next;
    }
    m->next->prev = m->prev;
    m->prev->next = m->next;
    g->n_members--;
    throttle_group_unref(g);
}

const struct driver throttle_driver = {
    .name = "throttle",
    .state_size = sizeof(struct member),
    .is_filter = true,
    .submit = throttle_submit,
    .close = throttle_close,
    .fua_ops = ALL_FUA,
};

struct node *throttle_open(struct node *child, struct throttle_group *g, struct err **errp)
{
    struct node *n = node_over(&throttle_driver, child, errp);
    struct member *m, *first = g->side[0].turn;

    if (!n)
        return NULL;
    m = n->state;
    m->group = throttle_group_ref(g);
    m->next = first ? first : m;
    m->prev = first ? first->prev : m;
    m->next->prev = m->prev->next = m;
    for (unsigned i = 0; i < 2; i++) {
        m->queue[i].tail = &m->queue[i].head;
        if (!first)
            g->side[i].turn = m;
    }
    g->n_members++;
    return n;
}
