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

#include "base/log.h"
#include "base/mem.h"
#include "filters/fault_priv.h"
#include "io/reactor.h"

/* The bytes [off, off + len) of r go to `to`. */
static int submit_part(struct node *n, const struct req *r, uint64_t off, uint64_t len, uint64_t to)
{
    struct req part = *r;

    part.off = to;
    part.len = len;
    if (r->buf)
        part.buf = (uint8_t *)r->buf + (off - r->off);
    return node_submit(n->child[0], &part);
}

static int do_short(struct node *n, const struct req *r, const struct fault_decision *d)
{
    int ret = d->done ? submit_part(n, r, r->off, d->done, r->off) : 0;

    return ret < 0 ? ret : -d->error;
}

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

/* What would land outside of the disk lands nowhere. */
static int do_misdirect(struct node *n, const struct req *r, const struct fault_decision *d)
{
    uint64_t size = n->child[0]->size, to = r->off + (uint64_t)d->delta;

    if ((d->delta < 0 && r->off < -(uint64_t)d->delta) || to > size || r->len > size - to)
        return 0;
    return submit_part(n, r, r->off, r->len, to);
}

static int do_corrupt(struct node *n, struct req *r, const struct fault_decision *d)
{
    struct node *child = n->child[0];
    struct req bad = *r;
    size_t align = child->limits.mem_align;
    int ret;

    if (r->op == REQ_READ) {
        ret = node_submit(child, r);
        if (ret == 0)
            fault_damage(&d->damage, r->buf, r->off, r->len);
        return ret;
    }
    bad.buf = mem_alloc_aligned(r->len, align < sizeof(void *) ? sizeof(void *) : align);
    if (!bad.buf)
        return -ENOMEM;
    memcpy(bad.buf, r->buf, r->len);
    fault_damage(&d->damage, bad.buf, r->off, r->len);
    ret = node_submit(child, &bad);
    mem_free(bad.buf);
    return ret;
}

static int do_hang(struct fault_node *f)
{
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
    };

    log_debug("%s: %s %" PRIu64 "+%" PRIu64 " %s by %s", n->name, req_op_name(r->op), r->off,
              r->len, deeds[d->deed], d->by ? d->by : "a delay");
}

int fault_carry_out(struct node *n, struct req *r, const struct fault_decision *d)
{
    if (d->deed != FAULT_PASS || d->delay_ns)
        log_deed(n, r, d);
    if (d->delay_ns)
        co_sleep_until(clock_ns() + (int64_t)d->delay_ns);
    switch (d->deed) {
    case FAULT_PASS:
        break;
    case FAULT_FAIL:
        return -d->error;
    case FAULT_HANG:
        return do_hang(n->state);
    case FAULT_SHORT:
        return do_short(n, r, d);
    case FAULT_TORN:
        return do_torn(n, r, d);
    case FAULT_LOST:
        if (r->op == REQ_FLUSH)
            node_still_volatile(n);
        return 0;
    case FAULT_MISDIRECT:
        return do_misdirect(n, r, d);
    case FAULT_CORRUPT:
        return do_corrupt(n, r, d);
    }
    return node_submit(n->child[0], r);
}
