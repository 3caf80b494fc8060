/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replies: each function describes one in the slot's I/O vector; payloads are never copied.
 *
 * With structured replies negotiated, READ is answered in chunks and errors carry a text; success
 * without payload stays a simple reply, which is shorter and allowed ("Simple reply message").
 */
#include <stdio.h>

#include "server/server_priv.h"

static void add(struct slot *s, void *p, size_t len)
{
    s->iov[s->n_iov].iov_base = p;
    s->iov[s->n_iov++].iov_len = len;
}

void reply_simple(struct slot *s, enum nbd_error error)
{
    wire_put_simple(s->hdr, error, s->wire.cookie);
    add(s, s->hdr, WIRE_SIMPLE_SIZE);
}

void reply_none(struct slot *s)
{
    wire_put_chunk(s->hdr, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, s->wire.cookie, 0);
    add(s, s->hdr, WIRE_CHUNK_SIZE);
}

void reply_data(struct slot *s)
{
    if (s->conn->structured) {
        wire_put_chunk(s->hdr, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_OFFSET_DATA, s->wire.cookie,
                       8 + s->wire.len);
        put_be64(s->hdr + WIRE_CHUNK_SIZE, s->wire.off);
        add(s, s->hdr, WIRE_CHUNK_SIZE + 8);
    } else {
        wire_put_simple(s->hdr, NBD_SUCCESS, s->wire.cookie);
        add(s, s->hdr, WIRE_SIMPLE_SIZE);
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
            wire_put_chunk(h, flags, NBD_REPLY_TYPE_OFFSET_HOLE, s->wire.cookie, 12);
            put_be64(h + WIRE_CHUNK_SIZE, off);
            put_be32(h + WIRE_CHUNK_SIZE + 8, v[i].len);
            add(s, h, WIRE_CHUNK_SIZE + 12);
        } else {
            wire_put_chunk(h, flags, NBD_REPLY_TYPE_OFFSET_DATA, s->wire.cookie, 8 + v[i].len);
            put_be64(h + WIRE_CHUNK_SIZE, off);
            add(s, h, WIRE_CHUNK_SIZE + 8);
            add(s, data + v[i].at, v[i].len);
        }
        h += WIRE_CHUNK_SIZE + 12;
    }
}

void reply_error(struct slot *s, enum nbd_error error, const char *why)
{
    const struct wire_request *w = &s->wire;

    s->n_iov = 0;
    if (!s->conn->structured) {
        reply_simple(s, error);
        return;
    }
    char *text = (char *)s->hdr + WIRE_CHUNK_SIZE + 6;
    size_t room = sizeof(s->hdr) - WIRE_CHUNK_SIZE - 6;
    int n = snprintf(text, room, "%s of %u bytes at offset %llu: %s", wire_cmd_name(w->type),
                     w->len, (unsigned long long)w->off, why ? why : wire_error_text(error));
    size_t len = n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;

    wire_put_chunk(s->hdr, NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_ERROR, w->cookie,
                   (uint32_t)(6 + len));
    put_be32(s->hdr + WIRE_CHUNK_SIZE, error);
    put_be16(s->hdr + WIRE_CHUNK_SIZE + 4, (uint16_t)len);
    add(s, s->hdr, WIRE_CHUNK_SIZE + 6 + len);
}
