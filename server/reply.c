/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replies: each function describes one in the slot's I/O vector; payloads are never copied.
 *
 * With structured replies negotiated, READ is answered in chunks and errors carry a text; success
 * without payload stays a simple reply, which is shorter and allowed ("Simple reply message"). With
 * extended headers every reply is made of chunks, whose headers are longer.
 */
#include <stdio.h>

#include "server/server_priv.h"

static void add(struct slot *s, void *p, size_t len)
{
    s->iov[s->n_iov].iov_base = p;
    s->iov[s->n_iov++].iov_len = len;
}

static void put_simple(struct slot *s, enum nbd_error error)
{
    wire_put_simple(s->hdr, error, s->wire.cookie);
    add(s, s->hdr, WIRE_SIMPLE_SIZE);
}

size_t reply_put_chunk(const struct slot *s, uint8_t *p, uint16_t flags, uint16_t type,
                       uint64_t len)
{
    if (s->conn->extended) {
        wire_put_ext_chunk(p, flags, type, s->wire.cookie, s->wire.off, len);
        return WIRE_EXT_CHUNK_SIZE;
    }
    wire_put_chunk(p, flags, type, s->wire.cookie, (uint32_t)len);
    return WIRE_CHUNK_SIZE;
}

void reply_none(struct slot *s)
{
    add(s, s->hdr, reply_put_chunk(s, s->hdr, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, 0));
}

void reply_done(struct slot *s)
{
    if (s->conn->extended)
        reply_none(s);
    else
        put_simple(s, NBD_SUCCESS);
}

void reply_data(struct slot *s)
{
    if (s->conn->structured) {
        size_t n = reply_put_chunk(s, s->hdr, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA,
                                   8 + s->wire.len);
        put_be64(s->hdr + n, s->wire.off);
        add(s, s->hdr, n + 8);
    } else {
        put_simple(s, NBD_SUCCESS);
    }
    add(s, s->buf, s->wire.len);
}

void reply_chunks(struct slot *s, const struct read_chunk *v, unsigned n)
{
    uint8_t *h = s->hdr;
    uint8_t *data = s->buf;

    for (unsigned i = 0; i < n; i++) {
        uint16_t flags = i + 1 == n ? NBD_REPLY_FLAG_DONE : 0;
        uint64_t off = s->wire.off + v[i].at;

        if (v[i].zero) {
            size_t head = reply_put_chunk(s, h, flags, NBD_REPLY_TYPE_OFFSET_HOLE, 12);
            put_be64(h + head, off);
            put_be32(h + head + 8, v[i].len);
            add(s, h, head + 12);
        } else {
            size_t head = reply_put_chunk(s, h, flags, NBD_REPLY_TYPE_OFFSET_DATA, 8 + v[i].len);
            put_be64(h + head, off);
            add(s, h, head + 8);
            add(s, data + v[i].at, v[i].len);
        }
        h += WIRE_EXT_CHUNK_SIZE + 12;
    }
}

void reply_error(struct slot *s, enum nbd_error error, const char *why)
{
    const struct wire_request *w = &s->wire;

    s->n_iov = 0;
    if (!s->conn->structured) {
        put_simple(s, error);
        return;
    }
    size_t head = s->conn->extended ? WIRE_EXT_CHUNK_SIZE : WIRE_CHUNK_SIZE;
    char *text = (char *)s->hdr + head + 6;
    size_t room = sizeof(s->hdr) - head - 6;
    int n = snprintf(text, room, "%s of %llu bytes at offset %llu: %s", wire_cmd_name(w->type),
                     (unsigned long long)w->len, (unsigned long long)w->off,
                     why ? why : wire_error_text(error));
    size_t len = n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;

    reply_put_chunk(s, s->hdr, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, 6 + len);
    put_be32(s->hdr + head, error);
    put_be16(s->hdr + head + 4, (uint16_t)len);
    add(s, s->hdr, head + 6 + len);
}
