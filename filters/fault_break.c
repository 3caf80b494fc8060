/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Breakpoints of the fault filter: operations that sleep at an event until they are resumed.
 *
 * The engine counts who holds whom; here are the coroutines and the clock. Nothing sleeps while the
 * image is being opened or the server stops, or it would hang everything.
 */
#include <errno.h>

#include "base/log.h"
#include "filters/fault_priv.h"
#include "io/co.h"
#include "io/reactor.h"

struct sleeper {
    struct rules_sleeper s;
    struct co *co;
    struct rules *rules;
};

static void timed_out(void *arg)
{
    struct sleeper *sl = arg;

    if (sl->s.left == 0)
        return; /* it was resumed in this pass */
    rules_resume_sleeper(sl->rules, &sl->s);
    co_wake(sl->co);
}

void fault_announce(struct fault_node *f, enum blk_event ev)
{
    struct sleeper sl = {.co = co_self(), .rules = f->rules};
    struct timer t = {0};

    rules_event(f->rules, ev, f->may_hang ? &sl.s : NULL);
    if (sl.s.left == 0)
        return;
    log_info("an operation is held at %s", blk_event_name(ev));
    co_queue_wake_all(&f->stopped);
    if (sl.s.timeout_ms)
        timer_set(&t, clock_ns() + (int64_t)sl.s.timeout_ms * NS_PER_MS, timed_out, &sl);
    while (sl.s.left > 0)
        co_yield ();
    timer_cancel(&t);
}

int fault_break(struct node *n, const char *event, const char *tag)
{
    struct fault_node *f = n->state;
    enum blk_event ev = blk_event_by_name(event);

    return ev == EV_COUNT ? -ENOENT : rules_break(f->rules, ev, tag);
}

int fault_resume(struct node *n, const char *tag)
{
    struct fault_node *f = n->state;
    struct rules_sleeper *woken;
    int ret = rules_resume(f->rules, tag, &woken);

    if (woken)
        co_wake(((struct sleeper *)woken)->co);
    return ret;
}

int fault_remove_break(struct node *n, const char *tag)
{
    struct fault_node *f = n->state;
    int ret = rules_remove_break(f->rules, tag);

    while (fault_resume(n, tag) == 0)
        ;
    return ret;
}

bool fault_is_suspended(const struct node *n, const char *tag)
{
    const struct fault_node *f = n->state;

    return rules_is_suspended(f->rules, tag);
}

int fault_wait_break(struct node *n, const char *tag)
{
    struct fault_node *f = n->state;

    while (!rules_is_suspended(f->rules, tag)) {
        if (!f->may_hang)
            return -ESHUTDOWN;
        co_queue_wait(&f->stopped);
    }
    return 0;
}
