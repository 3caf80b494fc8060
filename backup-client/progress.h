/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A progress line on a terminal: how far, how fast, how long still. Silent elsewhere.
 */
#ifndef BACKUP_CLIENT_PROGRESS_H
#define BACKUP_CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    bool on;
    const char *what; /* "backup", ... */
    uint64_t total;   /* bytes of the whole way; 0: not known */
    int64_t start_ns, shown_ns;
    uint64_t pos, moved; /* bytes of the way done; bytes really transferred */
};

/* elapsed_ns: the monotonic time since a value of itself; for measuring, which the reactor's clock,
 * standing still during a pass, is not. elapsed_ns(0) starts. */
int64_t elapsed_ns(int64_t since);

/* progress_init: on if fd is a terminal. */
void progress_init(struct progress *p, int fd, const char *what, uint64_t total);
/* progress_update: redraws at most five times a second. */
void progress_update(struct progress *p, uint64_t pos, uint64_t moved);
/* progress_end: clear the line. */
void progress_end(struct progress *p);
/* progress_text: what the line says at now_ns; for tests too. Returns buf. */
char *progress_text(const struct progress *p, int64_t now_ns, char *buf, size_t buf_len);

#endif
