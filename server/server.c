/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The server: its listeners, its limits, and its end.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/io.h"
#include "server/server_priv.h"

#define LOG_INTERVAL_NS (10 * NS_PER_S)

bool ratelimit_ok(struct ratelimit *r, unsigned *suppressed)
{
    int64_t now = clock_ns();

    if (now < r->next_ns) {
        r->suppressed++;
        return false;
    }
    *suppressed = r->suppressed;
    r->suppressed = 0;
    r->next_ns = now + LOG_INTERVAL_NS;
    return true;
}

static void set_defaults(struct server_opts *o)
{
    if (!o->max_connections)
        o->max_connections = 100;
    if (!o->max_requests)
        o->max_requests = 64;
    if (!o->max_total_requests)
        o->max_total_requests = 4096;
    if (!o->max_bytes)
        o->max_bytes = 64 * MiB;
    if (!o->max_conn_bytes)
        o->max_conn_bytes = o->max_bytes / 4;
    if (!o->max_options)
        o->max_options = 256;
    if (!o->handshake_timeout_ms)
        o->handshake_timeout_ms = 10000;
    if (!o->stall_timeout_ms)
        o->stall_timeout_ms = 60000;
    if (!o->scratch_limit)
        o->scratch_limit = GiB;
    if (!o->max_checkpoints)
        o->max_checkpoints = 64;
    if (!o->view_grace_ms)
        o->view_grace_ms = 30000;
}

struct server *server_new(const struct server_opts *opts, struct err **errp)
{
    struct server *s = mem_new(struct server);
    const char *dir = opts->scratch_dir;

    if (!dir || !*dir)
        dir = getenv("TMPDIR");
    if (!dir || !*dir)
        dir = "/var/tmp";
    if (s) {
        s->o = *opts;
        if (opts->creds)
            tls_creds_ref(opts->creds);
        set_defaults(&s->o);
        s->scratch_dir = mem_strdup(dir);
        s->pool = bufpool_new(s->o.max_bytes);
    }
    if (!s || !s->scratch_dir || !s->pool) {
        server_free(s);
        err_set(errp, ENOMEM, "out of memory for the server");
        return NULL;
    }
    s->o.scratch_dir = s->scratch_dir;
    if (s->o.tls != SERVER_TLS_OFF && !s->o.creds) {
        err_set(errp, EINVAL, "TLS needs credentials");
        server_free(s);
        return NULL;
    }
    if (s->o.max_checkpoints < 2) {
        err_set(errp, EINVAL, "max_checkpoints is %u; at least 2 are needed", s->o.max_checkpoints);
        server_free(s);
        return NULL;
    }
    return s;
}

void server_set_creds(struct server *s, struct tls_creds *creds)
{
    tls_creds_ref(creds);
    tls_creds_unref(s->o.creds);
    s->o.creds = creds;
}

bool server_add_export(struct server *s, const struct export_opts *opts, struct err **errp)
{
    return export_new(s, opts, errp);
}

bool server_serve(struct server *s, struct stream *stream, struct err **errp)
{
    if (s->stopping) {
        stream_free(stream);
        return err_set(errp, ESHUTDOWN, "the server is shutting down");
    }
    if (s->n_conns >= s->o.max_connections) {
        stream_free(stream);
        return err_set(errp, EBUSY, "all %u connections are taken", s->o.max_connections);
    }
    return conn_start(s, stream, errp);
}

void server_conn_gone(struct server *s, bool served)
{
    s->n_conns--;
    if (served)
        s->n_serving--;
    co_queue_wake_all(&s->changed);
    bool left = s->o.exit_on_last_disconnect && s->served_one && s->n_serving == 0;
    bool deserted = s->o.exit_when_deserted && s->n_conns == 0 && s->n_listeners == 0;
    if ((left || deserted) && s->idle_fn && !s->stopping)
        s->idle_fn(s->idle_arg);
}

void server_on_idle(struct server *s, void (*fn)(void *), void *arg)
{
    s->idle_fn = fn;
    s->idle_arg = arg;
}

unsigned server_connections(const struct server *s)
{
    return s->n_conns;
}

int server_stop(struct server *s, bool force)
{
    int result = 0;

    s->stopping = true;
    s->forced |= force;
    listeners_stop(s);
    for (struct conn *c = s->conns; c; c = c->next)
        conn_drain(c, force);
    if (force)
        co_queue_wake_all(&s->changed);
    while ((s->n_conns > 0 || s->n_listeners > 0) && !s->forced)
        co_queue_wait(&s->changed);
    if (s->forced) {
        co_reschedule(); /* idle connections need just a turn to end */
        return s->n_conns > 0 || s->n_listeners > 0 ? -EBUSY : 0;
    }
    for (struct export *e = s->exports; e; e = e->next) {
        checkpoint_drop_all(e);
        int r = e->read_only ? 0 : node_flush(e->top);
        if (r < 0) {
            log_error("export '%s': the last flush failed: %s", e->name, strerror(-r));
            result = result ? result : r;
        }
    }
    return result;
}

void server_free(struct server *s)
{
    if (!s)
        return;
    while (s->exports) {
        struct export *e = s->exports;
        s->exports = e->next;
        export_free(e);
    }
    bufpool_free(s->pool);
    tls_creds_unref(s->o.creds);
    mem_free(s->scratch_dir);
    mem_free(s);
}
