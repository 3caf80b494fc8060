/* SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD commands become requests to the node, results become replies.
 *
 * Everything that can be refused is refused in cmd_check, before a payload is taken or a coroutine
 * started: unknown commands, flags that the command does not have (an unadvertised flag must never
 * reach the code below), ranges, lengths. The errors are those of "Error values" in doc/proto.md.
 */
#include <errno.h>

#include "server/server_priv.h"

/* Reads from this length on are worth a look for holes. */
#define PROBE_MIN_LEN (64 * 1024)
#define PROBE_SKIP_MAX 31

static bool flags_ok(const struct conn *c, const struct wire_request *w)
{
    uint16_t allowed = NBD_CMD_FLAG_FUA; /* valid with every command, as SEND_FUA is advertised */

    switch (w->type) {
    case NBD_CMD_WRITE:
        allowed |= c->extended ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
        break;
    case NBD_CMD_READ:
        allowed |= c->flags & NBD_FLAG_SEND_DF ? NBD_CMD_FLAG_DF : 0;
        break;
    case NBD_CMD_WRITE_ZEROES:
        allowed |= NBD_CMD_FLAG_NO_HOLE;
        allowed |= c->flags & NBD_FLAG_SEND_FAST_ZERO ? NBD_CMD_FLAG_FAST_ZERO : 0;
        break;
    case NBD_CMD_BLOCK_STATUS:
        allowed |= NBD_CMD_FLAG_REQ_ONE;
        allowed |= c->flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
        break;
    }
    return (w->flags & ~allowed) == 0;
}

static bool cmd_writes(uint16_t type)
{
    return type == NBD_CMD_WRITE || type == NBD_CMD_WRITE_ZEROES || type == NBD_CMD_TRIM;
}

static enum nbd_error refuse(enum nbd_error error, const char *text, const char **why)
{
    *why = text;
    return error;
}

/* "NBD_CMD_RESIZE" of the extension: the offset is the new size. To make it smaller under others
 * who count on it is refused. */
static enum nbd_error cmd_check_resize(const struct conn *c, const struct wire_request *w,
                                       const char **why)
{
    if (w->off > INT64_MAX)
        return refuse(NBD_EINVAL, "no export can be that large", why);
    if (w->off < c->size && c->target.exp->n_connections > 1)
        return refuse(NBD_EPERM, "others use the export, so it cannot be made smaller", why);
    return NBD_SUCCESS;
}

enum nbd_error cmd_check(const struct conn *c, const struct wire_request *w, const char **why)
{
    if (w->type >= NBD_CMD_COUNT ||
        (w->type == NBD_CMD_RESIZE && !(c->flags & NBD_FLAG_SEND_RESIZE)))
        return refuse(NBD_EINVAL, "unknown command", why);
    if (conn_is_leaving(c))
        return refuse(NBD_ESHUTDOWN, "the server is shutting down", why);
    if (w->flags && (w->flags & ~NBD_CMD_FLAG_FUA) && !flags_ok(c, w))
        return refuse(NBD_EINVAL, "a flag that this command does not have", why);
    if (w->type == NBD_CMD_FLUSH) {
        if (w->off || w->len)
            return refuse(NBD_EINVAL, "offset and length of a flush must be zero", why);
        return NBD_SUCCESS;
    }
    if (w->type == NBD_CMD_RESIZE)
        return cmd_check_resize(c, w, why);
    if (c->flags & NBD_FLAG_READ_ONLY && cmd_writes(w->type))
        return refuse(NBD_EPERM, "the export is read-only", why);
    if (w->off > c->size || w->len > c->size - w->off)
        return refuse(w->type == NBD_CMD_WRITE || w->type == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC
                                                                                  : NBD_EINVAL,
                      "the range is past the end of the export", why);
    if (w->type == NBD_CMD_READ && w->len > ACCEPTED_PAYLOAD)
        return refuse(NBD_EOVERFLOW, "a read may ask for at most 64 MiB", why);
    if (w->type == NBD_CMD_BLOCK_STATUS) {
        if (c->n_meta == 0)
            return refuse(NBD_EINVAL, "no metadata context was selected", why);
        if (w->len == 0)
            return refuse(NBD_EINVAL, "the length must not be zero", why);
    }
    return NBD_SUCCESS;
}

static int submit(struct slot *s, enum req_op op, uint32_t flags)
{
    struct req *r = &s->req;

    r->op = op;
    r->flags = flags;
    r->kind = KIND_DATA;
    r->off = s->wire.off;
    r->len = s->wire.len;
    r->buf = s->buf;
    r->ext = NULL;
    return node_submit(s->conn->node, r);
}

/* Cut the range into data and zeros, by what the node says. At most MAX_CHUNKS + 1; what lies past
 * the last known extent counts as data. */
static unsigned chunks_from(const struct extents *x, uint32_t len, struct read_chunk *v)
{
    unsigned n = 0;
    uint32_t at = 0;

    for (size_t i = 0; i < x->n && at < len; i++) {
        bool zero = x->v[i].flags & EXTENT_ZERO;
        uint32_t part = (uint32_t)min_u64(x->v[i].len, len - at);

        if (n > 0 && v[n - 1].zero == zero)
            v[n - 1].len += part;
        else
            v[n++] = (struct read_chunk){.at = at, .len = part, .zero = zero};
        at += part;
    }
    if (at < len) {
        if (n > 0 && !v[n - 1].zero)
            v[n - 1].len += len - at;
        else
            v[n++] = (struct read_chunk){.at = at, .len = len - at};
    }
    return n;
}

/* A read that may answer in holes. A failing status fails the read: swallowing it could hide an
 * error that the disk reports only once. */
static int read_sparse(struct slot *s)
{
    struct conn *c = s->conn;
    struct read_chunk v[MAX_CHUNKS + 1];
    struct extents x;
    unsigned n = 0;

    extents_init(&x, MAX_CHUNKS);
    int r = node_status(c->node, s->wire.off, s->wire.len, &x);
    if (r == 0)
        n = chunks_from(&x, (uint32_t)s->wire.len, v);
    extents_free(&x);
    if (r < 0)
        return r;

    /* Where there are no holes, look ever less often: the look-up is not free. */
    if (n == 1 && !v[0].zero)
        c->probe_skip = c->probe_skip < PROBE_SKIP_MAX ? 2 * c->probe_skip + 1 : PROBE_SKIP_MAX;
    else
        c->probe_skip = 0;
    c->probe_wait = c->probe_skip;

    for (unsigned i = 0; i < n && r == 0; i++) {
        if (!v[i].zero)
            r = node_read(c->node, s->wire.off + v[i].at, (uint8_t *)s->buf + v[i].at, v[i].len);
    }
    if (r == 0)
        reply_chunks(s, v, n);
    return r;
}

static int run_read(struct slot *s)
{
    struct conn *c = s->conn;

    if (s->wire.len == 0) {
        if (c->structured)
            reply_none(s);
        else
            reply_done(s);
        return 0;
    }
    if (s->wire.len >= PROBE_MIN_LEN && c->structured && !(s->wire.flags & NBD_CMD_FLAG_DF)) {
        if (c->probe_wait == 0)
            return read_sparse(s);
        c->probe_wait--;
    }
    int r = submit(s, REQ_READ, 0);
    if (r == 0)
        reply_data(s);
    return r;
}

/* What cannot be resized, or not now, is EPERM in the extension. */
static int run_resize(struct slot *s)
{
    struct export *e = s->conn->target.exp;
    int r = node_truncate(e->top, s->wire.off);

    export_resized(e);
    return r == -ENOTSUP || r == -EBUSY ? -EPERM : r;
}

/* All other commands; on success a reply without data follows. */
static int run_other(struct slot *s)
{
    const struct conn *c = s->conn;
    const struct wire_request *w = &s->wire;
    const struct export *e = c->target.exp;
    uint32_t fua = w->flags & NBD_CMD_FLAG_FUA ? REQ_FUA : 0;

    if (w->type == NBD_CMD_FLUSH) {
        if (c->flags & NBD_FLAG_READ_ONLY)
            return 0;
        return submit(s, REQ_FLUSH, 0);
    }
    if (w->type == NBD_CMD_RESIZE)
        return run_resize(s);
    if (w->len == 0)
        return 0;
    switch (w->type) {
    case NBD_CMD_WRITE:
        return submit(s, REQ_WRITE, fua);
    case NBD_CMD_TRIM:
        return e->ignore_discard ? 0 : submit(s, REQ_DISCARD, fua);
    case NBD_CMD_CACHE:
        /* A hint: prefetching a part of a huge range is enough. */
        s->wire.len = min_u64(w->len, ACCEPTED_PAYLOAD);
        return submit(s, REQ_CACHE, 0);
    case NBD_CMD_WRITE_ZEROES:
        if (!(w->flags & NBD_CMD_FLAG_NO_HOLE) && !e->ignore_discard)
            fua |= REQ_MAY_UNMAP;
        if (w->flags & NBD_CMD_FLAG_FAST_ZERO)
            fua |= REQ_NO_FALLBACK;
        return submit(s, REQ_ZERO, fua);
    }
    return -EINVAL;
}

static void reply_failure(struct slot *s, int r)
{
    enum nbd_error error = wire_error(r);

    /* ENOTSUP is reserved for a fast zero that would not be fast. */
    if (error == NBD_ENOTSUP && !(s->wire.flags & NBD_CMD_FLAG_FAST_ZERO))
        error = NBD_EINVAL;
    if (s->conn->target.ckpt)
        checkpoint_read_failed(s->conn->target.ckpt);
    const char *why = NULL;
    if (s->wire.type == NBD_CMD_RESIZE && error == NBD_EPERM)
        why = "the disk cannot be resized so, or not now (a bitmap of it may be in use)";
    reply_error(s, error, why);
}

static void cmd_run(void *arg)
{
    struct slot *s = arg;
    struct export *e = s->conn->target.exp;
    int r;

    if (e->rules)
        co_local()->origin = &s->conn->origin;
    if (s->wire.type == NBD_CMD_READ) {
        r = run_read(s);
    } else if (s->wire.type == NBD_CMD_BLOCK_STATUS) {
        r = metactx_reply(s);
    } else {
        r = run_other(s);
        slot_put_buf(s); /* the next request may have it while this reply is on its way */
        if (r == 0)
            reply_done(s);
    }
    if (r < 0)
        reply_failure(s, r);
    if (e->rules)
        wire_fault(s);
    slot_send(s);
}

void cmd_start(struct slot *s)
{
    if (!co_start(cmd_run, s)) {
        reply_error(s, NBD_ENOMEM, NULL);
        slot_send(s);
    }
}
