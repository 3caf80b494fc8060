/* SPDX-License-Identifier: BSD-3-Clause
 *
 * All heap memory comes from here, so that tests can fail the Nth allocation.
 *
 * Every function may return NULL (with nothing changed); callers handle it. Everything returned
 * is released with mem_free. Thread-safe.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/* mem_alloc: size bytes, uninitialised. size 0 returns a pointer that can be freed. */
void *mem_alloc(size_t size) __attribute__((malloc, warn_unused_result));
/* mem_zalloc: size bytes of zeros. */
void *mem_zalloc(size_t size) __attribute__((malloc, warn_unused_result));
/* mem_array: n * size bytes of zeros, NULL if the product overflows. */
void *mem_array(size_t n, size_t size) __attribute__((malloc, warn_unused_result));
/* mem_realloc: as realloc; on NULL the old block is still valid. */
void *mem_realloc(void *p, size_t size) __attribute__((warn_unused_result));
/* mem_alloc_aligned: align is a power of two, at least sizeof(void *). Uninitialised. */
void *mem_alloc_aligned(size_t size, size_t align) __attribute__((malloc, warn_unused_result));
char *mem_strdup(const char *s) __attribute__((malloc, warn_unused_result));
char *mem_strndup(const char *s, size_t n) __attribute__((malloc, warn_unused_result));
/* mem_printf: a new formatted string, or NULL. */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2), warn_unused_result));
char *mem_vprintf(const char *fmt, va_list ap) __attribute__((warn_unused_result));
void mem_free(void *p);

/* mem_new: one zeroed object of a type, or NULL. */
#define mem_new(type) ((type *)mem_zalloc(sizeof(type)))

/* mem_fail_nth: test hook. The nth allocation from now (1 = the next) on this thread returns NULL,
 * and with sticky also all after it. 0 switches the hook off.
 * mem_count: allocations tried on this thread since mem_fail_nth was last called. */
void mem_fail_nth(uint64_t nth, int sticky);
uint64_t mem_count(void);

#endif
