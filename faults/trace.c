/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Traces: to bytes and back, and the engine's side of recording.
 */
#include "faults/trace.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "faults/engine_priv.h"

static const uint8_t magic[8] = "bwfault1";

void trace_header(uint8_t *buf, uint64_t seed)
{
    memcpy(buf, magic, sizeof(magic));
    put_le64(buf + sizeof(magic), seed);
}

bool trace_header_seed(const uint8_t *buf, size_t len, uint64_t *seed)
{
    if (len < TRACE_HEADER_LEN || memcmp(buf, magic, sizeof(magic)) != 0)
        return false;
    *seed = get_le64(buf + sizeof(magic));
    return true;
}

static size_t put_number(uint8_t *buf, uint64_t v)
{
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        buf[n++] = (uint8_t)(v | 0x80);
    buf[n++] = (uint8_t)v;
    return n;
}

size_t trace_encode(const struct trace_record *t, uint8_t *buf)
{
    const uint64_t request[] = {t->layer, (uint64_t)t->op << 1 | t->fua,
                                t->kind,  t->off,
                                t->len,   t->conn,
                                t->deed,  t->rule,
                                t->error, t->delay_ns};
    size_t n = 0, len;

    buf[n++] = (uint8_t)t->type;
    if (t->type == TRACE_EVENT)
        n += put_number(buf + n, t->event);
    for (size_t i = 0; t->type == TRACE_REQUEST && i < ARRAY_LEN(request); i++)
        n += put_number(buf + n, request[i]);
    if (t->type == TRACE_MARK) {
        len = strnlen(t->mark, sizeof(t->mark) - 1);
        n += put_number(buf + n, len);
        memcpy(buf + n, t->mark, len);
        n += len;
    }
    return n;
}

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

/* Up to most; else, and at the end, it is bad. */
static uint64_t take(struct reader *r, uint64_t most)
{
    uint64_t v = 0;

    for (unsigned shift = 0; r->at < r->end && shift < 64; shift += 7) {
        uint8_t b = *r->at++;

        v |= (uint64_t)(b & 0x7f) << shift;
        if (b & 0x80)
            continue;
        r->bad |= v > most || (shift == 63 && b > 1);
        return r->bad ? 0 : v;
    }
    r->bad = true;
    return 0;
}

static void take_request(struct reader *r, struct trace_record *out)
{
    uint64_t v;

    out->layer = (enum fault_layer)take(r, FAULT_LAYERS - 1);
    v = take(r, FAULT_IO_COUNT * 2 - 1);
    out->op = (enum fault_io)(v >> 1);
    out->fua = v & 1;
    out->kind = (unsigned)take(r, TRACE_KINDS - 1);
    out->off = take(r, UINT64_MAX);
    out->len = take(r, UINT64_MAX);
    out->conn = take(r, UINT64_MAX);
    out->deed = (enum fault_deed)take(r, FAULT_REPLY);
    out->rule = take(r, UINT64_MAX);
    out->error = (unsigned)take(r, 4095);
    out->delay_ns = take(r, UINT64_MAX);
}

static void take_mark(struct reader *r, struct trace_record *out)
{
    uint64_t len = take(r, sizeof(out->mark) - 1);

    if (r->bad || (size_t)(r->end - r->at) < len) {
        r->bad = true;
        return;
    }
    memcpy(out->mark, r->at, len);
    r->at += len;
}

size_t trace_decode(const uint8_t *buf, size_t len, const struct rules_names *names,
                    struct trace_record *out)
{
    struct reader r = {buf, buf + len, false};

    *out = (struct trace_record){0};
    out->type = (enum trace_type)take(&r, TRACE_TYPES - 1);
    switch (out->type) {
    case TRACE_EVENT:
        out->event = (unsigned)take(&r, names->n_events - 1);
        break;
    case TRACE_REQUEST:
        take_request(&r, out);
        break;
    case TRACE_MARK:
        take_mark(&r, out);
        break;
    case TRACE_FULL:
        break;
    default:
        return 0;
    }
    return r.bad ? 0 : (size_t)(r.at - buf);
}

const char *fault_deed_name(enum fault_deed deed)
{
    static const char *const names[] = {
        [FAULT_PASS] = "passes",
        [FAULT_FAIL] = "fails",
        [FAULT_HANG] = "hangs",
        [FAULT_SHORT] = "is cut short",
        [FAULT_TORN] = "is torn",
        [FAULT_LOST] = "is lost",
        [FAULT_MISDIRECT] = "goes astray",
        [FAULT_CORRUPT] = "is corrupted",
        [FAULT_OLD] = "is made old",
        [FAULT_CUT] = "meets a power cut",
        [FAULT_DISCONNECT] = "ends the connection",
        [FAULT_REPLY] = "is answered wrongly",
    };

    return names[deed];
}

/* --- Recording --- */

void rules_on_trace(struct rules *r, void (*fn)(void *arg, const struct trace_record *t), void *arg)
{
    r->trace_fn = fn;
    r->trace_arg = arg;
}

bool rules_mark(struct rules *r, const char *text)
{
    struct trace_record t = {.type = TRACE_MARK};

    if (!r->trace_fn)
        return false;
    snprintf(t.mark, sizeof(t.mark), "%s", text);
    r->trace_fn(r->trace_arg, &t);
    return true;
}

void trace_event(struct rules *r, unsigned event)
{
    if (r->trace_fn)
        r->trace_fn(r->trace_arg, &(struct trace_record){.type = TRACE_EVENT, .event = event});
}

void trace_request(struct rules *r, const struct fault_req *q, const struct fault_decision *d)
{
    struct trace_record t = {
        .type = TRACE_REQUEST,
        .layer = q->layer,
        .op = q->op,
        .kind = q->kind,
        .fua = q->fua,
        .off = q->off,
        .len = q->len,
        .conn = q->conn,
        .deed = d->deed,
        .rule = d->id,
        .error = d->deed == FAULT_PASS ? 0 : (unsigned)d->error,
        .delay_ns = d->delay_ns,
    };

    if (r->trace_fn)
        r->trace_fn(r->trace_arg, &t);
}
