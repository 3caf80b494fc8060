/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Inside of coroutines, for the reactor.
 */
#ifndef IO_CO_PRIV_H
#define IO_CO_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "io/co.h"

/* One side of a switch: a coroutine, or the thread's own stack. */
struct co_context {
    void *sp;                 /* saved stack pointer while switched away */
    const void *stack_bottom; /* lowest address, for AddressSanitizer */
    size_t stack_size;
    void *fake_stack; /* AddressSanitizer's, while switched away */
    void *fiber;      /* ThreadSanitizer's */
};

struct co {
    struct co_context ctx;
    struct co_context *resumer; /* who runs again when this one yields; NULL while suspended */
    co_fn *fn;
    void *arg;
    struct co *next; /* in the ready queue, or in the pool */
    bool ready;
    bool ended;
    struct co_local local;
    void *map; /* mmap: guard page, then the stack */
};

/* co_resume: switch into a suspended coroutine until it yields or ends. */
void co_resume(struct co *co);

/* Stacks of one reactor. */
struct co_pool {
    struct co *free_list;
    size_t n_free, n_alive;
    struct co_context thread_ctx;
    struct co_context *current; /* &thread_ctx or a coroutine's ctx */
    struct co *self;            /* the running coroutine, or NULL */
};
void co_pool_init(struct co_pool *p);
void co_pool_destroy(struct co_pool *p);

#endif
