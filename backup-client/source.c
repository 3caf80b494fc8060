/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Opening an export on several connections, reading it, and asking for its maps.
 *
 * The first connection asks for both maps. The dirty map is then read over the second one (if there
 * is one), which asks for that map only: a server whose snapshot is restricted to what changed
 * fails a question that includes allocation elsewhere.
 */
#include "backup-client/source.h"

#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdio.h>
#include <string.h>

#include "backup-client/conn_priv.h"
#include "base/cover.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"

/* For each connection but the first. A server may have room for fewer than we would like, and let
 * the rest wait (qemu-nbd). */
#define EXTRA_TIMEOUT_MS 5000

#define MAX_REQUEST_UNKNOWN (32u << 20) /* proto.md: what every server should take */

struct go {
    bool done;
    int error;
};

static int go_callback(void *arg, int *error)
{
    struct go *go = arg;
    go->done = true;
    go->error = *error;
    return 1;
}

static enum source_result nbd_failed(struct conn *c, enum source_result result, const char *what,
                                     struct err **errp)
{
    int code = nbd_get_errno() ? nbd_get_errno() : EIO;
    const char *why = c->why ? c->why : nbd_get_error();
    err_set(errp, code, "%s: %s", what, why ? why : strerror(code));
    return result;
}

/* Connect and get as far as the negotiation of options. */
static enum source_result conn_dial(struct conn *c, const struct source_opts *o, struct err **errp)
{
    struct nbd_handle *h = c->nbd;
    if (nbd_set_opt_mode(h, true) < 0 || nbd_set_uri_allow_local_file(h, true) < 0 ||
        nbd_set_pread_initialize(h, false) < 0)
        return nbd_failed(c, SOURCE_ERROR, "libnbd", errp);
    if (nbd_aio_connect_uri(h, o->uri) < 0)
        /* EINVAL: the URI makes no sense, now or later. */
        return nbd_failed(c, nbd_get_errno() == EINVAL ? SOURCE_ERROR : SOURCE_UNREACHABLE,
                          "cannot connect", errp);
    while (nbd_aio_is_connecting(h))
        if (conn_step(c) < 0)
            return nbd_failed(c, SOURCE_UNREACHABLE, "cannot connect", errp);
    if (nbd_aio_is_dead(h) || nbd_aio_is_closed(h))
        return nbd_failed(c, SOURCE_UNREACHABLE, "cannot connect", errp);
    if (!nbd_aio_is_negotiating(h)) {
        err_set(errp, ENOTSUP, "the server does not speak fixed newstyle NBD");
        return SOURCE_ERROR;
    }
    return SOURCE_OK;
}

static enum source_result conn_go(struct conn *c, const char *name, struct err **errp)
{
    struct nbd_handle *h = c->nbd;
    struct go go = {0};
    if (nbd_set_export_name(h, name) < 0)
        return nbd_failed(c, SOURCE_ERROR, "export name", errp);
    if (nbd_aio_opt_go(h, (nbd_completion_callback){.callback = go_callback, .user_data = &go}) < 0)
        return nbd_failed(c, SOURCE_UNREACHABLE, "cannot enter the export", errp);
    while (!go.done && !nbd_aio_is_ready(h))
        if (conn_step(c) < 0)
            return nbd_failed(c, SOURCE_UNREACHABLE, "cannot enter the export", errp);
    if (nbd_aio_is_ready(h))
        return SOURCE_OK;
    if (go.error == ENOENT) {
        err_set(errp, ENOENT, "the server has no export '%s'", name);
        return SOURCE_NO_EXPORT;
    }
    err_set_errno(errp, go.error ? go.error : EIO, "the server refuses the export '%s'", name);
    return SOURCE_ERROR;
}

/* Say goodbye to a server that refused, so that it does not log a broken handshake. */
static void conn_leave(struct conn *c)
{
    c->timeout_ms = 1000;
    if (c->dead || !nbd_aio_is_negotiating(c->nbd) || nbd_aio_opt_abort(c->nbd) < 0)
        return;
    while (nbd_aio_is_connecting(c->nbd) && conn_step(c) == 0)
        ;
}

static enum source_result conn_open(struct source *s, const char *name, bool allocation,
                                    const char *dirty, struct conn **out, struct err **errp)
{
    char context[CONTEXT_NAME_MAX];
    uint64_t timeout_ms = s->opts.timeout_ms;
    struct conn *c = conn_new(s->n ? min_u64(timeout_ms, EXTRA_TIMEOUT_MS) : timeout_ms, errp);
    if (!c)
        return SOURCE_ERROR;
    s->opening = c;
    enum source_result r = conn_dial(c, &s->opts, errp);
    if (r == SOURCE_OK && allocation && nbd_add_meta_context(c->nbd, CONTEXT_ALLOCATION) < 0)
        r = nbd_failed(c, SOURCE_ERROR, "libnbd", errp);
    if (r == SOURCE_OK && dirty) {
        snprintf(context, sizeof(context), CONTEXT_DIRTY_PREFIX "%s", dirty);
        if (nbd_add_meta_context(c->nbd, context) < 0)
            r = nbd_failed(c, SOURCE_ERROR, "libnbd", errp);
    }
    if (r == SOURCE_OK)
        r = conn_go(c, name, errp);
    s->opening = NULL;
    if (s->aborted && r == SOURCE_OK) {
        err_set(errp, ECANCELED, "given up");
        r = SOURCE_ERROR;
    }
    c->timeout_ms = timeout_ms;
    if (r == SOURCE_OK && !conn_pump(c, &s->pumps)) {
        err_set(errp, ENOMEM, "out of memory");
        r = SOURCE_ERROR;
    }
    if (r != SOURCE_OK) {
        conn_leave(c);
        conn_free(c);
        return r;
    }
    *out = c;
    return SOURCE_OK;
}

static bool source_learn(struct source *s, const char *dirty, struct err **errp)
{
    struct nbd_handle *h = s->conn[0]->nbd;
    char context[CONTEXT_NAME_MAX];
    int64_t size = nbd_get_size(h), most = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);
    if (size <= 0)
        return err_set(errp, EINVAL, size == 0 ? "the export is empty" : "the export has no size");
    if (size > INT64_MAX - (1 << 20))
        return err_set(errp, EFBIG, "the export claims %" PRId64 " bytes", size);
    s->size = (uint64_t)size;
    s->read_only = nbd_is_read_only(h) > 0;
    s->max_request = most > 0 && most < MAX_REQUEST_UNKNOWN ? (uint32_t)most : MAX_REQUEST_UNKNOWN;
    s->has_allocation = nbd_can_meta_context(h, CONTEXT_ALLOCATION) > 0;
    if (dirty) {
        snprintf(context, sizeof(context), CONTEXT_DIRTY_PREFIX "%s", dirty);
        s->has_dirty = nbd_can_meta_context(h, context) > 0;
    }
    return true;
}

enum source_result source_open(struct source *s, const struct source_opts *opts, const char *name,
                               const char *dirty, struct err **errp)
{
    memset(s, 0, sizeof(*s));
    s->opts = *opts;
    const char *first = opts->first ? opts->first : name;
    enum source_result r = conn_open(s, first, true, dirty, &s->conn[0], errp);
    if (r != SOURCE_OK)
        return r;
    s->n = 1;
    if (!source_learn(s, dirty, errp))
        return SOURCE_ERROR;

    unsigned want = nbd_can_multi_conn(s->conn[0]->nbd) > 0 ? opts->connections : 1;
    while (s->n < want && s->n < SOURCE_CONNECTIONS_MAX) {
        struct err *e = NULL;
        r = conn_open(s, name, false, s->n == 1 && s->has_dirty ? dirty : NULL, &s->conn[s->n], &e);
        if (r == SOURCE_UNREACHABLE && !s->aborted && !s->conn[0]->dead) {
            log_info("the server takes %u connections and no more: %s", s->n, err_msg(e));
            err_free(e);
            break;
        }
        if (r != SOURCE_OK) {
            err_move(errp, e);
            return r;
        }
        s->n++;
        if (nbd_get_size(s->conn[s->n - 1]->nbd) != (int64_t)s->size) {
            err_set(errp, EPROTO, "the connections see exports of different size");
            return SOURCE_ERROR;
        }
    }
    return SOURCE_OK;
}

void source_abort(struct source *s)
{
    s->aborted = true;
    if (s->opening)
        conn_stop(s->opening, "given up");
    for (unsigned i = 0; i < s->n; i++)
        conn_stop(s->conn[i], "given up");
}

void source_close(struct source *s)
{
    for (unsigned i = 0; i < s->n; i++)
        if (!s->conn[i]->dead)
            nbd_aio_disconnect(s->conn[i]->nbd, 0);
    source_abort(s);
    co_group_wait(&s->pumps);
    for (unsigned i = 0; i < s->n; i++)
        conn_free(s->conn[i]);
    s->n = 0;
}

/* --- Requests --- */

static bool request_failed(struct conn *c, int code, const char *what, uint64_t off,
                           struct err **errp)
{
    if (c->dead && c->why)
        return err_set(errp, code, "%s at offset %" PRIu64 ": %s", what, off, c->why);
    return err_set_errno(errp, code, "%s at offset %" PRIu64, what, off);
}

static bool conn_usable(struct conn *c, const char *what, uint64_t off, struct err **errp)
{
    return !c->dead || request_failed(c, ENOTCONN, what, off, errp);
}

/* libnbd does not check that the chunks of a reply make up the whole; a hole in the answer must
 * never pass for data, nor bytes sent twice make up for others. */
static int note_chunk(void *arg, const void *buf, size_t count, uint64_t off, unsigned status,
                      int *error)
{
    if (status == LIBNBD_READ_DATA || status == LIBNBD_READ_HOLE)
        cover_add(arg, off, count);
    return 0;
}

bool source_read(struct source *s, unsigned i, void *buf, uint64_t off, uint32_t len,
                 struct err **errp)
{
    struct conn *c = s->conn[i % s->n];
    struct nbd_op op;
    struct cover cover;
    cover_init(&cover, off);
    if (!conn_usable(c, "read", off, errp))
        return false;
    op_begin(c, &op);
    if (nbd_aio_pread_structured(
            c->nbd, buf, len, off,
            (nbd_chunk_callback){.callback = note_chunk, .user_data = &cover},
            (nbd_completion_callback){.callback = op_callback, .user_data = &op}, 0) < 0) {
        op_cancel(c, &op);
        return err_set(errp, nbd_get_errno() ? nbd_get_errno() : EIO,
                       "read at offset %" PRIu64 ": %s", off, nbd_get_error());
    }
    int r = op_wait(c, &op);
    if (r < 0)
        return request_failed(c, -r, "read", off, errp);
    return cover_is(&cover, len) ||
           err_set(errp, EPROTO,
                   "read at offset %" PRIu64 ": the server's answer is not %u bytes, each once%s",
                   off, len, cover.full ? ", or is in too many scattered pieces" : "");
}

struct status_query {
    const char *prefix; /* of the context wanted */
    uint64_t off;
    struct extents *x;
    bool dirty;
    int error;
};

static int take_extents(void *arg, const char *context, uint64_t off, uint32_t *entries, size_t n,
                        int *error)
{
    struct status_query *q = arg;
    if (strncmp(context, q->prefix, strlen(q->prefix)) != 0 || off != q->off || q->x->total > 0)
        return 0;
    for (size_t i = 0; i + 1 < n; i += 2) {
        uint32_t flags = entries[i + 1];
        /* base:allocation: bit 0 hole, bit 1 zero (proto.md); dirty: bit 0. */
        flags =
            q->dirty ? flags & 1 : (flags & 1 ? EXTENT_HOLE : 0) | (flags & 2 ? EXTENT_ZERO : 0);
        int r = extents_add(q->x, entries[i], flags);
        if (r <= 0) {
            q->error = -r;
            break;
        }
    }
    return 0;
}

static bool source_status(struct source *s, unsigned i, bool dirty, uint64_t off, uint64_t len,
                          struct extents *x, struct err **errp)
{
    struct conn *c = s->conn[i % s->n];
    struct nbd_op op;
    struct status_query q = {
        .prefix = dirty ? CONTEXT_DIRTY_PREFIX : CONTEXT_ALLOCATION,
        .off = off,
        .x = x,
        .dirty = dirty,
    };
    if (!conn_usable(c, "block status", off, errp))
        return false;
    op_begin(c, &op);
    if (nbd_aio_block_status(
            c->nbd, len, off, (nbd_extent_callback){.callback = take_extents, .user_data = &q},
            (nbd_completion_callback){.callback = op_callback, .user_data = &op}, 0) < 0) {
        op_cancel(c, &op);
        return err_set(errp, nbd_get_errno() ? nbd_get_errno() : EIO,
                       "block status at offset %" PRIu64 ": %s", off, nbd_get_error());
    }
    int r = op_wait(c, &op);
    if (r == 0)
        r = -q.error;
    return r == 0 || request_failed(c, -r, "block status", off, errp);
}

bool source_allocation(void *arg, uint64_t off, uint64_t len, struct extents *x, struct err **errp)
{
    return source_status(arg, 0, false, off, len, x, errp);
}

bool source_dirty(void *arg, uint64_t off, uint64_t len, struct extents *x, struct err **errp)
{
    return source_status(arg, 1, true, off, len, x, errp);
}
