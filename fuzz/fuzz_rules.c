/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rule files. What loads is then played through: every event, and requests of every type and
 * layer; what is torn or corrupted stays within the request.
 */
#include <stdlib.h>
#include <string.h>

#include "block/event.h"
#include "faults/fault.h"
#include "fuzz/fuzz.h"

static const char *const event_names[] = {
#define X(id, name) name,
    BLOCK_EVENTS(X)
#undef X
};
static const char *const kind_names[] = {"data",     "header",   "l1",       "l2",
                                         "reftable", "refblock", "snapshot", "bitmap"};
static const struct rules_names names = {event_names, EV_COUNT, kind_names, 6};

static void meet(struct rules *r, struct fault_req q)
{
    struct fault_decision d;
    uint8_t buf[4096] = {0};
    uint64_t at = q.off, n;

    if (q.len > sizeof(buf))
        abort();
    rules_decide(r, &q, &d);
    if (d.deed == FAULT_CORRUPT)
        fault_damage(&d.damage, buf, q.off, q.len);
    if (d.deed == FAULT_SHORT && q.len > 0 && d.done >= q.len)
        abort();
    for (; d.deed == FAULT_TORN && fault_torn_next(&d.tear, q.off, q.len, &at, &n); at += n)
        if (n == 0 || at < q.off || at + n > q.off + q.len || (n == q.len && !d.tear.mask))
            abort();
}

static void ignore(void *arg, const char *text)
{
    (*(unsigned *)arg)++;
}

static void play(struct rules *r)
{
    char line[256];
    unsigned warnings = 0;

    for (unsigned ev = 0; ev < EV_COUNT; ev++) {
        rules_event(r, ev, NULL);
        for (unsigned io = 0; io < FAULT_IO_COUNT; io++)
            if (rules_check(r, io, ev * 512, io * 1024).error < 0)
                abort();
    }
    for (unsigned i = 0; i < FAULT_LAYERS * FAULT_IO_COUNT * 8; i++)
        meet(r, (struct fault_req){.layer = i % FAULT_LAYERS,
                                   .op = i / FAULT_LAYERS % FAULT_IO_COUNT,
                                   .kind = i % 6,
                                   .fua = i & 1,
                                   .off = i * 1000,
                                   .len = i * 37 % 4097});
    for (unsigned i = 0; i < rules_count(r); i++)
        if (!rules_describe(r, i, line, sizeof(line)) || !rules_explain(r, i, line, sizeof(line)))
            abort();
    if (rules_warn(r, ignore, &warnings) != warnings)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rules *r = rules_new(&names);
    struct err *e = NULL;
    char option[256] = "";

    if (!r)
        return 0;
    memcpy(option, data, size < sizeof(option) ? size : sizeof(option) - 1);
    if (rules_load_option(r, option, 1, NULL)) {
        play(r);
        rules_free(r);
        return 0;
    }
    if (rules_load(r, "fuzz", (const char *)data, size, &e))
        play(r);
    else if (rules_count(r) != 0 || err_msg(e)[0] == 0)
        abort(); /* refused without a reason, or only in part */
    err_free(e);
    rules_free(r);
    return 0;
}
