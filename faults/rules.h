/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fault engine: blkdebug's rules, exactly, and beside them those of faults/fault.h. Pure: no
 * I/O, no nodes, no clock.
 *
 * Events arm, I/O checks fire. There is one list of armed errors; it is replaced whenever an event
 * matches at least one inject-error rule, and it stays armed ("latched") until then.
 */
#ifndef FAULTS_RULES_H
#define FAULTS_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct rules;

/* The engine does not know the block layer: whoever makes rules gives it the names of the events
 * and of the kinds of writes, in order; an event and a kind are then their index. */
struct rules_names {
    const char *const *event;
    unsigned n_events;
    const char *const *kind;
    unsigned n_kinds; /* at most 32 */
};

/* iotype, in blkdebug's order. */
enum fault_io {
    FAULT_READ,
    FAULT_WRITE,
    FAULT_WRITE_ZEROES,
    FAULT_DISCARD,
    FAULT_FLUSH,
    FAULT_BLOCK_STATUS,
    FAULT_IO_COUNT
};

struct fault_verdict {
    int error; /* errno > 0, or 0: pass */
    bool immediately;
};

/* rules_new: an engine with no rules, state 1. names is borrowed. NULL without memory. */
struct rules *rules_new(const struct rules_names *names);
void rules_free(struct rules *r);
/* rules_load: parse a rule file's text (blkdebug's INI grammar; [engine] and [fault] sections have
 * a kinder one). file: for messages, which name
 * file:line and say what to do. Rules are added behind those that are there. Errors: EINVAL,
 * ENOMEM; on failure no rule of the text was added. */
bool rules_load(struct rules *r, const char *file, const char *text, size_t len, struct err **errp);
/* rules_load_file: read and load; files over 1 MiB are refused (EFBIG). */
bool rules_load_file(struct rules *r, const char *path, struct err **errp);

/* rules_event: event(E) of the specification. Returns how many times the request must be suspended
 * (0: there is no suspend rule yet). */
unsigned rules_event(struct rules *r, unsigned event);
/* rules_check: io(type, off, len) of the specification. */
struct fault_verdict rules_check(struct rules *r, enum fault_io io, uint64_t off, uint64_t len);
unsigned rules_state(const struct rules *r);
/* rules_idle: true while no rule is armed, so that a filter may skip rules_check. */
bool rules_idle(const struct rules *r);
/* rules_listens: true if any rule waits for this event. */
bool rules_listens(const struct rules *r, unsigned event);

/* Counters, for the log at exit: one line a rule, blkdebug's first, e.g.
 * "rules.conf:3 inject-error event=read_aio errno=5: seen 10, armed 2, fired 1". */
unsigned rules_count(const struct rules *r);
bool rules_describe(const struct rules *r, unsigned i, char *buf, size_t buf_len);

#endif
