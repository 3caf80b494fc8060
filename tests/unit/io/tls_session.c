/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One TLS connection in a test: see tls_session.h.
 */
#include "tests/unit/io/tls_session.h"

void session_accept(void *arg)
{
    struct session *s = arg;

    s->accepted = tls_handshake(s->server, SECOND_LATER, &s->error);
    if (!s->accepted)
        stream_shutdown(s->server);
    co_group_done(&s->group);
}

void session_begin(struct session *s)
{
    assert_true(stream_pipe(s->pipe_size ? s->pipe_size : 65536, s->below));
    s->server = tls_server_new(s->below[0], s->creds);
    assert_non_null(s->server);
    s->client = tls_client_new(s->below[1], &s->co);
    co_group_add(&s->group);
    assert_true(co_start(session_accept, s));
    s->client_error = tls_client_handshake(s->client);
    if (s->client_error)
        stream_shutdown(s->below[1]);
    co_group_wait(&s->group);
}

void session_end(struct session *s)
{
    stream_free(s->server);
    stream_free(s->client);
    s->client = NULL;
    stream_free(s->below[1]);
    err_free(s->error);
    s->error = NULL;
    s->accepted = false;
    s->client_error = NULL;
}

void session_must_work(struct session *s)
{
    char buf[4] = "";
    struct iovec v = {"ping", 4}, w = {"pong", 4};

    if (!s->accepted || s->client_error)
        fail_msg("server: %s; client: %s", err_msg(s->error), s->client_error);
    assert_int_equal(stream_sendv(s->client, &v, 1, SECOND_LATER), 0);
    assert_int_equal(stream_recv_all(s->server, buf, 4, SECOND_LATER), 0);
    assert_memory_equal(buf, "ping", 4);
    assert_int_equal(stream_sendv(s->server, &w, 1, SECOND_LATER), 0);
    assert_int_equal(stream_recv_all(s->client, buf, 4, SECOND_LATER), 0);
    assert_memory_equal(buf, "pong", 4);
}

struct tls_creds *session_creds(const char *folder, bool psk, bool verify)
{
    struct tls_creds_opts o = {.verify_peer = verify};
    struct err *e = NULL;

    if (psk)
        o.psk_file = tls_file(folder, "keys.psk");
    else
        o.dir = folder;
    struct tls_creds *c = tls_creds_load(&o, &e);
    if (!c)
        fail_msg("%s", err_msg(e));
    return c;
}

void session_run(void (*fn)(void *))
{
    struct reactor *r;

    assert_true(reactor_new(REACTOR_SIM, &r, NULL));
    assert_true(reactor_run_co(r, fn, NULL));
    assert_int_equal(co_alive(), 0);
    reactor_free(r);
}
