/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The engine's side of traces: who records is told of all that it hears and decides.
 */
#include <stdio.h>

#include "faults/engine_priv.h"

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
    };

    if (!r->trace_fn)
        return;
    t.what = *d;
    t.what.by = NULL;
    r->trace_fn(r->trace_arg, &t);
}
