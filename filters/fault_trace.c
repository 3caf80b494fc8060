/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The trace of a fault filter's engine, in a file.
 *
 * Records are gathered and written some thousands at a time, by a plain write: it goes to the page
 * cache, and waiting for it would let requests overtake their records. At its limit the trace ends
 * with a record that says so; an error ends it, too, and never a request.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "faults/trace.h"
#include "filters/fault_priv.h"

#define BATCH 65536
#define LAST_RECORDS 10 /* bytes: that it is full, and the end */

struct fault_trace {
    int fd;
    char *path;
    uint64_t written, limit;
    uint64_t sum; /* of what was written */
    bool ended;
    size_t used;
    uint8_t buf[BATCH];
};

static void flush(struct fault_trace *t)
{
    t->sum = trace_sum(t->sum, t->buf, t->used);
    for (size_t at = 0; at < t->used && t->fd >= 0;) {
        ssize_t n = write(t->fd, t->buf + at, t->used - at);

        if (n > 0)
            at += (size_t)n;
        else if (n == 0 || errno != EINTR) {
            log_error("%s: the trace ends here: %s", t->path, strerror(n ? errno : EIO));
            close(t->fd);
            t->fd = -1;
            t->ended = true;
        }
    }
    t->written += t->used;
    t->used = 0;
}

/* There is always room in buf for two. */
static void encode(struct fault_trace *t, const struct trace_record *r)
{
    if (t->used > BATCH - 2 * TRACE_RECORD_MAX)
        flush(t);
    t->used += trace_encode(r, t->buf + t->used);
}

static void put(void *arg, const struct trace_record *r)
{
    static const struct trace_record full = {.type = TRACE_FULL};
    struct fault_trace *t = arg;

    if (t->ended)
        return;
    if (t->written + t->used + TRACE_RECORD_MAX + LAST_RECORDS >= t->limit) {
        log_warn("%s: the trace has reached its limit of %" PRIu64 " bytes and ends here", t->path,
                 t->limit);
        t->ended = true;
        r = &full;
    }
    encode(t, r);
}

/* What is around the disk that the rules do not say of requests. */
static void put_setup(struct fault_trace *t, const struct node *n)
{
    const struct fault_node *f = n->state;
    const struct limits *l = &n->limits;
    struct trace_record r = {
        .type = TRACE_SETUP,
        .setup = {.cache = *rules_cache(f->rules),
                  .limits = {l->align, l->max_len, l->zero_align, l->max_zero, l->discard_align,
                             l->max_discard}},
    };

    encode(t, &r);
}

bool fault_trace_start(struct node *n, const char *path, uint64_t limit, struct err **errp)
{
    struct fault_node *f = n->state;
    struct fault_trace *t = mem_new(struct fault_trace);

    if (!t)
        return err_set(errp, ENOMEM, "no memory for a fault trace");
    t->limit = limit;
    t->path = mem_strdup(path);
    t->fd = t->path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (t->fd < 0) {
        err_set_errno(errp, t->path ? errno : ENOMEM, "Could not write fault trace '%s'", path);
        mem_free(t->path);
        mem_free(t);
        return false;
    }
    trace_header(t->buf, rules_seed(f->rules));
    t->used = TRACE_HEADER_LEN;
    t->sum = TRACE_SUM_FIRST;
    put_setup(t, n);
    f->trace = t;
    rules_on_trace(f->rules, put, t);
    return true;
}

void fault_trace_end(struct fault_node *f)
{
    struct fault_trace *t = f->trace;

    if (!t)
        return;
    rules_on_trace(f->rules, NULL, NULL);
    flush(t);
    encode(t, &(struct trace_record){.type = TRACE_END, .sum = t->sum});
    flush(t);
    if (t->fd >= 0)
        close(t->fd);
    mem_free(t->path);
    mem_free(t);
}
