/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Any bytes as a trace of faults: each record that is read fits into its bound, is within the
 * tables that print it, and comes back the same from its own bytes. Then they are replayed, with
 * the sum that they should have: what was recorded of a request comes back, and can be done to it.
 */
#include "fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "faults/replay.h"

static const char *const words[] = {"one", "two", "three"};
static const struct rules_names names = {words, 3, words, 3};

/* Who carries it out may believe it. */
static void carry_out(const struct trace_record *t)
{
    static uint8_t buf[4096];
    uint64_t at = t->off, n, pieces = 0;

    if (t->what.deed == FAULT_SHORT && t->len > 0 && t->what.done >= t->len)
        abort();
    if (t->len > sizeof(buf))
        return;
    if (t->what.deed == FAULT_CORRUPT)
        fault_damage(&t->what.damage, buf, t->off, t->len);
    for (; t->what.deed == FAULT_TORN && fault_torn_next(&t->what.tear, t->off, t->len, &at, &n);
         at += n)
        if (n == 0 || at < t->off || at + n > t->off + t->len || pieces++ > sizeof(buf))
            abort();
}

static void check_record(const struct trace_record *t)
{
    uint8_t again[TRACE_RECORD_MAX];
    struct trace_record back;
    size_t len = trace_encode(t, again);

    if (t->event >= 3 || t->kind >= TRACE_KINDS || !fault_deed_name(t->what.deed) ||
        !fault_op_name(t->op) || !fault_layer_name(t->layer) ||
        strnlen(t->mark, sizeof(t->mark)) == sizeof(t->mark))
        abort();
    /* A mark ends at its first NUL. */
    if (len > TRACE_RECORD_MAX || trace_decode(again, len, &names, &back) != len ||
        back.type != t->type || back.off != t->off || back.what.deed != t->what.deed ||
        back.what.delay_ns != t->what.delay_ns || back.what.done != t->what.done ||
        back.what.delta != t->what.delta)
        abort();
    if (t->type == TRACE_REQUEST)
        carry_out(t);
}

static struct rules *load(const uint8_t *data, size_t size)
{
    struct trace_record end = {.type = TRACE_END, .sum = trace_sum(TRACE_SUM_FIRST, data, size)};
    uint8_t tail[TRACE_RECORD_MAX];
    size_t n = trace_encode(&end, tail);
    struct rules *r = rules_new(&names);
    struct fault_limits limits;
    char path[64];
    int fd = memfd_create("trace", 0);

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (!r || fd < 0 || write(fd, data, size) != (ssize_t)size || write(fd, tail, n) != (ssize_t)n)
        abort();
    if (!rules_load_trace(r, path, &limits, NULL)) {
        rules_free(r);
        r = NULL;
    }
    close(fd);
    return r;
}

/* Of those of one connection that are alike, the first of the trace comes first. */
static void replay(struct rules *r, const uint8_t *data, size_t size)
{
    struct replay_info info;
    struct trace_record t;
    size_t n;

    for (size_t at = TRACE_HEADER_LEN; at < size; at += n) {
        struct fault_decision d;

        n = trace_decode(data + at, size - at, &names, &t);
        if (n == 0)
            abort(); /* it was loaded */
        if (t.type != TRACE_REQUEST)
            continue;
        rules_decide(r,
                     &(struct fault_req){.layer = t.layer,
                                         .op = t.op,
                                         .kind = t.kind,
                                         .fua = t.fua,
                                         .off = t.off,
                                         .len = t.len,
                                         .conn = t.conn},
                     &d);
        if (d.deed != t.what.deed || d.delay_ns != t.what.delay_ns || d.id != t.what.id ||
            d.error != t.what.error)
            abort();
    }
    if (!rules_replay_info(r, &info) || info.unknown || info.met != info.recorded)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace_record t;
    struct rules *r;
    uint64_t seed;
    size_t n;

    if (!trace_header_seed(data, size, &seed))
        return 0;
    for (size_t at = TRACE_HEADER_LEN; at < size; at += n) {
        n = trace_decode(data + at, size - at, &names, &t);
        if (n == 0)
            break;
        check_record(&t);
    }
    r = load(data, size);
    if (r)
        replay(r, data, size);
    rules_free(r);
    return 0;
}
