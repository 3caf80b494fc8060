/* SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD_OPT_STARTTLS, and what a client without TLS is told.
 *
 * Nothing that was said before TLS is remembered, as anybody could have said it: not replies in
 * structures, not selected contexts. And nothing that was received before is read as if it had come
 * through TLS: who sends on behind STARTTLS without waiting for the answer is disconnected.
 */
#include <errno.h>

#include "base/log.h"
#include "server/server_priv.h"

enum hs_next opt_starttls(struct conn *c, size_t len)
{
    uint32_t o = NBD_OPT_STARTTLS;

    if (len > 0) {
        hs_error(c, o, NBD_REP_ERR_INVALID, "STARTTLS carries no data");
    } else if (c->srv->o.tls == SERVER_TLS_OFF) {
        hs_error(c, o, NBD_REP_ERR_POLICY, "this server offers no TLS");
    } else if (c->peer) {
        hs_error(c, o, NBD_REP_ERR_INVALID, "TLS was started already");
    } else if (c->head != c->tail) {
        log_info("connection %llu: %zu bytes came behind STARTTLS before TLS began",
                 (unsigned long long)c->id, c->tail - c->head);
        return HS_CLOSE;
    } else {
        hs_reply(c, o, NBD_REP_ACK, NULL, 0, NULL, 0);
        return HS_START_TLS;
    }
    return HS_GO_ON;
}

static bool shake_hands(struct conn *c, struct err **errp)
{
    struct stream *tls = tls_server_new(c->stream, c->srv->o.creds);

    if (!tls)
        return err_set(errp, ENOMEM, "out of memory for TLS");
    c->stream = tls;
    if (!tls_handshake(tls, c->hs->deadline_ns, errp))
        return false;
    c->peer = tls_peer(tls);
    return true;
}

enum hs_next hs_start_tls(struct conn *c)
{
    char text[64];
    struct err *e = NULL;

    if (!shake_hands(c, &e)) {
        log_info("connection %llu: %s", (unsigned long long)c->id, err_msg(e));
        err_free(e);
        return HS_CLOSE;
    }
    tls_text(c->stream, text, sizeof(text));
    const char *who = c->peer->subject ? c->peer->subject : c->peer->user;
    log_info("connection %llu: %s%s%s", (unsigned long long)c->id, text, who ? ", client " : "",
             who ? who : "");
    c->structured = c->extended = false;
    conn_forget_meta(c);
    return HS_GO_ON;
}

bool tls_wanted(const struct conn *c)
{
    return c->srv->o.tls == SERVER_TLS_REQUIRE && !c->peer;
}

bool tls_admits(const struct conn *c, const struct export *e, struct err **errp)
{
    char text[WIRE_PRINTABLE_SIZE];
    struct wire_str name = {e->name, strlen(e->name)};

    if (e->tls_only && !c->peer)
        return err_set(errp, ENOKEY, "export '%s' is for clients with TLS only",
                       wire_printable(text, name));
    if (e->authz && !authz_allows(e->authz, c->peer))
        return err_set(errp, EACCES, "export '%s' is not for this client",
                       wire_printable(text, name));
    return true;
}
