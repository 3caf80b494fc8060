/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: where it listens, and what clients may ask of it.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"

static bool parse_port(const char *text, uint16_t *out, struct err **errp)
{
    unsigned v;

    if (!serve_parse_uint(text, "--port", 0, 65535, &v, errp))
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool take_handshake_limit(const char *arg, struct server_opts *s, struct err **errp)
{
    if (!parse_duration_ms(arg, "--handshake-limit", &s->handshake_timeout_ms, errp))
        return false;
    if (s->handshake_timeout_ms == 0)
        s->handshake_timeout_ms = UINT64_MAX;
    return true;
}

static bool take_max_bytes(const char *arg, struct server_opts *s, struct err **errp)
{
    if (!parse_size(arg, "--max-bytes", &s->max_bytes, errp))
        return false;
    return s->max_bytes >= MiB || err_set(errp, EINVAL, "--max-bytes: '%s' is below 1M", arg);
}

enum take serve_take_listen(int opt, const char *arg, struct serve_opts *o,
                            struct serve_choices *ch, struct err **errp)
{
    switch (opt) {
    case 'k':
        o->socket_path = arg;
        return TAKE_OK;
    case 'p':
        ch->tcp = true;
        return take_if(parse_port(arg, &o->port, errp));
    case 'b':
        ch->tcp = true;
        o->host = arg;
        return TAKE_OK;
    case OPT_HANDSHAKE_LIMIT:
        return take_if(take_handshake_limit(arg, &o->server, errp));
    case OPT_MAX_REQUESTS:
        return take_if(
            serve_parse_uint(arg, "--max-requests", 1, 65536, &o->server.max_requests, errp));
    case OPT_MAX_BYTES:
        return take_if(take_max_bytes(arg, &o->server, errp));
    }
    return TAKE_OTHER;
}

enum take serve_take_export(int opt, const char *arg, struct serve_opts *o,
                            struct serve_choices *ch, struct err **errp)
{
    switch (opt) {
    case 'x':
        o->name = arg;
        return TAKE_OK;
    case 'D':
        o->description = arg;
        return TAKE_OK;
    case 'e':
        return take_if(serve_parse_uint(arg, "--shared", 0, 100000, &o->max_connections, errp));
    }
    return TAKE_OTHER;
}
