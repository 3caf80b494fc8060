/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening descriptors: each is one coroutine that accepts. They can come and go while the server
 * runs.
 */
#include <errno.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/io.h"
#include "server/server_priv.h"

#define ACCEPT_RETRY_NS (100 * NS_PER_MS) /* out of descriptors: let some connections end */

struct listener {
    struct server *srv;
    int fd;
    bool stopping;
    struct listener *prev, *next;
};

static void serve_fd(struct server *s, int fd)
{
    struct stream *stream = stream_from_fd(fd);
    struct err *e = NULL;
    unsigned suppressed;

    if (!stream)
        err_set(&e, ENOMEM, "out of memory for a connection");
    if (stream && server_serve(s, stream, &e))
        return;
    if (ratelimit_ok(&s->refuse_log, &suppressed)) {
        log_warn("a client was turned away: %s", err_msg(e));
        if (suppressed)
            log_warn("%u more were turned away since the last such message", suppressed);
    }
    err_free(e);
}

static void listener_free(struct listener *l)
{
    struct server *s = l->srv;

    if (l->prev)
        l->prev->next = l->next;
    else
        s->listeners = l->next;
    if (l->next)
        l->next->prev = l->prev;
    s->n_listeners--;
    close(l->fd);
    mem_free(l);
    co_queue_wake_all(&s->changed);
}

static void listener_run(void *arg)
{
    struct listener *l = arg;
    struct server *s = l->srv;
    unsigned suppressed;

    while (!l->stopping) {
        int fd = io_accept(l->fd, IO_NO_DEADLINE);

        if (fd >= 0) {
            serve_fd(s, fd);
        } else if (fd != -ECANCELED && fd != -ECONNABORTED && fd != -EAGAIN) {
            if (ratelimit_ok(&s->accept_log, &suppressed))
                log_warn("cannot accept a connection: %s", strerror(-fd));
            co_sleep_until(clock_ns() + ACCEPT_RETRY_NS);
        }
    }
    listener_free(l);
}

struct listener *server_listen(struct server *s, int fd, struct err **errp)
{
    if (s->stopping) {
        close(fd);
        err_set(errp, ESHUTDOWN, "the server is shutting down");
        return NULL;
    }
    struct listener *l = mem_new(struct listener);
    if (!l) {
        close(fd);
        err_set(errp, ENOMEM, "out of memory for a listener");
        return NULL;
    }
    l->srv = s;
    l->fd = fd;
    l->next = s->listeners;
    if (l->next)
        l->next->prev = l;
    s->listeners = l;
    s->n_listeners++;
    if (co_start(listener_run, l))
        return l;
    listener_free(l);
    err_set(errp, ENOMEM, "out of memory for a listener");
    return NULL;
}

void server_unlisten(struct listener *l)
{
    l->stopping = true;
    io_cancel_fd(l->fd);
}

void listeners_stop(struct server *s)
{
    struct listener *next;

    for (struct listener *l = s->listeners; l; l = next) {
        next = l->next;
        server_unlisten(l);
    }
}
