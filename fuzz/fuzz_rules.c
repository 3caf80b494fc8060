/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rule files. What loads is then played through: every event, and requests of every type.
 */
#include <stdlib.h>
#include <string.h>

#include "block/event.h"
#include "faults/rules.h"
#include "fuzz/fuzz.h"

static const char *const event_names[] = {
#define X(id, name) name,
    BLOCK_EVENTS(X)
#undef X
};
static const struct rules_names names = {event_names, EV_COUNT};

static void play(struct rules *r)
{
    char line[256];

    for (unsigned ev = 0; ev < EV_COUNT; ev++) {
        rules_event(r, ev);
        for (unsigned io = 0; io < FAULT_IO_COUNT; io++)
            if (rules_check(r, io, ev * 512, io * 1024).error < 0)
                abort();
    }
    for (unsigned i = 0; i < rules_count(r); i++)
        if (!rules_describe(r, i, line, sizeof(line)))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rules *r = rules_new(&names);
    struct err *e = NULL;

    if (!r)
        return 0;
    if (rules_load(r, "fuzz", (const char *)data, size, &e))
        play(r);
    else if (rules_count(r) != 0 || err_msg(e)[0] == 0)
        abort(); /* refused without a reason, or only in part */
    err_free(e);
    rules_free(r);
    return 0;
}
