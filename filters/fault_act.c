/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Carrying out what the fault engine decided about a request.
 *
 * Whatever reaches the child goes through its dispatcher, so a piece of a torn or short request may
 * have any offset and length. What is damaged on its way down is damaged in a copy: a write's data
 * belongs to whoever sent it.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "filters/cache.h"
#include "filters/fault_priv.h"
#include "io/reactor.h"

#define AT_REST_MAX ((uint64_t)(16 * MiB)) /* of one request */

static bool changes(enum req_op op)
{
    return op == REQ_WRITE || op == REQ_ZERO || op == REQ_DISCARD;
}

/* Where damage lies over the disk there is data, whatever the disk says. */
static int status_over(struct node *n, struct req *r)
{
    struct fault_node *f = n->state;
    bool held;
    uint64_t run = rules_rest_run(f->rules, f->layer, r->off, r->len, &held);
    struct req part = *r;

    if (held)
        return extents_add(r->ext, run, 0) < 0 ? -ENOMEM : 0;
    part.len = run;
    return node_submit(n->child[0], &part);
}

int fault_pass(struct node *n, struct req *r)
{
    struct fault_node *f = n->state;
    int ret;

    if (!rules_rest_any(f->rules, f->layer))
        return node_submit(n->child[0], r);
    if (r->op == REQ_STATUS)
        return status_over(n, r);
    if (changes(r->op))
        rules_rest_written(f->rules, f->layer, r->off, r->len);
    ret = node_submit(n->child[0], r);
    if (ret == 0 && r->op == REQ_READ)
        rules_rest_patch(f->rules, f->layer, r->off, r->buf, r->len);
    return ret;
}

/* A new buffer with what reads find there now. */
static int read_visible(struct node *n, uint64_t off, uint64_t len, uint8_t **out)
{
    size_t align = n->child[0]->limits.mem_align;
    struct req r = {.op = REQ_READ, .off = off, .len = len};
    int ret;

    *out = mem_alloc_aligned(len, align < sizeof(void *) ? sizeof(void *) : align);
    if (!*out)
        return -ENOMEM;
    r.buf = *out;
    ret = fault_pass(n, &r);
    if (ret < 0)
        mem_free(steal(*out));
    return ret;
}

int fault_keep_old(struct node *n, const struct req *r)
{
    struct fault_node *f = n->state;
    uint8_t *old;
    int ret;

    if (!changes(r->op) || r->len > AT_REST_MAX)
        return 0;
    ret = read_visible(n, r->off, r->len, &old);
    if (ret < 0)
        return ret;
    rules_give_old(f->rules, f->layer, r->off, old, r->len);
    mem_free(old);
    return 0;
}

/* The bytes [off, off + len) of r go to `to`. */
static int submit_part(struct node *n, const struct req *r, uint64_t off, uint64_t len, uint64_t to)
{
    struct req part = *r;

    part.off = to;
    part.len = len;
    if (r->buf)
        part.buf = (uint8_t *)r->buf + (off - r->off);
    return fault_pass(n, &part);
}

static int do_short(struct node *n, const struct req *r, const struct fault_decision *d)
{
    int ret = d->done ? submit_part(n, r, r->off, d->done, r->off) : 0;

    return ret < 0 ? ret : -d->error;
}

/* What would land outside of the disk lands nowhere. */
static bool misdirected_to(const struct node *n, const struct req *r,
                           const struct fault_decision *d, uint64_t *to)
{
    uint64_t size = n->child[0]->size;

    *to = r->off + (uint64_t)d->delta;
    return (d->delta >= 0 || r->off >= -(uint64_t)d->delta) && *to <= size && r->len <= size - *to;
}

static int too_long(struct node *n, struct req *r)
{
    log_warn("%s: a write of %" PRIu64 " bytes is too long to be damaged", n->name, r->len);
    return fault_pass(n, r);
}

/* --- Damage to the disk itself --- */

static int do_torn(struct node *n, const struct req *r, const struct fault_decision *d)
{
    uint64_t at = r->off, len;

    for (; fault_torn_next(&d->tear, r->off, r->len, &at, &len); at += len) {
        int ret = submit_part(n, r, at, len, at);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* What is at `to` comes to where r should go. */
static int bring_here(struct node *n, const struct req *r, uint64_t to)
{
    struct req back = {.op = REQ_WRITE, .off = r->off, .len = r->len, .kind = r->kind};
    uint8_t *there;
    int ret = read_visible(n, to, r->len, &there);

    if (ret < 0)
        return ret;
    back.buf = there;
    ret = fault_pass(n, &back);
    mem_free(there);
    return ret;
}

static int do_misdirect(struct node *n, struct req *r, const struct fault_decision *d)
{
    uint64_t to;
    int ret;

    if (!misdirected_to(n, r, d, &to))
        return 0;
    if (d->swap && r->len > AT_REST_MAX)
        return too_long(n, r);
    ret = d->swap ? bring_here(n, r, to) : 0;
    return ret < 0 ? ret : submit_part(n, r, r->off, r->len, to);
}

/* r's data, damaged, in a new buffer. */
static uint8_t *damaged_copy(const struct node *n, const struct req *r,
                             const struct fault_decision *d)
{
    size_t align = n->child[0]->limits.mem_align;
    uint8_t *buf = mem_alloc_aligned(r->len, align < sizeof(void *) ? sizeof(void *) : align);

    if (!buf)
        return NULL;
    memcpy(buf, r->buf, r->len);
    fault_damage(&d->damage, buf, r->off, r->len);
    return buf;
}

static int do_corrupt(struct node *n, struct req *r, const struct fault_decision *d)
{
    struct req bad = *r;
    int ret;

    bad.buf = damaged_copy(n, r, d);
    if (!bad.buf)
        return -ENOMEM;
    ret = fault_pass(n, &bad);
    mem_free(bad.buf);
    return ret;
}

static int do_on_disk(struct node *n, struct req *r, const struct fault_decision *d)
{
    switch (d->deed) {
    case FAULT_TORN:
        return do_torn(n, r, d);
    case FAULT_MISDIRECT:
        return do_misdirect(n, r, d);
    case FAULT_CORRUPT:
        return do_corrupt(n, r, d);
    default:
        return 0; /* lost */
    }
}

/* --- Damage that lies over the disk --- */

static void lay_over(struct node *n, const struct fault_decision *d, uint64_t off,
                     const uint8_t *buf, uint64_t len)
{
    struct fault_node *f = n->state;

    rules_rest_written(f->rules, f->layer, off, len); /* the newest damage counts */
    if (!rules_rest_set(f->rules, d->id, off, buf, len))
        log_debug("%s: no room to damage %" PRIu64 "+%" PRIu64, n->name, off, len);
}

/* Lay what was there before over the units that the tear loses. */
static void lay_torn(struct node *n, const struct req *r, const struct fault_decision *d,
                     const uint8_t *old)
{
    uint64_t lost = r->off, at = r->off, len;

    for (; fault_torn_next(&d->tear, r->off, r->len, &at, &len); at += len, lost = at)
        lay_over(n, d, lost, old + (lost - r->off), at - lost);
    lay_over(n, d, lost, old + (lost - r->off), r->off + r->len - lost);
}

static void lay_misdirected(struct node *n, const struct req *r, const struct fault_decision *d,
                            const uint8_t *old)
{
    uint64_t to;

    lay_over(n, d, r->off, old, r->len);
    if (!misdirected_to(n, r, d, &to))
        return;
    if (r->op == REQ_WRITE) {
        lay_over(n, d, to, r->buf, r->len);
    } else {
        uint8_t *zeros = mem_zalloc(r->len);

        if (zeros)
            lay_over(n, d, to, zeros, r->len);
        mem_free(zeros);
    }
}

/* The truth is written, and what reads find instead is laid over it. */
static int do_at_rest(struct node *n, struct req *r, const struct fault_decision *d)
{
    uint8_t *over = NULL;
    uint64_t to;
    int ret = 0;

    if (r->len > AT_REST_MAX)
        return too_long(n, r);
    if (d->deed == FAULT_CORRUPT)
        over = damaged_copy(n, r, d);
    else if (d->swap && misdirected_to(n, r, d, &to))
        ret = read_visible(n, to, r->len, &over);
    else
        ret = read_visible(n, r->off, r->len, &over);
    if (ret < 0 || !over)
        return ret < 0 ? ret : -ENOMEM;
    ret = fault_pass(n, r);
    if (ret == 0) {
        if (d->deed == FAULT_TORN)
            lay_torn(n, r, d, over);
        else if (d->deed == FAULT_MISDIRECT)
            lay_misdirected(n, r, d, over);
        else
            lay_over(n, d, r->off, over, r->len);
    }
    mem_free(over);
    return ret;
}

/* --- The rest --- */

static int read_wrong(struct node *n, struct req *r, const struct fault_decision *d)
{
    struct fault_node *f = n->state;
    int ret = fault_pass(n, r);

    if (ret < 0)
        return ret;
    if (d->deed == FAULT_OLD)
        rules_patch_old(f->rules, d->id, r->off, r->buf, r->len);
    else
        fault_damage(&d->damage, r->buf, r->off, r->len);
    return 0;
}

static int do_damage(struct node *n, struct req *r, const struct fault_decision *d)
{
    if (r->op == REQ_READ)
        return read_wrong(n, r, d);
    if (r->op == REQ_FLUSH)
        node_still_volatile(n);
    if (r->op == REQ_FLUSH || r->op == REQ_DISCARD)
        return 0; /* lost: nothing that anybody counted on */
    return d->on_disk ? do_on_disk(n, r, d) : do_at_rest(n, r, d);
}

/* On the stack of the one that hangs. */
struct hanging {
    struct co *co;
    struct hanging *next, **link; /* link NULL: it has been woken */
};

static void end_hang(void *arg)
{
    struct hanging *h = arg;

    if (!h->link)
        return; /* the server stopped in this pass */
    *h->link = h->next;
    if (h->next)
        h->next->link = h->link;
    h->link = NULL;
    co_wake(h->co);
}

void fault_end_hangs(struct fault_node *f)
{
    co_queue_wake_all(&f->hung);
    while (f->hanging)
        end_hang(f->hanging);
}

/* Not in the queue: a timer wakes one of many, which a queue could do in its order only. */
static int hang_for(struct fault_node *f, const struct fault_decision *d)
{
    struct hanging h = {.co = co_self(), .next = f->hanging, .link = &f->hanging};
    struct timer t = {0};

    if (!f->may_hang)
        return -ESHUTDOWN;
    if (h.next)
        h.next->link = &h.next;
    f->hanging = &h;
    if (!timer_set(&t, clock_ns() + (int64_t)d->hang_ms * NS_PER_MS, end_hang, &h))
        end_hang(&h);
    while (h.link)
        co_yield ();
    timer_cancel(&t);
    return f->may_hang ? -d->error : -ESHUTDOWN;
}

static int do_hang(struct fault_node *f, const struct fault_decision *d)
{
    if (d->hang_ms)
        return hang_for(f, d);
    while (f->may_hang)
        co_queue_wait(&f->hung);
    return -ESHUTDOWN;
}

static void log_deed(const struct node *n, const struct req *r, const struct fault_decision *d)
{
    static const char *const deeds[] = {
        [FAULT_PASS] = "delayed",      [FAULT_FAIL] = "failed",
        [FAULT_HANG] = "hangs",        [FAULT_SHORT] = "cut short",
        [FAULT_TORN] = "torn",         [FAULT_LOST] = "lost",
        [FAULT_CORRUPT] = "corrupted", [FAULT_MISDIRECT] = "misdirected",
        [FAULT_OLD] = "made old",      [FAULT_CUT] = "met by a power cut",
    };

    log_debug("%s: %s %" PRIu64 "+%" PRIu64 " %s by %s", n->name, req_op_name(r->op), r->off,
              r->len, deeds[d->deed], d->by ? d->by : "a delay");
}

static int do_deed(struct node *n, struct req *r, const struct fault_decision *d)
{
    switch (d->deed) {
    case FAULT_FAIL:
        return -d->error;
    case FAULT_HANG:
        return do_hang(n->state, d);
    case FAULT_SHORT:
        return do_short(n, r, d);
    case FAULT_TORN:
    case FAULT_LOST:
    case FAULT_MISDIRECT:
    case FAULT_CORRUPT:
    case FAULT_OLD:
        return do_damage(n, r, d);
    case FAULT_CUT:
        return -ESHUTDOWN;
    default:
        return fault_pass(n, r);
    }
}

int fault_carry_out(struct node *n, struct req *r, const struct fault_decision *d)
{
    struct fault_node *f = n->state;
    int ret;

    if (d->deed != FAULT_PASS || d->delay_ns)
        log_deed(n, r, d);
    if (d->delay_ns)
        co_sleep_until(clock_ns() + (int64_t)d->delay_ns);
    if (d->turn)
        co_reschedule();
    ret = do_deed(n, r, d);
    if (d->drop && f->cache)
        cache_drop_unflushed(f->cache);
    if (d->powercut && f->cache == n->child[0])
        cache_powercut(f->cache);
    else if (d->powercut && f->cache) /* it lies above, and may wait for this very request */
        cache_cut(f->cache);
    return ret;
}
