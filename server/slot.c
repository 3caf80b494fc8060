/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Request slots, and the sending of replies.
 *
 * A slot is made when a connection first needs it and is then reused, so a request allocates
 * nothing; an idle connection has none. Replies that become ready during one pass of the reactor
 * are queued; a hook at the end of the pass starts one coroutine that sends them all with one call,
 * headers and payloads in one vector. Because a slot is only free again once its reply was sent, a
 * client that does not read its replies stops being read from.
 */
#include <errno.h>

#include "base/mem.h"
#include "io/io.h"
#include "server/server_priv.h"

/* Whoever holds what others wait for and makes no progress gets less patience from now on, or a few
 * clients that read no replies could hold up all others. */
static void hurry_all(struct server *srv)
{
    for (struct conn *c = srv->conns; c; c = c->next)
        conn_hurry(c);
}

static void wait_for_slot(struct conn *c)
{
    struct server *srv = c->srv;

    while (c->slots_used >= srv->o.max_requests)
        co_queue_wait(&c->room);
    while (srv->slots_used >= srv->o.max_total_requests) {
        srv->starving++;
        if (co_queue_empty(&srv->slot_room))
            hurry_all(srv);
        co_queue_wait(&srv->slot_room);
        srv->starving--;
    }
}

struct slot *slot_get(struct conn *c)
{
    wait_for_slot(c);

    struct slot *s = c->free_slots;
    if (s) {
        c->free_slots = s->next;
    } else {
        s = mem_new(struct slot);
        if (!s)
            return NULL;
        s->conn = c;
    }
    c->slots_used++;
    c->srv->slots_used++;
    s->next = NULL;
    s->buf = NULL;
    s->n_iov = s->iov_at = 0;
    s->end = SLOT_END_NONE;
    return s;
}

/* The pool is out. */
static void *get_scarce(struct server *srv, size_t len)
{
    srv->starving++;
    hurry_all(srv);
    void *buf = bufpool_get(srv->pool, len);
    srv->starving--;
    return buf;
}

/* A share for each connection: one that does not read its replies must not hold the pool. */
void conn_reserve(struct conn *c, size_t len)
{
    while (c->bytes > 0 && c->bytes + len > c->srv->o.max_conn_bytes)
        co_queue_wait(&c->room);
    c->bytes += len;
}

void conn_unreserve(struct conn *c, size_t len)
{
    c->bytes -= len;
    if (!co_queue_empty(&c->room))
        co_queue_wake_all(&c->room);
}

bool slot_get_buf(struct slot *s, size_t len)
{
    struct conn *c = s->conn;
    struct server *srv = c->srv;

    conn_reserve(c, len);
    s->buf =
        bufpool_would_wait(srv->pool, len) ? get_scarce(srv, len) : bufpool_get(srv->pool, len);
    if (!s->buf) {
        conn_unreserve(c, len);
        return false;
    }
    s->buf_len = len;
    return true;
}

void slot_put_buf(struct slot *s)
{
    struct conn *c = s->conn;

    if (!s->buf)
        return;
    bufpool_put(c->srv->pool, s->buf, s->buf_len);
    s->buf = NULL;
    conn_unreserve(c, s->buf_len);
}

void slot_put(struct slot *s)
{
    struct conn *c = s->conn;

    slot_put_buf(s);
    if (s->wanted) {
        mem_free(s->wanted);
        s->wanted = NULL;
    }
    s->next = c->free_slots;
    c->free_slots = s;
    c->slots_used--;
    c->srv->slots_used--;
    co_queue_wake_one(&c->srv->slot_room);
    if (!co_queue_empty(&c->room))
        co_queue_wake_all(&c->room);
}

void slots_free(struct conn *c)
{
    while (c->free_slots) {
        struct slot *s = c->free_slots;
        c->free_slots = s->next;
        mem_free(s);
    }
}

void slot_send(struct slot *s)
{
    struct conn *c = s->conn;

    s->next = NULL;
    if (c->out_last)
        c->out_last->next = s;
    else
        c->out_first = s;
    c->out_last = s;
    if (!c->sending)
        reactor_defer(&c->send_hook);
}

static struct slot *out_pop(struct conn *c)
{
    struct slot *s = c->out_first;

    c->out_first = s->next;
    if (!c->out_first)
        c->out_last = NULL;
    return s;
}

/* Fill c->iov with at most SEND_BATCH_BYTES of replies. Slots that go out whole move to *sent. */
static int gather(struct conn *c, struct slot **sent)
{
    size_t left = SEND_BATCH_BYTES;
    int n = 0;

    while (c->out_first) {
        struct slot *s = c->out_first;

        for (; s->iov_at < s->n_iov; s->iov_at++) {
            struct iovec *v = &s->iov[s->iov_at];

            if (n == SEND_BATCH_IOV || left == 0)
                return n;
            c->iov[n] = *v;
            if (v->iov_len > left) {
                c->iov[n++].iov_len = left;
                v->iov_base = (uint8_t *)v->iov_base + left;
                v->iov_len -= left;
                return n;
            }
            left -= v->iov_len;
            n++;
        }
        out_pop(c);
        s->next = *sent;
        *sent = s;
        if (s->end) {
            c->end = s->end;
            return n;
        }
    }
    return n;
}

/* Returns how many there were. */
static unsigned put_list(struct slot *list)
{
    unsigned n = 0;

    for (; list; n++) {
        struct slot *s = list;
        list = s->next;
        slot_put(s);
    }
    return n;
}

static void conn_break(struct conn *c)
{
    c->broken = true;
    stream_shutdown(c->stream);
    while (c->out_first)
        slot_put(out_pop(c));
}

/* Called whenever a connection may have become quiet. The last thing that touches c. */
static void conn_settle(struct conn *c)
{
    if (!conn_quiet(c))
        return;
    if (conn_is_leaving(c) && c->phase == CONN_TRANSMISSION)
        stream_shutdown(c->stream);
    co_queue_wake_all(&c->quiet);
}

static void send_run(void *arg)
{
    struct conn *c = arg;
    bool more;
    int r;

    do {
        struct slot *sent = NULL;
        int n = gather(c, &sent);

        more = c->out_first != NULL; /* it did not fit */
        c->send_since_ns = clock_ns() | 1;
        conn_watch(c);
        r = n > 0 ? stream_sendv(c->stream, c->iov, n, IO_NO_DEADLINE) : 0;
        c->send_since_ns = 0;
        c->last_batch = put_list(sent);
        if (c->end && r == 0) {
            if (c->end == SLOT_END_RST)
                stream_reset(c->stream);
            r = -ECONNRESET;
        }
    } while (more && r == 0);
    c->sending = false;
    if (r < 0)
        conn_break(c);
    /* Not in the loop: what else becomes ready in this pass joins the next send. */
    if (c->out_first)
        reactor_defer(&c->send_hook);
    conn_settle(c);
}

static void send_hook(void *arg)
{
    struct conn *c = arg;

    if (c->sending)
        return;
    if (c->broken) {
        conn_break(c);
    } else if (c->out_first) {
        c->sending = true;
        if (co_start(send_run, c))
            return;
        c->sending = false;
        conn_break(c);
    }
    conn_settle(c);
}

void slot_send_init(struct conn *c)
{
    c->send_hook.fn = send_hook;
    c->send_hook.arg = c;
}
