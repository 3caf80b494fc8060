/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The handshake: fixed newstyle greeting and the option loop.
 *
 * Bounded in every way: one deadline for all of it (time that the server itself takes is given
 * back), a number of options, the length of an option's data. Data of unknown or overlong options
 * is skipped in place, so that the next option is read right. Each option's replies are collected
 * and sent with one call.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "io/io.h"
#include "server/server_priv.h"

#define SKIP_MAX (32 * MiB) /* longest option data that is skipped rather than disconnected */

static int64_t handshake_deadline(const struct server *s)
{
    if (s->o.handshake_timeout_ms >= (uint64_t)(INT64_MAX / NS_PER_MS - clock_ns() / NS_PER_MS))
        return IO_NO_DEADLINE;
    return clock_ns() + (int64_t)s->o.handshake_timeout_ms * NS_PER_MS;
}

void hs_slept(struct conn *c, int64_t since_ns)
{
    if (c->hs->deadline_ns != IO_NO_DEADLINE)
        c->hs->deadline_ns += clock_ns() - since_ns;
}

void hs_raw(struct conn *c, const void *p, size_t len)
{
    struct handshake *h = c->hs;

    if (h->out_failed)
        return;
    if (h->out_cap - h->out_len < len) {
        size_t cap = max_u64(h->out_len + len, max_u64(2 * h->out_cap, 512));
        uint8_t *out = mem_realloc(h->out, cap);
        if (!out) {
            h->out_failed = true;
            return;
        }
        h->out = out;
        h->out_cap = cap;
    }
    if (len > 0)
        memcpy(h->out + h->out_len, p, len);
    h->out_len += len;
}

void hs_reply(struct conn *c, uint32_t option, uint32_t type, const void *a, size_t a_len,
              const void *b, size_t b_len)
{
    uint8_t head[WIRE_OPTION_REPLY_SIZE];

    wire_put_option_reply(head, option, type, (uint32_t)(a_len + b_len));
    hs_raw(c, head, sizeof(head));
    hs_raw(c, a, a_len);
    hs_raw(c, b, b_len);
}

void hs_error(struct conn *c, uint32_t option, uint32_t type, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : min_u64((size_t)n, sizeof(text) - 1);
    hs_reply(c, option, type, text, len, NULL, 0);
    log_debug("connection %llu: option %u refused: %s", (unsigned long long)c->id, option, text);
}

void hs_error_err(struct conn *c, uint32_t option, struct err *e)
{
    uint32_t type = NBD_REP_ERR_UNKNOWN;

    switch (err_code(e)) {
    case EINVAL:
        type = NBD_REP_ERR_INVALID;
        break;
    case EBUSY:
    case EACCES:
        type = NBD_REP_ERR_POLICY;
        break;
    case ENOKEY:
        /* "The server MUST NOT send" it in response to others. */
        if (option == NBD_OPT_INFO || option == NBD_OPT_GO)
            type = NBD_REP_ERR_TLS_REQD;
        break;
    case ESHUTDOWN:
        type = NBD_REP_ERR_SHUTDOWN;
        break;
    case E2BIG:
        type = NBD_REP_ERR_TOO_BIG;
        break;
    }
    hs_error(c, option, type, "%s", err_msg(e));
    err_free(e);
}

static bool hs_flush(struct conn *c)
{
    struct handshake *h = c->hs;
    struct iovec v = {.iov_base = h->out, .iov_len = h->out_len};

    if (h->out_failed)
        return false;
    if (h->out_len == 0)
        return true;
    int r = stream_sendv(c->stream, &v, 1, h->deadline_ns);
    h->out_len = 0;
    return r == 0;
}

bool hs_enter(struct conn *c, struct target *t, struct err **errp)
{
    struct export *e = t->exp;

    if (e->removed)
        return err_set(errp, ESHUTDOWN, "export '%s' is being removed", e->name);
    if (e->max_connections && e->n_connections >= e->max_connections)
        return err_set(errp, EBUSY, "export '%s' serves its %u connections already", e->name,
                       e->max_connections);
    const struct target *m = &c->meta_target;
    if (m->exp != e || m->ckpt != t->ckpt || m->crash != t->crash || m->frozen != t->frozen)
        c->n_meta = 0; /* "it referred to the same export name" */
    c->target = *t;
    *t = (struct target){0};
    c->node = target_node(&c->target);
    stream_peer(c->stream, c->client, sizeof(c->client));
    c->origin = (struct req_origin){e->name, c->client, c->id};
    c->size = c->node->size;
    c->flags = target_flags(&c->target, c);
    if (c->n_meta == 0)
        c->flags &= (uint16_t)~NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    e->n_connections++;
    c->srv->n_serving++;
    c->srv->served_one = true;
    return true;
}

static void opt_structured(struct conn *c, size_t len)
{
    uint32_t o = NBD_OPT_STRUCTURED_REPLY;

    if (len > 0) {
        hs_error(c, o, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY carries no data");
    } else if (c->extended) {
        hs_error(c, o, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers were negotiated already");
    } else if (c->structured) {
        hs_error(c, o, NBD_REP_ERR_INVALID, "structured replies were negotiated already");
    } else {
        c->structured = true;
        hs_reply(c, o, NBD_REP_ACK, NULL, 0, NULL, 0);
    }
}

/* "NBD_OPT_EXTENDED_HEADERS": takes precedence over structured replies, which need not have been
 * asked for. */
static void opt_extended(struct conn *c, size_t len)
{
    uint32_t o = NBD_OPT_EXTENDED_HEADERS;

    if (len > 0) {
        hs_error(c, o, NBD_REP_ERR_INVALID, "EXTENDED_HEADERS carries no data");
    } else if (c->extended) {
        hs_error(c, o, NBD_REP_ERR_INVALID, "extended headers were negotiated already");
    } else {
        c->structured = c->extended = true;
        hs_reply(c, o, NBD_REP_ACK, NULL, 0, NULL, 0);
    }
}

static enum hs_next dispatch(struct conn *c, const struct wire_option *o, const uint8_t *data)
{
    if (c->srv->stopping && o->type != NBD_OPT_ABORT) {
        if (o->type == NBD_OPT_EXPORT_NAME)
            return HS_CLOSE;
        hs_error(c, o->type, NBD_REP_ERR_SHUTDOWN, "the server is shutting down");
        return HS_GO_ON;
    }
    if (tls_wanted(c) && o->type != NBD_OPT_ABORT && o->type != NBD_OPT_STARTTLS) {
        if (o->type == NBD_OPT_EXPORT_NAME)
            return HS_CLOSE;
        hs_error(c, o->type, NBD_REP_ERR_TLS_REQD, "this server wants TLS first");
        return HS_GO_ON;
    }
    switch (o->type) {
    case NBD_OPT_EXPORT_NAME:
        return opt_export_name(c, data, o->len);
    case NBD_OPT_ABORT:
        hs_reply(c, o->type, NBD_REP_ACK, NULL, 0, NULL, 0);
        return HS_CLOSE;
    case NBD_OPT_LIST:
        opt_list(c, o->len);
        return HS_GO_ON;
    case NBD_OPT_STARTTLS:
        return opt_starttls(c, o->len);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return opt_go(c, o->type, data, o->len);
    case NBD_OPT_STRUCTURED_REPLY:
        opt_structured(c, o->len);
        return HS_GO_ON;
    case NBD_OPT_EXTENDED_HEADERS:
        opt_extended(c, o->len);
        return HS_GO_ON;
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        opt_meta(c, o->type, data, o->len);
        return HS_GO_ON;
    }
    hs_error(c, o->type, NBD_REP_ERR_UNSUP, "option %u is not known here", o->type);
    return HS_GO_ON;
}

static bool option_known(uint32_t type)
{
    return type >= NBD_OPT_EXPORT_NAME && type <= NBD_OPT_EXTENDED_HEADERS && type != 4;
}

static enum hs_next one_option(struct conn *c)
{
    struct handshake *h = c->hs;
    struct wire_option o;

    if (conn_fill(c, WIRE_OPTION_SIZE, h->deadline_ns) < 0)
        return HS_CLOSE;
    if (!wire_get_option(c->rbuf + c->head, &o)) {
        log_info("connection %llu: an option with a wrong magic number", (unsigned long long)c->id);
        return HS_CLOSE;
    }
    c->head += WIRE_OPTION_SIZE;
    if (++h->n_options > c->srv->o.max_options) {
        log_info("connection %llu: more than %u options", (unsigned long long)c->id,
                 c->srv->o.max_options);
        return HS_CLOSE;
    }
    if (!h->fixed && o.type != NBD_OPT_EXPORT_NAME)
        return HS_CLOSE; /* the only option outside fixed newstyle */

    bool known = option_known(o.type);
    if (o.len > SKIP_MAX || (o.type == NBD_OPT_EXPORT_NAME && o.len > NBD_NAME_MAX))
        return HS_CLOSE;
    if (!known || o.len > RECV_BUF_SIZE) {
        if (conn_skip(c, o.len, h->deadline_ns) < 0)
            return HS_CLOSE;
        if (known) {
            hs_error(c, o.type, NBD_REP_ERR_TOO_BIG, "option data of %u bytes; at most %u are read",
                     o.len, (unsigned)RECV_BUF_SIZE);
            return HS_GO_ON;
        }
        return dispatch(c, &o, NULL);
    }
    if (conn_fill(c, o.len, h->deadline_ns) < 0)
        return HS_CLOSE;
    enum hs_next next = dispatch(c, &o, c->rbuf + c->head);
    c->head += o.len;
    return next;
}

enum hs_next handshake_run(struct conn *c)
{
    struct handshake *h = c->hs;
    uint8_t hello[WIRE_GREETING_SIZE];
    enum hs_next next = HS_GO_ON;

    h->deadline_ns = handshake_deadline(c->srv);
    wire_put_greeting(hello, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    hs_raw(c, hello, sizeof(hello));
    if (!hs_flush(c) || conn_fill(c, 4, h->deadline_ns) < 0)
        return HS_CLOSE;
    uint32_t flags = get_be32(c->rbuf + c->head);
    c->head += 4;
    if (flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
        log_info("connection %llu: unknown client flags 0x%x", (unsigned long long)c->id, flags);
        return HS_CLOSE;
    }
    h->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
    h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
    while (next == HS_GO_ON) {
        next = one_option(c);
        if (!hs_flush(c))
            next = HS_CLOSE;
        if (next == HS_START_TLS)
            next = hs_start_tls(c);
    }
    return next;
}
