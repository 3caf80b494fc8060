/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The NBD leaf: requests become libnbd's commands on one connection, and a lost connection is made
 * anew by a coroutine of its own, with growing pauses, for as long as the node lives. Requests that
 * the loss cut short wait for that (reconnect_delay_s) and are sent again: all of them may be, as
 * each says where and what, and none counts on what was there before.
 */
#include "block/nbd.h"

#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/nbd_disk_priv.h"
#include "io/reactor.h"

#define HANDSHAKE_NS (30 * NS_PER_S)
#define PAUSE_MIN_NS (100 * NS_PER_MS)
#define PAUSE_MAX_NS (5 * NS_PER_S)

static void wake(void *arg)
{
    struct nbd_disk *d = arg;

    co_queue_wake_all(&d->changed);
}

/* What a connection shows must be the disk that we know. */
static bool check_same(struct node *n, struct nbd_link *l, struct err **errp)
{
    if ((uint64_t)nbd_get_size(l->h) != n->size)
        return err_set(errp, EIO, "its size was %" PRIu64 " bytes, and is %" PRId64, n->size,
                       nbd_get_size(l->h));
    if (!n->read_only && nbd_is_read_only(l->h) != 0)
        return err_set(errp, EROFS, "it is read-only now");
    if (nbd_get_block_size(l->h, LIBNBD_SIZE_MINIMUM) > (int64_t)n->limits.align)
        return err_set(errp, EIO, "its blocks have become larger");
    return true;
}

static void lost(void *arg);

static struct nbd_link *connect_again(struct node *n, struct err **errp)
{
    struct nbd_disk *d = n->state;
    struct nbd_link *l = nbd_dial(&d->opts, clock_ns() + HANDSHAKE_NS, &d->opening, errp);

    if (!l)
        return NULL;
    if (!d->closing && check_same(n, l, errp) && link_start(l, &d->pumps, lost, n, errp))
        return l;
    link_kill(l);
    link_unref(l);
    return NULL;
}

static void reconnect(void *arg)
{
    struct node *n = arg;
    struct nbd_disk *d = n->state;
    int64_t pause_ns = PAUSE_MIN_NS;
    struct timer t = {0};

    while (!d->closing && !d->link) {
        struct err *e = NULL;
        int64_t next = clock_ns() + pause_ns;

        d->link = connect_again(n, &e);
        if (d->link)
            break;
        log_debug("%s: %s", n->name, e ? err_msg(e) : "closing");
        err_free(e);
        pause_ns = (int64_t)min_u64((uint64_t)pause_ns * 2, PAUSE_MAX_NS);
        if (timer_set(&t, next, wake, d)) {
            while (!d->closing && clock_ns() < next)
                co_queue_wait(&d->changed);
            timer_cancel(&t);
        }
    }
    if (d->link) {
        log_info("%s: connected again", n->name);
        timer_cancel(&d->patience);
    }
    d->reconnecting = false;
    co_queue_wake_all(&d->changed);
}

static void start_reconnecting(struct node *n)
{
    struct nbd_disk *d = n->state;

    d->reconnecting = true;
    if (!co_start(reconnect, n))
        d->reconnecting = false;
}

/* The connection has gone: requests wait for the next. */
static void lost(void *arg)
{
    struct node *n = arg;
    struct nbd_disk *d = n->state;
    struct nbd_link *l = d->link;

    log_warn("%s: connection lost: %s", n->name, l->why ? l->why : strerror(l->code));
    d->link = NULL;
    link_unref(l);
    d->deadline_ns = clock_ns() + d->opts.reconnect_delay_s * NS_PER_S;
    if (!timer_set(&d->patience, d->deadline_ns, wake, d))
        d->deadline_ns = clock_ns();
    start_reconnecting(n);
}

/* The connection, once there is one; NULL if that takes too long. */
static struct nbd_link *await_link(struct node *n)
{
    struct nbd_disk *d = n->state;

    if (!d->link && !d->reconnecting) /* there was no memory for that */
        start_reconnecting(n);
    while (!d->link && d->reconnecting && clock_ns() < d->deadline_ns)
        co_queue_wait(&d->changed);
    return d->link;
}

static int nbd_submit(struct node *n, struct req *r)
{

    for (;;) {
        struct nbd_link *l = await_link(n);
        int ret;

        if (!l)
            return -EIO;
        ret = nbd_request(n, l, r);
        if (ret != -ENOTCONN)
            return ret;
    }
}

static void nbd_node_close(struct node *n)
{
    struct nbd_disk *d = n->state;

    d->closing = true;
    timer_cancel(&d->patience);
    if (d->opening)
        link_kill(d->opening);
    wake(d);
    while (d->reconnecting)
        co_queue_wait(&d->changed);
    if (d->link) {
        nbd_aio_disconnect(d->link->h, 0);
        link_kill(d->link);
        link_unref(d->link);
    }
    co_group_wait(&d->pumps);
    mem_free((char *)d->opts.path);
    mem_free((char *)d->opts.host);
    mem_free((char *)d->opts.port);
    mem_free((char *)d->opts.export);
}

const struct driver nbd_driver = {
    .name = "nbd",
    .state_size = sizeof(struct nbd_disk),
    .submit = nbd_submit,
    .close = nbd_node_close,
    .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO | 1u << REQ_DISCARD,
};

static bool copy_text(const char **to, const char *from)
{
    *to = from ? mem_strdup(from) : NULL;
    return *to || !from;
}

static bool copy_opts(struct nbd_disk *d, const struct nbd_opts *o, struct err **errp)
{
    d->opts = *o;
    d->opts.path = d->opts.host = d->opts.port = d->opts.export = NULL;
    return (copy_text(&d->opts.path, o->path) && copy_text(&d->opts.host, o->host) &&
            copy_text(&d->opts.port, o->port) && copy_text(&d->opts.export, o->export)) ||
           err_set(errp, ENOMEM, "out of memory for an NBD node");
}

static struct nbd_link *connect_first(struct nbd_disk *d, struct err **errp)
{
    int64_t now = clock_ns(), until = now + d->opts.open_timeout_s * NS_PER_S;
    int64_t deadline = now + (int64_t)max_u64(HANDSHAKE_NS, (uint64_t)(until - now));

    for (;;) {
        struct err *e = NULL;
        struct nbd_link *l = nbd_dial(&d->opts, deadline, &d->opening, &e);

        if (l || clock_ns() >= until) {
            err_move(errp, e);
            return l;
        }
        err_free(e);
        co_sleep_until(clock_ns() + PAUSE_MIN_NS);
    }
}

struct node *nbd_node_open(const struct nbd_opts *o, struct err **errp)
{
    char *name = o->path
                     ? mem_printf("nbd+unix:///%s?socket=%s", o->export ? o->export : "", o->path)
                     : mem_printf("nbd://%s:%s/%s", o->host, o->port, o->export ? o->export : "");
    struct node *n = name ? node_new(&nbd_driver, name, errp) : NULL;
    struct nbd_disk *d;

    if (!name)
        err_set(errp, ENOMEM, "out of memory for an NBD node");
    mem_free(name);
    if (!n)
        return NULL;
    d = n->state;
    if (copy_opts(d, o, errp) && (d->link = connect_first(d, errp)) &&
        nbd_learn(n, d->link, errp) && link_start(d->link, &d->pumps, lost, n, errp))
        return n;
    node_unref(n);
    return NULL;
}
