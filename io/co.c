/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Coroutines. Stacks are mapped once and pooled last-in first-out, so that a busy server runs on a
 * few that stay in the CPU's cache. Below each stack lies a guard page: an overflow faults instead
 * of overwriting a neighbour.
 */
#include "io/co.h"

#include <assert.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sanitizers.h"
#include "io/co_priv.h"
#include "io/co_switch.h"
#include "io/reactor_priv.h"

#if WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Sanitizers make frames several times larger. Only touched pages cost memory. */
#if WITH_ASAN || WITH_TSAN
#define STACK_BYTES ((size_t)1 << 20)
#else
#define STACK_BYTES ((size_t)256 << 10)
#endif
#define GUARD_BYTES ((size_t)4096)
#define POOL_KEEP 128 /* idle stacks that are kept for reuse */

static inline void tell_start(struct co_context *from, struct co_context *to, bool from_ends)
{
#if WITH_ASAN
    __sanitizer_start_switch_fiber(from_ends ? NULL : &from->fake_stack, to->stack_bottom,
                                   to->stack_size);
#endif
#if WITH_TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
    (void)from, (void)to, (void)from_ends;
}

/* tell_finish: on arrival at `here`. learn: NULL, or the side we came from if its stack bounds are
 * not known yet: that is the thread's own stack, which only the sanitizer can tell. */
static inline void tell_finish(struct co_context *here, struct co_context *learn)
{
#if WITH_ASAN
    __sanitizer_finish_switch_fiber(here->fake_stack, learn ? &learn->stack_bottom : NULL,
                                    learn ? &learn->stack_size : NULL);
#endif
    (void)here, (void)learn;
}

#if WITH_TSAN
__attribute__((no_sanitize("thread")))
#endif
static void
context_switch(struct co_pool *p, struct co_context *to, bool from_ends)
{
    struct co_context *from = p->current;
    tell_start(from, to, from_ends);
    p->current = to;
    co_switch_stack(&from->sp, to->sp);
    /* Back here: p->current is from again, set by whoever switched. */
    tell_finish(from, NULL);
}

static void co_entry(void)
{
    struct co_pool *p = &reactor_current()->co_pool;
    struct co *co = p->self;
    tell_finish(&co->ctx, co->resumer == &p->thread_ctx ? &p->thread_ctx : NULL);
    co->fn(co->arg);

    co->ended = true;
    struct co_context *back = co->resumer;
    co->resumer = NULL;
    context_switch(p, back, true);
    assert(!"a coroutine ran past its end");
}

static struct co *co_map(void)
{
    struct co *co = mem_new(struct co);
    if (!co)
        return NULL;
    co->map = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (co->map == MAP_FAILED || mprotect(co->map, GUARD_BYTES, PROT_NONE) != 0) {
        if (co->map != MAP_FAILED)
            munmap(co->map, GUARD_BYTES + STACK_BYTES);
        mem_free(co);
        return NULL;
    }
    co->ctx.stack_bottom = (char *)co->map + GUARD_BYTES;
    co->ctx.stack_size = STACK_BYTES;
    return co;
}

static void co_unmap(struct co *co)
{
#if WITH_ASAN
    /* Whatever the sanitizer poisoned on this stack must not haunt the next user of the addresses.
     */
    __asan_unpoison_memory_region(co->ctx.stack_bottom, co->ctx.stack_size);
#endif
    munmap(co->map, GUARD_BYTES + STACK_BYTES);
    mem_free(co);
}

static struct co *co_get(struct co_pool *p)
{
    struct co *co = p->free_list;
    if (co) {
        p->free_list = co->next;
        p->n_free--;
    } else {
        co = co_map();
        if (!co)
            return NULL;
    }
    p->n_alive++;
#if WITH_TSAN
    co->ctx.fiber = __tsan_create_fiber(0);
#endif
    return co;
}

static void co_put(struct co_pool *p, struct co *co)
{
#if WITH_TSAN
    __tsan_destroy_fiber(co->ctx.fiber);
    co->ctx.fiber = NULL;
#endif
    p->n_alive--;
    if (p->n_free >= POOL_KEEP) {
        co_unmap(co);
        return;
    }
    co->next = p->free_list;
    p->free_list = co;
    p->n_free++;
}

void co_resume(struct co *co)
{
    struct co_pool *p = &reactor_current()->co_pool;
    struct co *outer = p->self;
    assert(!co->resumer);
    co->resumer = p->current;
    p->self = co;
    context_switch(p, &co->ctx, false);
    p->self = outer;
    if (co->ended)
        co_put(p, co);
}

bool co_start(co_fn *fn, void *arg)
{
    struct co_pool *p = &reactor_current()->co_pool;
    struct co *co = co_get(p);
    if (!co)
        return false;
    co->fn = fn;
    co->arg = arg;
    co->ready = false;
    co->ended = false;
    co->local = (struct co_local){0};
    co->ctx.fake_stack = NULL;
#ifdef CO_PREPARE_NEEDS_SIZE
    co->ctx.sp = co_prepare_stack_sized((char *)co->map + GUARD_BYTES, STACK_BYTES, co_entry);
#else
    co->ctx.sp = co_prepare_stack((char *)co->map + GUARD_BYTES + STACK_BYTES, co_entry);
#endif
    co_resume(co);
    return true;
}

struct co *co_self(void)
{
    struct reactor *r = reactor_current();
    return r ? r->co_pool.self : NULL;
}

struct co_local *co_local(void)
{
    struct co *co = co_self();
    return co ? &co->local : NULL;
}

void co_yield (void)
{
    struct co_pool *p = &reactor_current()->co_pool;
    struct co *co = p->self;
    assert(co);
    struct co_context *back = co->resumer;
    co->resumer = NULL;
    context_switch(p, back, false);
}

void co_wake(struct co *co)
{
    assert(!co->ready && !co->ended);
    co->ready = true;
    reactor_make_ready(reactor_current(), co);
}

void co_reschedule(void)
{
    co_wake(co_self());
    co_yield ();
}

size_t co_alive(void)
{
    return reactor_current()->co_pool.n_alive;
}

void co_pool_init(struct co_pool *p)
{
    *p = (struct co_pool){0};
    p->current = &p->thread_ctx;
#if WITH_TSAN
    p->thread_ctx.fiber = __tsan_get_current_fiber();
#endif
}

void co_pool_destroy(struct co_pool *p)
{
    assert(p->n_alive == 0 && !p->self);
    while (p->free_list) {
        struct co *co = p->free_list;
        p->free_list = co->next;
        co_unmap(co);
    }
}
