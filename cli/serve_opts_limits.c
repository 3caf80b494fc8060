/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: what clients may ask of it.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"

#define LONGEST_MS (UINT64_C(100) * 365 * 24 * 3600 * 1000)

/* A time of which 0 is no limit, for the server: `none`. */
static bool take_time(const char *arg, const char *what, uint64_t none, uint64_t *out,
                      struct err **errp)
{
    if (!parse_duration_ms(arg, what, out, errp))
        return false;
    *out = *out == 0 ? none : min_u64(*out, LONGEST_MS);
    return true;
}

static bool take_stall_timeout(const char *arg, struct server_opts *s, struct err **errp)
{
    if (!take_time(arg, "--stall-timeout", 0, &s->stall_timeout_ms, errp))
        return false;
    return s->stall_timeout_ms > 0 ||
           err_set(errp, EINVAL,
                   "--stall-timeout: '%s': there must be one, or clients could keep "
                   "what they hold for ever",
                   arg);
}

static bool take_bytes(const char *arg, const char *what, uint64_t min, uint64_t *out,
                       struct err **errp)
{
    char text[32];

    if (!parse_size(arg, what, out, errp))
        return false;
    return *out >= min || err_set(errp, EINVAL, "%s: '%s' is below %s", what, arg,
                                  size_to_text(min, text, sizeof(text)));
}

enum take serve_take_limits(int opt, const char *arg, struct serve_opts *o, struct err **errp)
{
    struct server_opts *s = &o->server;

    switch (opt) {
    case OPT_HANDSHAKE_LIMIT:
        return take_if(
            take_time(arg, "--handshake-limit", UINT64_MAX, &s->handshake_timeout_ms, errp));
    case OPT_IDLE_TIMEOUT:
        return take_if(take_time(arg, "--idle-timeout", 0, &s->idle_timeout_ms, errp));
    case OPT_STALL_TIMEOUT:
        return take_if(take_stall_timeout(arg, s, errp));
    case OPT_MAX_CLIENTS:
        return take_if(
            serve_parse_uint(arg, "--max-clients", 1, 200000, &s->max_connections, errp));
    case OPT_MAX_OPTIONS:
        return take_if(serve_parse_uint(arg, "--max-options", 4, 65536, &s->max_options, errp));
    case OPT_MAX_REQUESTS:
        return take_if(serve_parse_uint(arg, "--max-requests", 1, 65536, &s->max_requests, errp));
    case OPT_MAX_TOTAL_REQUESTS:
        return take_if(serve_parse_uint(arg, "--max-total-requests", 1, 1000000,
                                        &s->max_total_requests, errp));
    case OPT_MAX_BYTES:
        return take_if(take_bytes(arg, "--max-bytes", MiB, &s->max_bytes, errp));
    case OPT_MAX_CONNECTION_BYTES:
        return take_if(
            take_bytes(arg, "--max-connection-bytes", 64 * KiB, &s->max_conn_bytes, errp));
    }
    return TAKE_OTHER;
}
