/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Recording what is done to a disk. Requests are made of whole sectors, as those to a real disk
 * are: what a client changes less of is read and written back, and recorded so.
 *
 * A change is done at once, but answered only after a while, as by a disk: a client that does not
 * wait for the answer before it asks for a flush must not find that the flush always covers it.
 */
#include <errno.h>

#include "filters/filters_priv.h"
#include "filters/overlay.h"
#include "io/reactor.h"

#define SECTOR 512
#define IN_FLIGHT_NS 100000

struct record_node {
    struct recording *r;
};

static int record_change(struct node *n, struct req *r, enum recorded what)
{
    struct record_node *s = n->state;
    struct recorded_entry e = {
        .what = what, .fua = r->flags & REQ_FUA, .off = r->off, .len = r->len, .data = r->buf};
    struct req down = {.op = r->op == REQ_WRITE ? REQ_WRITE : REQ_ZERO,
                       .kind = r->kind,
                       .off = r->off,
                       .len = r->len,
                       .buf = r->buf};
    int ret;

    if (!s->r->closed)
        e.ticket = ++s->r->tickets;
    ret = recording_put(s->r, &e);
    if (ret < 0)
        return ret;
    ret = node_submit(n->child[0], &down);
    if (ret < 0 && s->r->error == 0)
        s->r->error = ret;
    co_sleep_until(clock_ns() + IN_FLIGHT_NS);
    recording_acknowledge(s->r, e.ticket);
    return ret;
}

/* A shorter file reads as zeros where it was cut, should it grow again. */
static int record_truncate(struct node *n, struct req *r)
{
    struct record_node *s = n->state;
    struct recorded_entry e = {.what = RECORDED_ZERO, .off = r->off, .len = n->size - r->off};
    int ret = r->off < n->size ? recording_put(s->r, &e) : 0;

    return ret < 0 ? ret : node_submit(n->child[0], r);
}

static int record_flush(struct node *n)
{
    struct record_node *s = n->state;

    return recording_put(s->r, &(struct recorded_entry){.what = RECORDED_FLUSH});
}

static int record_submit(struct node *n, struct req *r)
{
    switch (r->op) {
    case REQ_WRITE:
        return record_change(n, r, RECORDED_WRITE);
    case REQ_ZERO:
        return record_change(n, r, RECORDED_ZERO);
    case REQ_DISCARD:
        if (r->len > RECORDED_TRIM_MAX)
            return 0;
        return record_change(n, r, RECORDED_TRIM);
    case REQ_FLUSH:
        return record_flush(n);
    case REQ_TRUNCATE:
        return record_truncate(n, r);
    default:
        return node_submit(n->child[0], r);
    }
}

const struct driver record_driver = {
    .name = "record",
    .state_size = sizeof(struct record_node),
    .is_filter = true,
    .submit = record_submit,
    .fua_ops = ALL_FUA,
};

struct node *record_open(struct node *child, struct recording *r, struct err **errp)
{
    struct node *n = node_over(&record_driver, child, errp);
    struct record_node *s;

    if (!n)
        return NULL;
    s = n->state;
    s->r = r;
    n->limits.align = SECTOR;
    return n;
}
