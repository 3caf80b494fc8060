/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The control object: its listeners, and its end.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/blockdev.h"
#include "control/export.h"
#include "control/fault_watch.h"
#include "control/job.h"
#include "control/object.h"
#include "control/pull.h"
#include "io/io.h"
#include "io/socket.h"

#define ACCEPT_RETRY_NS (100 * NS_PER_MS)
#define MAX_FDS 16
#define LAST_WORDS_NS NS_PER_S /* for clients to read what was sent before the end */

static bool take_allowed_paths(struct control *c, const struct control_opts *opts,
                               struct err **errp)
{
    c->allow_path = mem_array(opts->n_allow_paths + 1, sizeof(char *));
    if (!c->allow_path)
        return err_set(errp, ENOMEM, "out of memory");
    for (unsigned i = 0; i < opts->n_allow_paths; i++) {
        char real[PATH_MAX];

        if (!realpath(opts->allow_paths[i], real))
            return err_set_errno(errp, errno, "--allow-path '%s'", opts->allow_paths[i]);
        c->allow_path[i] = mem_strdup(real);
        if (!c->allow_path[i])
            return err_set(errp, ENOMEM, "out of memory");
        c->n_allow_path++;
    }
    return true;
}

static void free_memory(struct control *c)
{
    for (unsigned i = 0; i < c->n_allow_path; i++)
        mem_free(c->allow_path[i]);
    mem_free(c->allow_path);
    mem_free(c);
}

struct control *control_new(const struct control_opts *opts, struct err **errp)
{
    struct control *c = mem_new(struct control);

    if (!c) {
        err_set(errp, ENOMEM, "out of memory");
        return NULL;
    }
    c->jobs.status = jobs_tell_status;
    c->jobs.ended = jobs_tell_end;
    c->jobs.arg = c;
    c->max_sessions = opts->max_sessions ? opts->max_sessions : 64;
    if (!take_allowed_paths(c, opts, errp)) {
        free_memory(c);
        return NULL;
    }
    return c;
}

static void unlink_listener(struct listener *l)
{
    struct listener **at = &l->ctl->listeners;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    l->ctl->n_listeners--;
    co_queue_wake_all(&l->ctl->changed);
    close(l->fd);
    if (l->path)
        unlink(l->path);
    mem_free(l->path);
    tls_creds_unref(l->creds);
    mem_free(l);
}

static void listener_run(void *arg)
{
    struct listener *l = arg;
    struct control *c = l->ctl;

    while (!c->stopping) {
        int fd = io_accept(l->fd, IO_NO_DEADLINE);
        struct stream *stream;
        struct err *e = NULL;

        if (fd < 0 && fd != -ECANCELED && fd != -ECONNABORTED && fd != -EAGAIN) {
            log_warn("cannot accept a control client: %s", strerror(-fd));
            co_sleep_until(clock_ns() + ACCEPT_RETRY_NS);
        }
        if (fd < 0)
            continue;
        stream = stream_from_fd(fd);
        if (!stream || !session_start(c, stream, l->creds, l->pretty, &e))
            log_warn("a control client was turned away: %s", stream ? err_msg(e) : "out of memory");
        err_free(e);
    }
    unlink_listener(l);
}

static bool listen_on(struct control *c, int fd, const char *path, struct tls_creds *creds,
                      bool pretty, struct err **errp)
{
    struct listener *l = mem_new(struct listener);
    char *copy = path ? mem_strdup(path) : NULL;

    if (!l || (path && !copy)) {
        close(fd);
        if (path)
            unlink(path);
        mem_free(l);
        mem_free(copy);
        return err_set(errp, ENOMEM, "out of memory for a control socket");
    }
    *l =
        (struct listener){.ctl = c, .next = c->listeners, .fd = fd, .path = copy, .pretty = pretty};
    l->creds = creds ? tls_creds_ref(creds) : NULL;
    c->listeners = l;
    c->n_listeners++;
    if (co_start(listener_run, l))
        return true;
    unlink_listener(l);
    return err_set(errp, ENOMEM, "out of memory for a control socket");
}

bool control_listen(struct control *c, int fd, bool pretty, struct err **errp)
{
    return listen_on(c, fd, NULL, NULL, pretty, errp);
}

bool control_listen_unix(struct control *c, const char *path, bool pretty, struct err **errp)
{
    int fd;

    return socket_listen_unix(path, 0600, &fd, errp) && listen_on(c, fd, path, NULL, pretty, errp);
}

bool control_listen_tcp(struct control *c, const char *host, uint16_t port, const char *creds_id,
                        bool pretty, struct err **errp)
{
    struct control_object *o = object_find(c, creds_id);
    int fds[MAX_FDS], n = 0;
    uint16_t bound;
    bool ok = true;

    if (!object_creds(c, creds_id, errp))
        return false;
    if (!o->proves_clients)
        return err_set(errp, EINVAL,
                       "Credentials '%s' do not ask clients for certificates, without which nobody "
                       "may use a control socket over TCP: use tls-creds-x509 with verify-peer=on",
                       creds_id);
    if (!socket_listen_tcp(host, port, fds, MAX_FDS, &n, &bound, errp))
        return false;
    for (int i = 0; i < n; i++) {
        if (ok)
            ok = listen_on(c, fds[i], NULL, o->creds, pretty, errp);
        else
            close(fds[i]);
    }
    return ok;
}

bool control_serve(struct control *c, struct stream *stream, bool pretty, struct err **errp)
{
    return session_start(c, stream, NULL, pretty, errp);
}

void control_on_quit(struct control *c, void (*fn)(void *), void *arg)
{
    c->quit_fn = fn;
    c->quit_arg = arg;
}

static void last_words_over(void *arg)
{
    struct control *c = arg;

    for (struct session *s = c->sessions; s; s = s->next)
        stream_shutdown(s->stream);
}

static void stop_sessions(struct control *c)
{
    struct timer alarm = {0};

    for (struct listener *l = c->listeners; l; l = l->next)
        io_cancel_fd(l->fd);
    for (struct session *s = c->sessions; s; s = s->next)
        session_end(s);
    if (!timer_set(&alarm, clock_ns() + LAST_WORDS_NS, last_words_over, c))
        last_words_over(c);
    while (c->n_sessions > 0 || c->n_listeners > 0)
        co_queue_wait(&c->changed);
    timer_cancel(&alarm);
}

static bool flush_nodes(struct control *c, struct err **errp)
{
    bool ok = true;

    for (struct graph_node *n = c->graph.nodes; n; n = n->next) {
        int ret = n->node && !n->node->read_only ? node_flush(n->node) : 0;

        if (ret < 0 && ok)
            ok = err_set_errno(errp, -ret, "node '%s': the last flush failed", n->name);
    }
    return ok;
}

bool control_stop(struct control *c, struct err **errp)
{
    bool ok;

    c->stopping = true;
    faults_may_hang(c, false); /* or what is held would hold everything */
    while (c->n_waits > 0)
        co_queue_wait(&c->changed);
    co_lock(&c->busy); /* a command that runs may end first */
    co_unlock(&c->busy);
    throttle_lift_all(&c->graph);
    pulls_stop(c);
    jobs_stop(&c->jobs);
    ok = exports_stop(c, errp);
    ok = flush_nodes(c, ok ? errp : NULL) && ok;
    if (ok && c->first_error)
        ok = err_move(errp, steal(c->first_error));
    fault_watches_clear(c);
    graph_clear(&c->graph);
    stop_sessions(c);
    return ok;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    err_free(c->first_error);
    fault_watches_clear(c);
    graph_clear(&c->graph);
    objects_clear(c);
    free_memory(c);
}
