/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The volatile write cache as a node.
 *
 * A write is recorded in memory and acknowledged. Reads take what the medium has and lay what is
 * recorded over it; if in the meantime bytes went from the cache to the medium, they read again.
 * One coroutine at a time moves records to the medium. A write that would fill half the cache goes
 * past it, after everything before.
 *
 * A FUA write goes to the medium at once and also stays recorded, marked as durable: of older
 * writes of its bytes that are still volatile none may win against it after a power cut.
 *
 * It is no filter in the graph's sense, as its content is not its child's.
 */
#include "filters/cache.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "faults/crash.h"
#include "filters/cache_priv.h"
#include "io/co.h"

static int refuse(const struct cache_node *c)
{
    return c->cut ? -ESHUTDOWN : 0;
}

/* --- To the medium; with c->stage held --- */

/* What reads find in rec's range: all of it is in memory. */
static int destage(struct node *n, struct cache_rec *rec)
{
    struct cache_node *c = n->state;
    struct node *medium = n->child[0];
    size_t align = max_u64(medium->limits.mem_align, sizeof(void *));
    uint8_t *buf;
    int ret;

    if (rec->durable) {
        cache_on_medium(&c->c, rec);
        return 0;
    }
    buf = mem_alloc_aligned(rec->len, align);
    if (!buf)
        return -ENOMEM;
    pages_patch(&c->c.now, rec->off, buf, rec->len);
    if (bytes_are_zero(buf, rec->len)) {
        struct req r = {.op = REQ_ZERO,
                        .flags = REQ_MAY_UNMAP,
                        .kind = (enum req_kind)rec->kind,
                        .off = rec->off,
                        .len = rec->len};
        ret = node_submit(medium, &r);
    } else {
        ret = node_write_kind(medium, rec->off, buf, rec->len, 0, (enum req_kind)rec->kind);
    }
    mem_free(buf);
    if (ret == 0)
        cache_on_medium(&c->c, rec);
    return ret;
}

static void tidy(struct cache_node *c)
{
    if (cache_tidy(&c->c))
        c->gen++;
}

/* All records up to this number. A power cut stops it in the middle. */
static int destage_up_to(struct node *n, uint64_t number)
{
    struct cache_node *c = n->state;
    int ret = refuse(c);

    while (ret == 0 && c->c.head && c->c.head->number <= number) {
        ret = destage(n, c->c.head);
        if (ret == 0)
            ret = refuse(c);
    }
    tidy(c);
    return ret;
}

/* --- Requests --- */

static int cache_read(struct node *n, struct req *r)
{
    struct cache_node *c = n->state;
    uint64_t gen;
    int ret;

    do {
        gen = c->gen;
        ret = node_submit(n->child[0], r);
        if (ret < 0)
            return ret;
        pages_patch(&c->c.now, r->off, r->buf, r->len);
    } while (gen != c->gen && !c->cut);
    return refuse(c);
}

/* Make room, and what the policy wants. Errors of the medium come out at the next flush, as in a
 * disk that writes in the background: what could not be written stays. */
static int destage_some(struct node *n)
{
    struct cache_node *c = n->state;
    struct cache_rec *rec;
    int ret = 0;

    if (!cache_full(&c->c) && !cache_pick(&c->c))
        return 0;
    co_lock(&c->stage);
    rec = cache_pick(&c->c);
    if (!c->cut && rec)
        destage(n, rec);
    while (!c->cut && ret == 0 && cache_full(&c->c))
        ret = destage(n, c->c.head);
    tidy(c);
    co_unlock(&c->stage);
    return ret;
}

/* Past the cache, after everything that is in it. */
static int write_past(struct node *n, struct req *r)
{
    struct cache_node *c = n->state;
    int ret;

    co_lock(&c->stage);
    ret = destage_up_to(n, c->c.number);
    if (ret == 0)
        ret = node_submit(n->child[0], r);
    if (ret == 0 && c->c.head) /* written meanwhile: one of the two orders */
        ret = destage_up_to(n, c->c.number);
    co_unlock(&c->stage);
    return ret;
}

static int write_through(struct node *n, struct req *r)
{
    struct cache_node *c = n->state;
    struct req down = *r;
    int ret;

    co_lock(&c->stage);
    ret = refuse(c);
    if (ret == 0)
        ret = node_submit(n->child[0], &down);
    co_unlock(&c->stage);
    return ret;
}

static int cache_change(struct node *n, struct req *r)
{
    struct cache_node *c = n->state;
    const void *data = r->op == REQ_WRITE ? r->buf : NULL;
    bool fua = r->flags & REQ_FUA;
    int ret = 0;

    if (r->len > c->c.conf.size / 2) {
        ret = write_past(n, r);
        goto out;
    }
    if (fua)
        ret = write_through(n, r);
    if (ret == 0)
        ret = refuse(c);
    if (ret == 0)
        ret = cache_put(&c->c, r->off, data, r->len, r->kind, fua);
    if (ret == 0)
        ret = destage_some(n);
out:
    if (ret == 0 && r->op != REQ_DISCARD)
        n->size = max_u64(n->size, r->off + r->len);
    return ret;
}

static int cache_flush(struct node *n)
{
    struct cache_node *c = n->state;
    uint64_t number = c->c.number;
    int ret;

    if (c->c.conf.ignore_flush) {
        node_still_volatile(n);
        return 0;
    }
    co_lock(&c->stage);
    ret = destage_up_to(n, number);
    if (ret == 0)
        ret = node_flush(n->child[0]);
    co_unlock(&c->stage);
    return ret;
}

static int cache_status(struct node *n, struct req *r)
{
    struct cache_node *c = n->state;
    bool held;
    uint64_t run = pages_run(&c->c.now, r->off, r->len, &held);
    struct req part = *r;

    if (held)
        return extents_add(r->ext, run, 0) < 0 ? -ENOMEM : 0;
    part.len = run;
    return node_submit(n->child[0], &part);
}

static int cache_truncate(struct node *n, struct req *r)
{
    struct cache_node *c = n->state;
    int ret;

    co_lock(&c->stage);
    ret = destage_up_to(n, c->c.number);
    if (ret == 0)
        ret = node_submit(n->child[0], r);
    if (ret == 0)
        n->size = r->off;
    co_unlock(&c->stage);
    return ret;
}

static int cache_submit(struct node *n, struct req *r)
{
    struct cache_node *c = n->state;

    if (c->cut)
        return -ESHUTDOWN;
    switch (r->op) {
    case REQ_READ:
        return cache_read(n, r);
    case REQ_WRITE:
    case REQ_ZERO:
    case REQ_DISCARD:
        return cache_change(n, r);
    case REQ_FLUSH:
        return cache_flush(n);
    case REQ_STATUS:
        return cache_status(n, r);
    case REQ_TRUNCATE:
        return cache_truncate(n, r);
    default:
        return node_submit(n->child[0], r);
    }
}

void cache_wait_found(struct node *n)
{
    struct cache_node *c = n->state;

    while (c->finding)
        co_queue_wait(&c->found);
}

/* An orderly end loses nothing, also where flushes are ignored. */
static void cache_close(struct node *n)
{
    struct cache_node *c = n->state;
    int ret = 0;

    cache_wait_found(n);
    while (!c->cut && ret == 0 && c->c.head)
        ret = destage(n, c->c.head);
    if (ret < 0)
        log_error("%s: %u writes of the cache are lost", n->name, c->c.n);
    cache_clear(&c->c);
    crash_free(c->crash);
}

const struct driver cache_driver = {
    .name = "cache",
    .state_size = sizeof(struct cache_node),
    .submit = cache_submit,
    .close = cache_close,
    .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_DISCARD,
};

struct node *cache_open(struct node *child, const struct cache_conf *conf, struct err **errp)
{
    struct node *n = node_over(&cache_driver, child, errp);
    struct cache_node *c;

    if (!n)
        return NULL;
    c = n->state;
    c->c.conf = *conf;
    n->size = child->size;
    n->read_only = child->read_only;
    n->growable = child->growable;
    n->limits.cluster = child->limits.cluster;
    return n;
}

/* --- The cut --- */

/* Units that lie side by side are read together. */
static bool read_base(struct node *n, struct crash_set *s, uint8_t *buf, uint64_t room)
{
    struct node *medium = n->child[0];
    uint64_t off, next, len = 0, first = 0, i = 0;
    uint32_t unit;

    for (; crash_unit(s, i, &off, &unit); i = first) {
        for (len = unit, first = i + 1;
             len + unit <= room && crash_unit(s, first, &next, &unit) && next == off + len; first++)
            len += unit;
        memset(buf, 0, len);
        if (off < medium->size && node_read(medium, off, buf, min_u64(len, medium->size - off)) < 0)
            return false;
        for (uint64_t k = i; k < first; k++)
            if (!crash_base(s, k, buf + (k - i) * unit))
                return false;
    }
    return true;
}

static struct crash_set *find_states(struct node *n)
{
    struct cache_node *c = n->state;
    uint8_t *buf = mem_alloc_aligned(MiB, 4096);
    struct crash_set *s = NULL;

    co_lock(&c->stage);
    if (buf)
        s = crash_new(&c->c);
    if (s && (!read_base(n, s, buf, MiB) || !crash_find(s))) {
        crash_free(s);
        s = NULL;
    }
    n->flushed_gen = n->write_gen; /* nothing is left that a last flush could save */
    co_unlock(&c->stage);
    mem_free(buf);
    return s;
}

static void find_run(void *arg)
{
    struct node *n = arg;
    struct cache_node *c = n->state;

    c->crash = find_states(n);
    if (c->crash)
        log_warn("%s: the power is cut; of %u volatile writes %u different states may remain",
                 n->name, crash_volatile(c->crash), crash_count(c->crash));
    else
        log_error("%s: the power is cut, but there is no memory for what may remain", n->name);
    c->finding = false;
    co_queue_wake_all(&c->found);
}

void cache_cut(struct node *n)
{
    struct cache_node *c = n->state;

    if (c->cut)
        return;
    c->cut = c->finding = true;
    if (co_start(find_run, n))
        return;
    c->finding = false;
    log_error("%s: the power is cut, but there is no memory for what may remain", n->name);
}

void cache_powercut(struct node *n)
{
    cache_cut(n);
    cache_wait_found(n);
}

bool cache_is_cut(const struct node *n)
{
    const struct cache_node *c = n->state;

    return c->cut;
}

void cache_drop_unflushed(struct node *n)
{
    struct cache_node *c = n->state;

    co_lock(&c->stage);
    if (!c->cut) {
        cache_clear(&c->c);
        c->gen++;
    }
    co_unlock(&c->stage);
}
