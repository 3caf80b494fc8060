/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: what clients may ask of it.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"

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

enum take serve_take_limits(int opt, const char *arg, struct serve_opts *o, struct err **errp)
{
    switch (opt) {
    case OPT_HANDSHAKE_LIMIT:
        return take_if(take_handshake_limit(arg, &o->server, errp));
    case OPT_MAX_CLIENTS:
        return take_if(
            serve_parse_uint(arg, "--max-clients", 1, 200000, &o->server.max_connections, errp));
    case OPT_MAX_REQUESTS:
        return take_if(
            serve_parse_uint(arg, "--max-requests", 1, 65536, &o->server.max_requests, errp));
    case OPT_MAX_BYTES:
        return take_if(take_max_bytes(arg, &o->server, errp));
    }
    return TAKE_OTHER;
}
