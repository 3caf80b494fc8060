/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One client. A coroutine receives and runs its commands one after another; a second one sends
 * what piles up for it, so that neither a command nor an event waits for a client that does not
 * read. What piles up has bounds: past the one for answers no more commands are read; past the one
 * for events the client is cut off, as it would otherwise miss some and not know.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/control_priv.h"
#include "io/io.h"
#include "io/tls.h"

#define RECV_BYTES 16384
#define HANDSHAKE_NS (10 * NS_PER_S)

static bool out_append(struct out_buf *b, const char *text, size_t len)
{
    if (b->cap - b->len < len) {
        size_t cap = b->cap ? b->cap : 1024;
        char *grown;

        while (cap - b->len < len)
            cap *= 2;
        grown = mem_realloc(b->text, cap);
        if (!grown)
            return false;
        b->text = grown;
        b->cap = cap;
    }
    memcpy(b->text + b->len, text, len);
    b->len += len;
    return true;
}

static void cut_off(struct session *s, const char *why)
{
    if (s->broken)
        return;
    log_warn("control client %llu is cut off: %s", (unsigned long long)s->id, why);
    s->broken = s->closing = true;
    stream_shutdown(s->stream);
    co_queue_wake_all(&s->more);
    co_queue_wake_all(&s->drained);
}

void session_put(struct session *s, json_t *object, bool event)
{
    char *text = NULL;

    if (s->broken) {
        json_decref(object);
        return;
    }
    if (event && s->out.len >= SESSION_EVENT_BYTES) {
        json_decref(object);
        cut_off(s, "it does not read its events");
        return;
    }
    if (object)
        text = json_dumps(object, JSON_ENCODE_ANY | (s->pretty ? JSON_INDENT(4) : 0));
    json_decref(object);
    if (text && out_append(&s->out, text, strlen(text)) && out_append(&s->out, "\r\n", 2))
        co_queue_wake_all(&s->more);
    else
        cut_off(s, "out of memory for an answer");
    free(text); /* jansson's */
}

static void sender_run(void *arg)
{
    struct session *s = arg;
    int ret = 0;

    for (;;) {
        struct out_buf batch;
        struct iovec iov;

        while (s->out.len == 0 && !s->closing && !s->broken)
            co_queue_wait(&s->more);
        if (s->broken || s->out.len == 0)
            break;
        batch = s->out;
        s->out = (struct out_buf){0};
        iov = (struct iovec){batch.text, batch.len};
        s->sending = true;
        ret = stream_sendv(s->stream, &iov, 1, IO_NO_DEADLINE);
        s->sending = false;
        mem_free(batch.text);
        co_queue_wake_all(&s->drained);
        if (ret < 0)
            break;
    }
    if (ret < 0)
        s->broken = s->closing = true;
    stream_shutdown(s->stream); /* all is said: who still listens to the client is woken */
    s->sender_alive = false;
    co_queue_wake_all(&s->drained);
}

void session_end(struct session *s)
{
    s->closing = true;
    co_queue_wake_all(&s->more);
}

static void greet(struct session *s)
{
    json_t *version = qmp_version();
    json_t *hello = json_pack("{s:{s:O?,s:[]}}", "QMP", "version", version, "capabilities");

    json_decref(version);
    session_put(s, hello, false);
}

/* Answers that the client has not read yet: let it catch up before it may ask more. */
static void wait_for_room(struct session *s)
{
    while (!s->broken && s->sender_alive && s->out.len > SESSION_ANSWER_BYTES)
        co_queue_wait(&s->drained);
}

static void take_bytes(struct session *s, const char *buf, size_t len)
{
    for (size_t at = 0; at < len && !s->closing;) {
        json_t *value = NULL;
        struct err *e = NULL;
        bool found;

        at += json_stream_feed(&s->in, buf + at, len - at, &found, &value, &e);
        if (!found)
            break;
        wait_for_room(s);
        message_handle(s, value, e);
    }
}

static void unlink_session(struct session *s)
{
    struct control *c = s->ctl;
    struct session **at = &c->sessions;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    c->n_sessions--;
    co_queue_wake_all(&c->changed);
}

static void session_free(struct session *s)
{
    json_stream_clear(&s->in);
    mem_free(s->out.text);
    stream_free(s->stream);
    mem_free(s);
}

/* A client that shows no certificate does not get as far as the greeting. */
static bool shake_hands(struct session *s)
{
    struct err *e = NULL;

    if (tls_handshake(s->stream, clock_ns() + HANDSHAKE_NS, &e) && !tls_peer(s->stream)->subject)
        err_set(&e, EACCES, "it shows no certificate");
    if (!e)
        return true;
    log_warn("control client %llu: %s", (unsigned long long)s->id, err_msg(e));
    err_free(e);
    return false;
}

static void session_run(void *arg)
{
    struct session *s = arg;
    char *buf = mem_alloc(RECV_BYTES);

    if (s->tls && !shake_hands(s))
        s->closing = true;
    else
        greet(s);
    while (buf && !s->closing) {
        ssize_t n = stream_recv(s->stream, buf, RECV_BYTES, IO_NO_DEADLINE);

        if (n <= 0)
            break;
        take_bytes(s, buf, (size_t)n);
    }
    mem_free(buf);
    session_end(s);
    while (s->sender_alive)
        co_queue_wait(&s->drained);
    unlink_session(s);
    session_free(s);
}

bool session_start(struct control *c, struct stream *stream, struct tls_creds *creds, bool pretty,
                   struct err **errp)
{
    struct session *s;

    if (c->stopping || c->n_sessions >= c->max_sessions) {
        stream_free(stream);
        return c->stopping
                   ? err_set(errp, ESHUTDOWN, "shutting down")
                   : err_set(errp, EBUSY, "all %u control clients are there", c->max_sessions);
    }
    if (creds) {
        struct stream *plain = stream;

        stream = tls_server_new(plain, creds);
        if (!stream) {
            stream_free(plain);
            return err_set(errp, ENOMEM, "out of memory for a control client");
        }
    }
    s = mem_new(struct session);
    if (!s) {
        stream_free(stream);
        return err_set(errp, ENOMEM, "out of memory for a control client");
    }
    s->ctl = c;
    s->stream = stream;
    s->tls = creds;
    s->pretty = pretty;
    s->id = ++c->last_session;
    s->next = c->sessions;
    c->sessions = s;
    c->n_sessions++;
    s->sender_alive = true;
    if (!co_start(sender_run, s)) {
        unlink_session(s);
        session_free(s);
        return err_set(errp, ENOMEM, "out of memory for a control client");
    }
    if (co_start(session_run, s))
        return true;
    cut_off(s, "out of memory"); /* the sender ends at once and nobody else knows it */
    while (co_self() && s->sender_alive)
        co_queue_wait(&s->drained);
    unlink_session(s);
    session_free(s);
    return err_set(errp, ENOMEM, "out of memory for a control client");
}
