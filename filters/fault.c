/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fault filter: a node around the fault engine, once or twice in a graph.
 *
 * One sits under the format, as QEMU's blkdebug does: the format announces events to it, which arm
 * rules, and every request that reaches it is checked against what is armed before the child sees
 * it. FUA is left to the dispatcher, which flushes this node after the write, so that rules for
 * flushes see those flushes too, as they do in QEMU.
 *
 * The other sits above the format, if a fault of that layer wants it. It hears no events, and it
 * hands FUA on, so that a fault can tell such writes by it.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "faults/replay.h"
#include "filters/cache.h"
#include "filters/fault_priv.h"
#include "io/co.h"
#include "io/reactor.h"

#define IO_NONE FAULT_IO_COUNT
/* In co_local()->events: an I/O has come since; the next event begins a new list. Pieces of one I/O
 * thus have the same events. */
#define TAKEN (UINT64_C(1) << 63)
_Static_assert(EV_COUNT < 63, "events are bits");

static const enum fault_io io_of_op[REQ_OP_COUNT] = {
    [REQ_READ] = FAULT_READ,       [REQ_WRITE] = FAULT_WRITE, [REQ_ZERO] = FAULT_WRITE_ZEROES,
    [REQ_DISCARD] = FAULT_DISCARD, [REQ_FLUSH] = FAULT_FLUSH, [REQ_STATUS] = FAULT_BLOCK_STATUS,
    [REQ_CACHE] = IO_NONE,         [REQ_TRUNCATE] = IO_NONE,
};

const struct rules_names *fault_names(void)
{
    static const char *const names[EV_COUNT] = {
#define X(id, name) name,
        BLOCK_EVENTS(X)
#undef X
    };
    static const char *const kinds[] = {
        [KIND_DATA] = "data",
        [KIND_HEADER] = "header",
        [KIND_L1] = "l1",
        [KIND_L2] = "l2",
        [KIND_REFTABLE] = "reftable",
        [KIND_REFBLOCK] = "refblock",
        [KIND_SNAPSHOT] = "snapshot",
        [KIND_BITMAP] = "bitmap",
    };
    static const struct rules_names all = {names, EV_COUNT, kinds, ARRAY_LEN(kinds)};

    return &all;
}

/* What came before a request in its operation, and on whose behalf it runs. */
static void tell_circumstances(const struct fault_node *f, struct fault_req *q)
{
    const struct co_local *l = co_local();
    const struct req_origin *o = l ? l->origin : NULL;

    q->at_ms = (uint64_t)(clock_ns() - f->start_ns) / NS_PER_MS;
    if (f->layer == FAULT_HOST && l)
        q->events = l->events & ~TAKEN;
    if (o) {
        q->export = o->export;
        q->client = o->client;
        q->conn = o->conn;
    }
}

/* blkdebug's rules come first: they are as they would be without the others. */
static int meet(struct node *n, struct req *r, enum fault_io io)
{
    struct fault_node *f = n->state;
    struct fault_decision d;
    struct rules_gen *gen;
    struct fault_req q = {
        .layer = f->layer,
        .op = io,
        .kind = r->kind,
        .fua = r->flags & REQ_FUA,
        .off = r->off,
        .len = r->len,
        .data = r->op == REQ_WRITE ? r->buf : NULL,
    };
    int ret;

    tell_circumstances(f, &q);
    if (f->layer == FAULT_HOST && !rules_idle(f->rules)) {
        struct fault_verdict v = rules_check_req(f->rules, &q);

        if (v.error) {
            if (!v.immediately)
                co_reschedule();
            return -v.error;
        }
    }
    gen = rules_enter(f->rules);
    rules_decide(f->rules, &q, &d);
    ret = d.keep_old ? fault_keep_old(n, r) : 0;
    if (ret == 0)
        ret = fault_carry_out(n, r, &d);
    rules_leave(f->rules, gen);
    return ret;
}

static int fault_submit(struct node *n, struct req *r)
{
    struct fault_node *f = n->state;
    enum fault_io io = io_of_op[r->op];

    if (f->limited && fault_limit(n, r) < 0)
        return -ENOTSUP;
    int ret;

    if (io == IO_NONE || !rules_watches(f->rules, f->layer, io))
        return node_submit(n->child[0], r);
    ret = meet(n, r, io);
    if (f->layer == FAULT_HOST && co_local())
        co_local()->events |= TAKEN;
    return ret;
}

/* What the dispatcher says of the node that it is about to write to concerns that node alone. */
static bool is_about_this_node(enum blk_event ev)
{
    switch (ev) {
    case EV_PWRITEV:
    case EV_PWRITEV_ZERO:
    case EV_PWRITEV_DONE:
    case EV_PWRITEV_RMW_HEAD:
    case EV_PWRITEV_RMW_TAIL:
    case EV_PWRITEV_RMW_AFTER_HEAD:
    case EV_PWRITEV_RMW_AFTER_TAIL:
        return true;
    default:
        return false;
    }
}

static void note_event(enum blk_event ev)
{
    struct co_local *l = co_local();

    if (!l)
        return;
    if (l->events & TAKEN)
        l->events = 0;
    l->events |= UINT64_C(1) << ev;
}

static void fault_event(struct node *n, enum blk_event ev)
{
    struct fault_node *f = n->state;

    if (rules_wanted_events(f->rules))
        note_event(ev);
    if (rules_listens(f->rules, ev))
        fault_announce(f, ev);
    if (!is_about_this_node(ev))
        node_event(n->child[0], ev);
}

static void log_replay(const struct rules *r)
{
    struct replay_info info;
    char line[512];

    if (!rules_replay_info(r, &info))
        return;
    log_at(replay_describe(&info, line, sizeof(line)) ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "%s",
           line);
}

static void fault_close(struct node *n)
{
    struct fault_node *f = n->state;
    char line[512];

    if (!f->rules)
        return; /* it was never opened */
    if (f->peer) {
        f->peer->cache = NULL;
        f->peer->peer = NULL;
    }
    for (unsigned i = 0; f->tells && i < rules_count(f->rules); i++) {
        rules_describe(f->rules, i, line, sizeof(line));
        log_info("%s: %s", n->name, line);
    }
    log_replay(f->rules);
    fault_trace_end(f);
    rules_free(f->rules);
}

const struct driver fault_driver = {
    .name = "fault",
    .state_size = sizeof(struct fault_node),
    .is_filter = true,
    .submit = fault_submit,
    .event = fault_event,
    .close = fault_close,
};

const struct driver fault_guest_driver = {
    .name = "fault-guest",
    .state_size = sizeof(struct fault_node),
    .is_filter = true,
    .bitmaps_below = true,
    .submit = fault_submit,
    .close = fault_close,
    .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO,
};

struct node *fault_open(struct node *child, struct rules *rules, struct err **errp)
{
    struct node *n = node_over(&fault_driver, child, errp);
    struct fault_node *f;

    if (!n)
        return NULL;
    f = n->state;
    f->rules = rules;
    f->tells = true;
    f->layer = FAULT_HOST;
    f->start_ns = clock_ns();
    rules_serve_layer(rules, FAULT_HOST);
    rules_event(rules, EV_NONE, NULL);
    return n;
}

struct node *fault_guest_open(struct node *child, struct rules *rules, struct err **errp)
{
    struct node *n = node_over(&fault_guest_driver, child, errp);
    struct fault_node *f;

    if (!n)
        return NULL;
    f = n->state;
    f->rules = rules_ref(rules);
    f->tells = !rules_serves(rules, FAULT_HOST);
    f->layer = FAULT_GUEST;
    f->start_ns = clock_ns();
    rules_serve_layer(rules, FAULT_GUEST);
    return n;
}

struct node *fault_stack_open(struct node *child, struct rules *rules, enum fault_layer layer,
                              struct err **errp)
{
    struct cache_conf conf = *rules_cache(rules);
    bool cached = conf.on && conf.layer == layer;
    struct node *top = child, *lower = fault_lower(child), *n;

    conf.seed = rules_seed(rules);
    if (cached)
        top = cache_open(child, &conf, errp);
    if (!top)
        return NULL;
    n = layer == FAULT_HOST ? fault_open(top, rules, errp) : fault_guest_open(top, rules, errp);
    if (!n) {
        if (cached)
            node_abandon(top);
        return NULL;
    }
    if (cached)
        fault_set_cache(n, top);
    else if (lower && fault_rules(lower) == rules)
        fault_set_cache(n, fault_cache(lower));
    if (cached && layer == FAULT_GUEST && lower && fault_rules(lower) == rules) {
        struct fault_node *below = lower->state, *above = n->state;

        below->cache = top; /* faults of both cut the power of the one disk */
        below->peer = above;
        above->peer = below;
    }
    return n;
}

void fault_set_cache(struct node *n, struct node *cache)
{
    struct fault_node *f = n->state;

    f->cache = cache;
}

void fault_let_hang(struct node *n, bool may)
{
    struct fault_node *f = n->state;

    if (may && f->may_hang)
        return; /* it serves already */
    f->may_hang = may;
    if (may) {
        f->start_ns = clock_ns();
        return;
    }
    fault_end_hangs(f);
    co_queue_wake_all(&f->stopped);
    if (f->layer == FAULT_HOST)
        while (fault_resume(n, NULL) == 0)
            ;
}
