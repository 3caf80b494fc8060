/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Stackful coroutines with pooled stacks, bound to the reactor of the thread that starts them.
 *
 * A coroutine runs until it yields or ends; whoever resumed it then goes on. A request is one
 * coroutine, so code that must do things in order reads as straight code. AddressSanitizer and
 * ThreadSanitizer are told of every switch.
 */
#ifndef IO_CO_H
#define IO_CO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct co;
struct reactor;
typedef void co_fn(void *arg);

/* co_start: run fn(arg) in a new coroutine on this thread's reactor, at once, until it first yields
 * or ends. May be called inside or outside a coroutine. Returns false without memory (fn not run).
 */
bool co_start(co_fn *fn, void *arg);

/* co_self: the running coroutine, or NULL outside of any. Valid until it ends. */
struct co *co_self(void);

/* co_local: two words that belong to the running coroutine, zeroed at its start: for what travels
 * with a request without being part of it. NULL outside of coroutines. */
struct co_local {
    const void *origin; /* struct req_origin: who asked */
    uint64_t events;    /* what was announced since the last I/O */
};
struct co_local *co_local(void);

/* co_yield: suspend the running coroutine until co_wake. Only inside a coroutine. */
void co_yield (void);

/* co_wake: make a suspended coroutine of this thread's reactor ready; it runs from the reactor's
 * loop, in order of waking, not inside this call. Waking a ready one again is a bug (asserted). */
void co_wake(struct co *co);

/* co_reschedule: let everything that is ready run, then go on. Yields. */
void co_reschedule(void);

/* Number of coroutines alive on this thread's reactor (for tests and leak checks). */
size_t co_alive(void);

#endif
