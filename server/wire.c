/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The NBD wire format: the parts that are not on the hot path. See wire.h.
 */
#include "server/wire.h"

#include <errno.h>

void wire_put_greeting(uint8_t *p, uint16_t flags)
{
    put_be64(p, NBD_MAGIC);
    put_be64(p + 8, NBD_OPTION_MAGIC);
    put_be16(p + 16, flags);
}

bool wire_get_option(const uint8_t *p, struct wire_option *out)
{
    out->type = get_be32(p + 8);
    out->len = get_be32(p + 12);
    return get_be64(p) == NBD_OPTION_MAGIC;
}

void wire_put_option_reply(uint8_t *p, uint32_t option, uint32_t type, uint32_t len)
{
    put_be64(p, NBD_REP_MAGIC);
    put_be32(p + 8, option);
    put_be32(p + 12, type);
    put_be32(p + 16, len);
}

const uint8_t *wire_bytes(struct wire_reader *r, size_t n)
{
    if (r->bad || n > r->left) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    r->left -= n;
    return p;
}

uint16_t wire_u16(struct wire_reader *r)
{
    const uint8_t *p = wire_bytes(r, 2);
    return p ? get_be16(p) : 0;
}

uint32_t wire_u32(struct wire_reader *r)
{
    const uint8_t *p = wire_bytes(r, 4);
    return p ? get_be32(p) : 0;
}

struct wire_str wire_string(struct wire_reader *r)
{
    uint32_t len = wire_u32(r);
    const uint8_t *p = NULL;

    if (len > NBD_NAME_MAX)
        r->bad = true;
    else
        p = wire_bytes(r, len);
    if (p && len && memchr(p, 0, len))
        r->bad = true;
    if (!p || r->bad)
        return (struct wire_str){"", 0};
    return (struct wire_str){(const char *)p, len};
}

bool wire_get_go(const uint8_t *data, size_t len, struct wire_go *out)
{
    struct wire_reader r = {.p = data, .left = len};

    out->name = wire_string(&r);
    out->n_info = wire_u16(&r);
    out->info = wire_bytes(&r, (size_t)out->n_info * 2);
    return !r.bad && r.left == 0;
}

bool wire_go_asks(const struct wire_go *g, uint16_t type)
{
    for (unsigned i = 0; i < g->n_info; i++) {
        if (get_be16(g->info + 2 * i) == type)
            return true;
    }
    return false;
}

bool wire_get_meta(const uint8_t *data, size_t len, struct wire_meta *out)
{
    struct wire_reader r = {.p = data, .left = len};

    out->name = wire_string(&r);
    out->n_queries = wire_u32(&r);
    out->queries = r;
    /* Every query takes four bytes at least, so that a false count ends quickly. */
    for (uint32_t i = 0; i < out->n_queries && !r.bad; i++)
        wire_string(&r);
    return !r.bad && r.left == 0;
}

char *wire_printable(char buf[WIRE_PRINTABLE_SIZE], struct wire_str s)
{
    size_t n = s.len < 80 ? s.len : 80;

    for (size_t i = 0; i < n; i++)
        buf[i] = s.p[i] >= 0x20 && s.p[i] < 0x7f ? s.p[i] : '?';
    memcpy(buf + n, s.len > n ? "..." : "", s.len > n ? 4 : 1);
    return buf;
}

enum nbd_error wire_error(int error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return NBD_SUCCESS;
    case EPERM:
    case EROFS:
        return NBD_EPERM;
    case ENOMEM:
        return NBD_ENOMEM;
    case EINVAL:
        return NBD_EINVAL;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NBD_ENOSPC;
    case EOVERFLOW:
        return NBD_EOVERFLOW;
    case ENOTSUP:
        return NBD_ENOTSUP;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    default:
        return NBD_EIO;
    }
}

const char *wire_error_text(enum nbd_error error)
{
    switch (error) {
    case NBD_SUCCESS:
        return "success";
    case NBD_EPERM:
        return "the export is read-only";
    case NBD_EIO:
        return "input/output error";
    case NBD_ENOMEM:
        return "out of memory";
    case NBD_EINVAL:
        return "invalid argument";
    case NBD_ENOSPC:
        return "no space left on device";
    case NBD_EOVERFLOW:
        return "the request is too long";
    case NBD_ENOTSUP:
        return "not supported";
    case NBD_ESHUTDOWN:
        return "the server is shutting down";
    }
    return "unknown error";
}

const char *wire_cmd_name(uint16_t type)
{
    static const char *const names[NBD_CMD_COUNT] = {
        [NBD_CMD_READ] = "read",
        [NBD_CMD_WRITE] = "write",
        [NBD_CMD_DISC] = "disconnect",
        [NBD_CMD_FLUSH] = "flush",
        [NBD_CMD_TRIM] = "trim",
        [NBD_CMD_CACHE] = "cache",
        [NBD_CMD_WRITE_ZEROES] = "write zeroes",
        [NBD_CMD_BLOCK_STATUS] = "block status",
        [NBD_CMD_RESIZE] = "resize",
    };
    return type < NBD_CMD_COUNT ? names[type] : "unknown command";
}
