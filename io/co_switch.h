/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The switch of stacks, in as many instructions as it takes: the callee-saved registers are pushed,
 * the stack pointers exchanged. swapcontext(3) would do, but it makes a system call for the signal
 * mask at every switch, and a request switches four times. Other CPUs use ucontext all the same.
 */
#ifndef IO_CO_SWITCH_H
#define IO_CO_SWITCH_H

#include <stdint.h>
#include <string.h>

/* co_switch_stack: save this side in *from_sp, go on at to_sp. Returns when somebody switches back.
 * co_prepare_stack: a stack pointer that, switched to, enters fn on the stack that ends at top. */
#if defined(__x86_64__)

void co_switch_stack(void **from_sp, void *to_sp);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl co_switch_stack\n"
        ".hidden co_switch_stack\n"
        ".type co_switch_stack, @function\n"
        "co_switch_stack:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size co_switch_stack, .-co_switch_stack\n");

static inline void *co_prepare_stack(void *top, void (*fn)(void))
{
    /* Six registers, the address that ret jumps to, and a null return address for fn, whose stack
     * pointer must be 8 past a multiple of 16 at entry. */
    uintptr_t *sp = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15);
    *--sp = 0;
    *--sp = (uintptr_t)fn;
    for (int i = 0; i < 6; i++)
        *--sp = 0;
    return sp;
}

#elif defined(__aarch64__)

void co_switch_stack(void **from_sp, void *to_sp);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl co_switch_stack\n"
        ".hidden co_switch_stack\n"
        ".type co_switch_stack, %function\n"
        "co_switch_stack:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size co_switch_stack, .-co_switch_stack\n");

static inline void *co_prepare_stack(void *top, void (*fn)(void))
{
    char *sp = (char *)((uintptr_t)top & ~(uintptr_t)15) - 160;
    memset(sp, 0, 160);
    uintptr_t entry = (uintptr_t)fn;
    memcpy(sp + 88, &entry, sizeof(entry)); /* x30, where ret goes */
    return sp;
}

#else

#include <stddef.h>
#include <ucontext.h>

/* The saved "stack pointer" is the address of a ucontext that lives on the stack it describes. */
static inline void co_switch_stack(void **from_sp, void *to_sp)
{
    ucontext_t here;
    *from_sp = &here;
    swapcontext(&here, to_sp);
}

static inline void *co_prepare_stack_sized(void *bottom, size_t size, void (*fn)(void))
{
    ucontext_t *uc = bottom;
    getcontext(uc);
    uc->uc_stack.ss_sp = (char *)bottom + sizeof(*uc);
    uc->uc_stack.ss_size = size - sizeof(*uc);
    uc->uc_link = NULL;
    makecontext(uc, fn, 0);
    return uc;
}
#define CO_PREPARE_NEEDS_SIZE 1

#endif
#endif
