/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The options of serve, on the command line and as keys of a configuration file. What --help says
 * about them is in serve_opts_help.c.
 */
#include <string.h>

#include "base/bytes.h"
#include "cli/serve_opts_priv.h"

const char serve_short_options[] = "-:k:p:b:x:D:e:trf:l:B:Ano:sT:vhV";

const struct serve_option serve_options[] = {
    {"help", optional_argument, 'h', SCOPE_COMMAND, 0},
    {"version", no_argument, 'V', SCOPE_COMMAND, 0},
    {"config", required_argument, OPT_CONFIG, SCOPE_COMMAND, 0},
    {"check", no_argument, OPT_CHECK, SCOPE_COMMAND, 0},
    {"run", required_argument, OPT_RUN, SCOPE_COMMAND, 0},
    {"exit-with-parent", no_argument, OPT_EXIT_WITH_PARENT, SCOPE_COMMAND, 0},
    {"foreground", no_argument, OPT_FOREGROUND, SCOPE_SERVER, 0},
    {"trace", required_argument, 'T', SCOPE_SERVER, SERVE_MANY},
    {"pidfile", required_argument, OPT_PID_FILE, SCOPE_SERVER, SERVE_PATH},
    {"aio", required_argument, OPT_AIO, SCOPE_EXPORT, 0},
    {"discard-changes", no_argument, 's', SCOPE_EXPORT, 0},
    {"image-opts", no_argument, OPT_IMAGE_OPTS, SCOPE_EXPORT, 0},
    {"socket", required_argument, 'k', SCOPE_SERVER, SERVE_PATH | SERVE_MANY},
    {"unix", required_argument, 'k', SCOPE_SERVER, SERVE_PATH | SERVE_MANY},
    {"port", required_argument, 'p', SCOPE_SERVER, SERVE_MANY},
    {"bind", required_argument, 'b', SCOPE_SERVER, SERVE_MANY},
    {"ipaddr", required_argument, 'b', SCOPE_SERVER, SERVE_MANY},
    {"persistent", no_argument, 't', SCOPE_SERVER, 0},
    {"verbose", no_argument, 'v', SCOPE_SERVER, SERVE_MANY},
    {"scratch-dir", required_argument, OPT_SCRATCH_DIR, SCOPE_SERVER, SERVE_PATH},
    {"scratch-limit", required_argument, OPT_SCRATCH_LIMIT, SCOPE_SERVER, 0},
    {"handshake-limit", required_argument, OPT_HANDSHAKE_LIMIT, SCOPE_SERVER, 0},
    {"max-requests", required_argument, OPT_MAX_REQUESTS, SCOPE_SERVER, 0},
    {"max-bytes", required_argument, OPT_MAX_BYTES, SCOPE_SERVER, 0},
    {"max-checkpoints", required_argument, OPT_MAX_CHECKPOINTS, SCOPE_SERVER, 0},
    {"view-grace", required_argument, OPT_VIEW_GRACE, SCOPE_SERVER, 0},
    {"pid-file", required_argument, OPT_PID_FILE, SCOPE_SERVER, SERVE_PATH},
    {"sandbox", required_argument, OPT_SANDBOX, SCOPE_SERVER, 0},
    {"allow-path", required_argument, OPT_ALLOW_PATH, SCOPE_SERVER, SERVE_PATH | SERVE_MANY},
    {"user", required_argument, OPT_USER, SCOPE_SERVER, 0},
    {"group", required_argument, OPT_GROUP, SCOPE_SERVER, 0},
    {"control", required_argument, OPT_CONTROL, SCOPE_SERVER, SERVE_PATH},
    {"fork", no_argument, OPT_FORK, SCOPE_SERVER, 0},
    {"log-level", required_argument, OPT_LOG_LEVEL, SCOPE_SERVER, 0},
    {"print-uri", no_argument, OPT_PRINT_URI, SCOPE_SERVER, 0},
    {"vsock", optional_argument, OPT_VSOCK, SCOPE_SERVER, SERVE_MANY},
    {"socket-fd", required_argument, OPT_SOCKET_FD, SCOPE_SERVER, SERVE_MANY},
    {"stdin", no_argument, OPT_STDIN, SCOPE_SERVER, 0},
    {"single", no_argument, OPT_STDIN, SCOPE_SERVER, 0},
    {"tls", required_argument, OPT_TLS, SCOPE_SERVER, 0},
    {"tls-certificates", required_argument, OPT_TLS_CERTIFICATES, SCOPE_SERVER, SERVE_PATH},
    {"tls-psk", required_argument, OPT_TLS_PSK, SCOPE_SERVER, SERVE_PATH},
    {"tls-verify-peer", no_argument, OPT_TLS_VERIFY_PEER, SCOPE_SERVER, 0},
    {"object", required_argument, OPT_OBJECT, SCOPE_SERVER, SERVE_MANY},
    {"tls-creds", required_argument, OPT_TLS_CREDS, SCOPE_SERVER, 0},
    {"tls-hostname", required_argument, OPT_TLS_HOSTNAME, SCOPE_SERVER, 0},
    {"max-clients", required_argument, OPT_MAX_CLIENTS, SCOPE_SERVER, 0},
    {"max-total-requests", required_argument, OPT_MAX_TOTAL_REQUESTS, SCOPE_SERVER, 0},
    {"max-connection-bytes", required_argument, OPT_MAX_CONNECTION_BYTES, SCOPE_SERVER, 0},
    {"max-options", required_argument, OPT_MAX_OPTIONS, SCOPE_SERVER, 0},
    {"timeout", required_argument, OPT_HANDSHAKE_LIMIT, SCOPE_SERVER, 0},
    {"idle-timeout", required_argument, OPT_IDLE_TIMEOUT, SCOPE_SERVER, 0},
    {"stall-timeout", required_argument, OPT_STALL_TIMEOUT, SCOPE_SERVER, 0},
    {"file", required_argument, OPT_FILE, SCOPE_EXPORT, SERVE_PATH | SERVE_KEY},
    {"name", required_argument, 'x', SCOPE_EXPORT, SERVE_KEY},
    {"tls-only", no_argument, OPT_TLS_ONLY, SCOPE_EXPORT, 0},
    {"export-name", required_argument, 'x', SCOPE_EXPORT, 0},
    {"exportname", required_argument, 'x', SCOPE_EXPORT, 0},
    {"description", required_argument, 'D', SCOPE_EXPORT, 0},
    {"shared", required_argument, 'e', SCOPE_EXPORT, 0},
    {"max-connections", required_argument, 'e', SCOPE_EXPORT, 0},
    {"read-only", no_argument, 'r', SCOPE_EXPORT, 0},
    {"readonly", no_argument, 'r', SCOPE_EXPORT, 0},
    {"format", required_argument, 'f', SCOPE_EXPORT, 0},
    {"load-snapshot", required_argument, 'l', SCOPE_EXPORT, 0},
    {"snapshot", required_argument, 'l', SCOPE_EXPORT, 0},
    {"bitmap", required_argument, 'B', SCOPE_EXPORT, SERVE_MANY},
    {"allocation-depth", no_argument, 'A', SCOPE_EXPORT, 0},
    {"allow-resize", no_argument, OPT_ALLOW_RESIZE, SCOPE_EXPORT, 0},
    {"nocache", no_argument, 'n', SCOPE_EXPORT, 0},
    {"offset", required_argument, 'o', SCOPE_EXPORT, 0},
    {"faults", required_argument, OPT_FAULTS, SCOPE_EXPORT, SERVE_PATH},
    {"fault", required_argument, OPT_FAULT, SCOPE_EXPORT, SERVE_MANY},
    {"fault-seed", required_argument, OPT_FAULT_SEED, SCOPE_EXPORT, 0},
    {"fault-trace", required_argument, OPT_FAULT_TRACE, SCOPE_EXPORT, SERVE_PATH},
    {"fault-replay", required_argument, OPT_FAULT_REPLAY, SCOPE_EXPORT, SERVE_PATH},
    {"fault-trace-size", required_argument, OPT_FAULT_TRACE_SIZE, SCOPE_EXPORT, 0},
    {"blkdebug", required_argument, OPT_BLKDEBUG, SCOPE_EXPORT, 0},
    {"checkpoints", no_argument, OPT_CHECKPOINTS, SCOPE_EXPORT, 0},
    {"no-checkpoints", no_argument, OPT_NO_CHECKPOINTS, SCOPE_EXPORT, 0},
    {"cache", required_argument, OPT_CACHE, SCOPE_EXPORT, 0},
    {"discard", required_argument, OPT_DISCARD, SCOPE_EXPORT, 0},
    {"detect-zeroes", required_argument, OPT_DETECT_ZEROES, SCOPE_EXPORT, 0},
    {"backing-dir", required_argument, OPT_BACKING_DIR, SCOPE_EXPORT, SERVE_PATH},
    {"l2-cache-size", required_argument, OPT_L2_CACHE_SIZE, SCOPE_EXPORT, 0},
    {"no-lock", no_argument, OPT_NO_LOCK, SCOPE_EXPORT, 0},
    {"tls-allow", required_argument, OPT_TLS_ALLOW, SCOPE_EXPORT, SERVE_MANY},
    {"tls-authz", required_argument, OPT_TLS_AUTHZ, SCOPE_EXPORT, 0},
    {0},
};

const struct serve_option *serve_option_named(const char *name, enum serve_scope scope)
{
    for (const struct serve_option *o = serve_options; o->name; o++) {
        if (o->scope == scope && strcmp(o->name, name) == 0)
            return o;
    }
    return NULL;
}

const struct serve_option *serve_option_coded(int code)
{
    for (const struct serve_option *o = serve_options; o->name; o++) {
        if (o->code == code)
            return o;
    }
    return NULL;
}

static struct option as_getopt_has_it(const struct serve_option *o)
{
    return (struct option){o->name, o->has_arg, NULL, o->code};
}

const struct option *serve_long_options(void)
{
    static struct option list[ARRAY_LEN(serve_options)];
    size_t n = 0;

    for (const struct serve_option *o = serve_options; o->name; o++) {
        if (!(o->flags & SERVE_KEY))
            list[n++] = as_getopt_has_it(o);
    }
    list[n] = (struct option){0};
    return list;
}

void serve_long_options_of(const char *const *names, size_t n, const struct option *more,
                           size_t n_more, struct option *out)
{
    for (size_t i = 0; i < n; i++) {
        for (const struct serve_option *o = serve_options; o->name; o++) {
            if (strcmp(o->name, names[i]) == 0)
                *out++ = as_getopt_has_it(o);
        }
    }
    for (size_t i = 0; i < n_more; i++)
        *out++ = more[i];
    *out = (struct option){0};
}
