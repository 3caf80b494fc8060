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

/* rules_new: an engine with no rules, state 1, and one reference to it. names is borrowed. NULL
 * without memory. rules_ref: one more. rules_free: drop one; with the last r ends. */
struct rules *rules_new(const struct rules_names *names);
struct rules *rules_ref(struct rules *r);
void rules_free(struct rules *r);
/* rules_load: parse a rule file's text (blkdebug's INI grammar; [engine] and [fault] sections have
 * a kinder one). file: for messages, which name
 * file:line and say what to do. Rules are added behind those that are there. Errors: EINVAL,
 * ENOMEM; on failure no rule of the text was added. */
bool rules_load(struct rules *r, const char *file, const char *text, size_t len, struct err **errp);
/* rules_load_file: read and load; files over 1 MiB are refused (EFBIG). */
bool rules_load_file(struct rules *r, const char *path, struct err **errp);

/* A request at an event: whoever announces it lends this, zeroed, to the engine. */
struct rules_sleeper {
    unsigned left;       /* sleep until it is 0: so often it must be resumed */
    uint64_t timeout_ms; /* wake up by rules_resume_sleeper after so long; 0: never */
};

/* rules_event: event(E) of blkdebug: arm errors, then set the state. If left > 0 afterwards, s
 * stays lent until it is 0 again. s NULL: nothing may sleep now, breakpoints are left alone. */
void rules_event(struct rules *r, unsigned event, struct rules_sleeper *s);

/* Breakpoints, as blkdebug's. rules_break: hold the next request that announces this event, in
 * whatever state. 0 or -ENOMEM.
 * rules_resume: take the newest hold of this tag (NULL: of any) off its request; *woken is set if
 * that was the last on it. -ENOENT: none.
 * rules_remove_break: delete what has this tag and holds nothing yet. -ENOENT: nothing had. Who
 * means blkdebug's remove_break resumes the tag, too, until there is none.
 * rules_resume_sleeper: take all holds off s. */
int rules_break(struct rules *r, unsigned event, const char *tag);
int rules_resume(struct rules *r, const char *tag, struct rules_sleeper **woken);
int rules_remove_break(struct rules *r, const char *tag);
void rules_resume_sleeper(struct rules *r, struct rules_sleeper *s);
bool rules_is_suspended(const struct rules *r, const char *tag);
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
