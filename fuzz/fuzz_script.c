/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Any text as a script. What loads is asked about requests of every op and layer: it answers with
 * what can be done to them or fails them, within its budget, and can be asked again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "faults/fault.h"
#include "faults/trace.h"
#include "fuzz/fuzz.h"

static const char *const words[] = {"one", "two", "three"};
static const struct rules_names names = {words, 3, words, 3};

static void quiet(enum log_level level, const char *line, void *arg)
{
    if (strlen(line) > 2048)
        abort();
}

/* A trace takes only what a rule can come to. */
static void check(const struct fault_req *q, const struct fault_decision *d)
{
    struct trace_record t = {.type = TRACE_REQUEST, .layer = q->layer, .op = q->op, .len = q->len},
                        back;
    uint8_t buf[TRACE_RECORD_MAX];
    size_t n;

    t.what = *d;
    n = trace_encode(&t, buf);
    if (n > sizeof(buf) || trace_decode(buf, n, &names, &back) != n)
        abort();
}

static void ask(struct rules *r)
{
    for (unsigned i = 0; i < FAULT_LAYERS * FAULT_IO_COUNT * 2; i++) {
        struct fault_req q = {.layer = i % FAULT_LAYERS, .op = i / FAULT_LAYERS % FAULT_IO_COUNT};
        struct fault_decision d;

        if (q.op != FAULT_FLUSH)
            q.len = 8;
        if (q.op == FAULT_WRITE)
            q.data = "abcdefgh";
        rules_decide(r, &q, &d);
        check(&q, &d);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rules *r = rules_new(&names);
    int fd = memfd_create("script", 0);
    clock_t start = clock();
    char rule[256];

    log_set_sink(quiet, NULL);
    if (!r || fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    for (unsigned layer = 0; layer < FAULT_LAYERS; layer++) {
        snprintf(rule, sizeof(rule),
                 "layer=%s op=read,write,zero,trim,flush,status action=script budget=5000 "
                 "memory=512k file=/proc/self/fd/%d",
                 fault_layer_name(layer), fd);
        rules_load_option(r, rule, layer, NULL);
    }
    close(fd);
    ask(r);
    rules_free(r);
    if (clock() - start > 10 * CLOCKS_PER_SEC)
        abort();
    return 0;
}
