/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The one way to the heap. The failure hook is per thread, so that a test that fails its own Nth
 * allocation does not disturb worker threads.
 */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local uint64_t fail_at; /* 0 = off */
static _Thread_local int fail_sticky;
static _Thread_local uint64_t count;

void mem_fail_nth(uint64_t nth, int sticky)
{
    fail_at = nth;
    fail_sticky = sticky;
    count = 0;
}

uint64_t mem_count(void)
{
    return count;
}

static int refused(void)
{
    count++;
    if (fail_at == 0 || count < fail_at)
        return 0;
    return count == fail_at || fail_sticky;
}

void *mem_alloc(size_t size)
{
    return refused() ? NULL : malloc(size ? size : 1);
}

void *mem_zalloc(size_t size)
{
    return refused() ? NULL : calloc(1, size ? size : 1);
}

void *mem_array(size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total))
        return NULL;
    return mem_zalloc(total);
}

void *mem_realloc(void *p, size_t size)
{
    return refused() ? NULL : realloc(p, size ? size : 1);
}

void *mem_alloc_aligned(size_t size, size_t align)
{
    void *p;
    if (refused() || posix_memalign(&p, align, size ? size : align) != 0)
        return NULL;
    return p;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
    n = strnlen(s, n);
    char *copy = mem_alloc(n + 1);
    if (copy) {
        memcpy(copy, s, n);
        copy[n] = '\0';
    }
    return copy;
}

char *mem_vprintf(const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, ap);
    char *s = len < 0 ? NULL : mem_alloc((size_t)len + 1);
    if (s)
        vsnprintf(s, (size_t)len + 1, fmt, again);
    va_end(again);
    return s;
}

char *mem_printf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = mem_vprintf(fmt, ap);
    va_end(ap);
    return s;
}

void mem_free(void *p)
{
    free(p);
}
