/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Faults of the wire: replies that are late, wrong, cut off, or never come.
 *
 * A reply meets them when it is complete, just before it is queued; what is sent of it is then what
 * its vector says.
 */
#include <errno.h>

#include "base/log.h"
#include "io/reactor.h"
#include "server/server_priv.h"

#define COOKIE_AT 8 /* in all three kinds of replies */

static const enum fault_io io_of[NBD_CMD_COUNT] = {
    [NBD_CMD_READ] = FAULT_READ,
    [NBD_CMD_WRITE] = FAULT_WRITE,
    [NBD_CMD_DISC] = FAULT_IO_COUNT,
    [NBD_CMD_FLUSH] = FAULT_FLUSH,
    [NBD_CMD_TRIM] = FAULT_DISCARD,
    [NBD_CMD_CACHE] = FAULT_IO_COUNT,
    [NBD_CMD_WRITE_ZEROES] = FAULT_WRITE_ZEROES,
    [NBD_CMD_BLOCK_STATUS] = FAULT_BLOCK_STATUS,
};

/* Only the first `len` bytes are sent, then the connection ends. */
static void cut_off(struct slot *s, uint64_t len, enum slot_end end)
{
    unsigned n = 0;

    for (; n < s->n_iov && len > 0; n++) {
        s->iov[n].iov_len = min_u64(s->iov[n].iov_len, len);
        len -= s->iov[n].iov_len;
    }
    s->n_iov = n;
    s->end = end;
}

static uint64_t reply_len(const struct slot *s)
{
    uint64_t len = 0;

    for (unsigned i = 0; i < s->n_iov; i++)
        len += s->iov[i].iov_len;
    return len;
}

static void duplicate(struct slot *s)
{
    unsigned n = s->n_iov;

    if (2 * n > ARRAY_LEN(s->iov))
        return;
    memcpy(s->iov + n, s->iov, n * sizeof(s->iov[0]));
    s->n_iov = 2 * n;
}

static void spoil(struct slot *s, const struct fault_decision *d)
{
    switch (d->wrong) {
    case WRONG_MAGIC:
        s->hdr[0] ^= 0xff;
        break;
    case WRONG_COOKIE:
        s->hdr[COOKIE_AT] ^= 0xff;
        break;
    case WRONG_DUPLICATE:
        duplicate(s);
        break;
    case WRONG_TRUNCATE:
        cut_off(s, reply_len(s) / 2, SLOT_END_FIN);
        break;
    case WRONG_ERRNO:
        reply_error(s, wire_error(-d->error), NULL);
        break;
    case WRONG_COUNT:
        break;
    }
}

void wire_fault(struct slot *s)
{
    struct conn *c = s->conn;
    struct export *e = c->target.exp;
    enum fault_io io = io_of[s->wire.type];
    struct fault_decision d;
    struct fault_req q = {
        .layer = FAULT_WIRE,
        .op = io,
        .fua = s->wire.flags & NBD_CMD_FLAG_FUA,
        .off = s->wire.off,
        .len = s->wire.len,
        .export = c->origin.export,
        .client = c->origin.client,
        .conn = c->origin.conn,
        .at_ms = (uint64_t)(clock_ns() - e->since_ns) / NS_PER_MS,
    };

    if (io == FAULT_IO_COUNT || !rules_watches(e->rules, FAULT_WIRE, io))
        return;
    rules_decide(e->rules, &q, &d);
    if (d.delay_ns)
        co_sleep_until(clock_ns() + (int64_t)d.delay_ns);
    if (d.deed == FAULT_DISCONNECT)
        cut_off(s, d.done, d.orderly ? SLOT_END_FIN : SLOT_END_RST);
    else if (d.deed == FAULT_REPLY)
        spoil(s, &d);
}
