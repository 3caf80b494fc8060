/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The NBD export a backup reads: several libnbd connections driven from coroutines of one reactor.
 *
 * One pump coroutine a connection waits for its socket and lets libnbd work; requests are
 * coroutines of their own that sleep until libnbd reports their end. A connection that breaks, or
 * says nothing for the timeout while it owes answers, fails every request on it.
 */
#ifndef BACKUP_CLIENT_SOURCE_H
#define BACKUP_CLIENT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "block/extent.h"
#include "io/lock.h"

#define SOURCE_CONNECTIONS_MAX 16
#define CONTEXT_ALLOCATION "base:allocation"
#define CONTEXT_DIRTY_PREFIX "qemu:dirty-bitmap:"
#define CONTEXT_NAME_MAX (sizeof(CONTEXT_DIRTY_PREFIX) + 1023)

struct conn;

struct source_opts {
    const char *uri;
    const char
        *first; /* the first connection enters the export by this name; NULL: as the others */
    unsigned connections; /* at most; 1 is used if the server does not promise multi-conn, and
                             fewer if it does not take so many */
    uint64_t timeout_ms;
};

struct source {
    struct source_opts opts;
    struct conn *conn[SOURCE_CONNECTIONS_MAX];
    unsigned n;
    struct conn *opening; /* while source_open waits for it */
    bool aborted;
    uint64_t size;
    bool read_only;
    bool has_allocation;  /* the server granted base:allocation, */
    bool has_dirty;       /* and the dirty context that was asked for */
    uint32_t max_request; /* bytes; what the server takes at once */
    struct co_group pumps;
};

enum source_result {
    SOURCE_OK,
    SOURCE_UNREACHABLE, /* no connection, or it broke before an answer */
    SOURCE_NO_EXPORT,   /* the server does not have this export */
    SOURCE_ERROR,
};

/* source_open: connect and enter the export `name`, asking for the allocation context and, if dirty
 * is not NULL, for the context of that dirty bitmap. All connections see the same export. Yields.
 * Close with source_close, also after failure. */
enum source_result source_open(struct source *s, const struct source_opts *opts, const char *name,
                               const char *dirty, struct err **errp);
/* source_abort: fail everything that is under way, and all that comes; also source_open. Does not
 * yield. */
void source_abort(struct source *s);
/* source_close: say goodbye and free. Requests must have ended. Yields. */
void source_close(struct source *s);

/* source_read: all of len bytes at off, on connection i % n. A short answer is an error. Yields. */
bool source_read(struct source *s, unsigned i, void *buf, uint64_t off, uint32_t len,
                 struct err **errp);

/* span_fetch functions (arg: the source): the allocation map with enum extent_flags, and the dirty
 * map with 1 = dirty. */
bool source_allocation(void *arg, uint64_t off, uint64_t len, struct extents *x, struct err **errp);
bool source_dirty(void *arg, uint64_t off, uint64_t len, struct extents *x, struct err **errp);

#endif
