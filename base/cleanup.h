/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Scope-bound cleanup: AUTO_FREE char *s = ...; is freed when s leaves scope.
 * Transfer ownership out of such a variable with steal().
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

static inline void cleanup_mem(void *p)
{
    mem_free(*(void **)p);
}

static inline void cleanup_err(struct err **e)
{
    err_free(*e);
}

static inline void cleanup_fd(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define AUTO_FREE __attribute__((cleanup(cleanup_mem)))
#define AUTO_ERR __attribute__((cleanup(cleanup_err)))
#define AUTO_CLOSE __attribute__((cleanup(cleanup_fd)))

/* steal: take the value out of an AUTO_* pointer, leaving NULL behind. */
#define steal(ptr)                                                                                 \
    ({                                                                                             \
        __typeof__(ptr) *steal_at_ = &(ptr);                                                       \
        __typeof__(ptr) steal_val_ = *steal_at_;                                                   \
        *steal_at_ = NULL;                                                                         \
        steal_val_;                                                                                \
    })

#endif
