/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A leaf that writes down what the dispatcher hands it, over a small array in memory, and ways to
 * run a test body in a coroutine on the simulated clock.
 *
 * The trace is words: R W Z D F S C T for the operations, with "off+len" in decimal, "!" for
 * REQ_FUA and "u" for REQ_MAY_UNMAP; events by their names.
 */
#ifndef TESTS_UNIT_BLOCK_PROBE_H
#define TESTS_UNIT_BLOCK_PROBE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "block/node.h"
#include "io/co.h"
#include "io/reactor.h"

#define PROBE_SIZE (256 * 1024)

struct probe {
    char trace[8192];
    uint8_t data[PROBE_SIZE];
    int fail[REQ_OP_COUNT]; /* -errno to return for an operation; -ENOTSUP: cannot */
    int64_t delay_ns;       /* each request takes so long */
    unsigned running, most_running;
    int write_back_result;
    int closed;
};

static inline void probe_say(struct probe *p, const char *fmt, ...)
{
    size_t n = strlen(p->trace);
    va_list ap;
    va_start(ap, fmt);
    if (n && n < sizeof(p->trace) - 1)
        p->trace[n++] = ' ';
    vsnprintf(p->trace + n, sizeof(p->trace) - n, fmt, ap);
    va_end(ap);
}

static inline int probe_do(struct node *n, struct probe *p, struct req *r)
{
    switch (r->op) {
    case REQ_READ:
        memcpy(r->buf, p->data + r->off, r->len);
        return 0;
    case REQ_WRITE:
        memcpy(p->data + r->off, r->buf, r->len);
        break;
    case REQ_ZERO:
    case REQ_DISCARD:
        memset(p->data + r->off, 0, r->len);
        break;
    case REQ_STATUS:
        return extents_add(r->ext, r->len, EXTENT_ZERO) < 0 ? -ENOMEM : 0;
    case REQ_TRUNCATE:
        n->size = r->off;
        return 0;
    default:
        return 0;
    }
    if (r->op != REQ_DISCARD)
        n->size = max_u64(n->size, r->off + r->len);
    return 0;
}

static inline int probe_submit(struct node *n, struct req *r)
{
    struct probe *p = *(struct probe **)n->state;
    assert_true(r->off + r->len <= PROBE_SIZE);
    assert_int_equal((uintptr_t)r->buf % n->limits.mem_align, 0);
    if (r->op == REQ_FLUSH)
        probe_say(p, "F");
    else
        probe_say(p, "%c%llu+%llu%s%s", "RWZDFSCT"[r->op], (unsigned long long)r -> off,
                  (unsigned long long)r -> len, r -> flags &REQ_FUA ? "!" : "",
                  r->flags &REQ_MAY_UNMAP ? "u" : "");
    if (++p->running > p->most_running)
        p->most_running = p->running;
    int ret = p->fail[r->op];
    if (p->delay_ns)
        co_sleep_until(clock_ns() + p->delay_ns);
    if (ret == 0)
        ret = probe_do(n, p, r);
    p->running--;
    return ret;
}

static inline void probe_event(struct node *n, enum blk_event ev)
{
    probe_say(*(struct probe **)n->state, "%s", blk_event_name(ev));
}

static inline int probe_write_back(struct node *n)
{
    struct probe *p = *(struct probe **)n->state;
    probe_say(p, "write_back");
    return p->write_back_result;
}

static inline void probe_close(struct node *n)
{
    struct probe *p = *(struct probe **)n->state;
    if (p)
        p->closed++;
}

/* A leaf that hears no events; one that does; one that takes FUA. */
static const struct driver probe_driver
    __attribute__((unused)) = {.name = "probe",
                               .state_size = sizeof(struct probe *),
                               .submit = probe_submit,
                               .close = probe_close};
static const struct driver probe_listener
    __attribute__((unused)) = {.name = "probe-listener",
                               .state_size = sizeof(struct probe *),
                               .submit = probe_submit,
                               .event = probe_event,
                               .close = probe_close};
static const struct driver probe_fua
    __attribute__((unused)) = {.name = "probe-fua",
                               .state_size = sizeof(struct probe *),
                               .submit = probe_submit,
                               .close = probe_close,
                               .fua_ops = 1u << REQ_WRITE | 1u << REQ_ZERO};
static const struct driver pass_filter
    __attribute__((unused)) = {.name = "pass", .is_filter = true};

static inline struct node *probe_open(struct probe *p, const struct driver *drv)
{
    struct node *n = node_new(drv, "probe", NULL);
    assert_non_null(n);
    *(struct probe **)n->state = p;
    n->size = PROBE_SIZE;
    return n;
}

static inline struct node *filter_over(struct node *child)
{
    struct node *n = node_new(&pass_filter, "filter", NULL);
    assert_non_null(n);
    assert_true(node_attach(n, child, NULL));
    return n;
}

/* The trace is what is expected; then start a new one. */
static inline void probe_expect(struct probe *p, const char *trace)
{
    assert_string_equal(p->trace, trace);
    p->trace[0] = 0;
}

/* Run body in a coroutine on the simulated clock; nothing may be left behind. */
static inline void run_sim(co_fn *body, void *arg)
{
    struct reactor *r;
    assert_true(reactor_new(REACTOR_SIM, &r, NULL));
    assert_true(reactor_run_co(r, body, arg));
    reactor_run_until_idle(r);
    assert_int_equal(co_alive(), 0);
    reactor_free(r);
}

#define SIM_TEST(name)                                                                             \
    static void name##_body(void *arg);                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        run_sim(name##_body, NULL);                                                                \
    }                                                                                              \
    static void name##_body(void *arg)

#endif
