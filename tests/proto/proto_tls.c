/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The raw-byte client within TLS: see proto_tls.h.
 */
#include "tests/proto/proto_tls.h"

static struct tls_creds *creds;
struct authz *tls_authz;

void with_tls(struct proto *p, enum server_tls mode, bool psk, bool verify)
{
    struct tls_creds_opts o = {.verify_peer = verify};
    struct err *e = NULL;

    if (psk)
        o.psk_file = tls_file(tls_dir, "keys.psk");
    else
        o.dir = tls_dir;
    creds = tls_creds_load(&o, &e);
    if (!creds)
        fail_msg("%s", err_msg(e));
    p->server_opts.tls = mode;
    p->server_opts.creds = creds;
}

void tls_on(struct proto *p)
{
    with_tls(p, SERVER_TLS_ON, false, false);
}

void tls_required(struct proto *p)
{
    with_tls(p, SERVER_TLS_REQUIRE, false, false);
}

int tls_drop(void **state)
{
    tls_creds_unref(creds);
    creds = NULL;
    authz_unref(tls_authz);
    tls_authz = NULL;
    return 0;
}

void starttls(struct peer *c)
{
    peer_option(c, 5, NULL, 0);
    assert_int_equal(peer_reply(c, 5, NULL, 0, NULL), 1);
}

struct tls_peer_client go_over(struct peer plain, const struct tls_client_opts *co)
{
    static const struct tls_client_opts none;
    struct tls_peer_client c = {.plain = plain};

    starttls(&c.plain);
    c.tls.s = tls_client_new(plain.s, co ? co : &none);
    const char *error = tls_client_handshake(c.tls.s);
    if (error)
        fail_msg("%s", error);
    return c;
}

void tls_close(struct tls_peer_client *c)
{
    stream_free(c->tls.s);
    peer_close(&c->plain);
}

struct peer hello(struct proto *p)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    return c;
}

void must_serve(struct peer *c)
{
    assert_int_equal(peer_go(c, 7, "disk", NULL, NULL), 1);
    peer_request(c, 0, 3, 77, 0, 0);
    assert_int_equal(peer_simple(c, 77), 0);
}
