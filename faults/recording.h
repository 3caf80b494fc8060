/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What was done to a disk, in order: writes, flushes, and marks that say how far somebody had come.
 * And the moments at which a power cut tells most. Pure: no I/O.
 *
 * A change is done in one instant. A flush makes durable what was changed before it; a change with
 * FUA is durable when it is done. This is the model of the Linux kernel's dm-log-writes, whose logs
 * are recordings, too. What is done but not acknowledged when a flush comes is none of its
 * business: it is put behind the flush, so that it may or may not be there after a cut.
 */
#ifndef FAULTS_RECORDING_H
#define FAULTS_RECORDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "faults/cache.h"

enum recorded { RECORDED_WRITE, RECORDED_ZERO, RECORDED_TRIM, RECORDED_FLUSH, RECORDED_MARK };

struct recorded_entry {
    enum recorded what;
    bool fua;
    uint64_t ticket;   /* of a change that is not acknowledged; 0: it is */
    uint64_t off, len; /* bytes; of MARK: len is that of the name */
    uint8_t *data;     /* WRITE: len bytes; MARK: a string; else NULL */
};

struct recording { /* zeroed but for limit: empty */
    struct recorded_entry *entry;
    size_t n, room;
    uint64_t tickets;      /* given out */
    size_t unacknowledged; /* entries */
    uint64_t bytes, limit; /* of all changes, zeros too: exploring takes memory for each; at most */
    bool closed;           /* what comes now is not recorded any more */
    int error;             /* something could not be recorded: -errno; it is not whole */
};

/* Longer trims are not to be recorded, as a disk may ignore any: mkfs trims all of it, which would
 * take as much memory. */
#define RECORDED_TRIM_MAX (UINT64_C(16) << 20)

/* recording_put: data is copied. 0; -ENOSPC: the limit is reached; -ENOMEM. After an error the
 * recording has nothing of it, and says so in `error`. */
int recording_put(struct recording *r, const struct recorded_entry *e);
/* recording_acknowledge: the change that was put with this ticket, from ++tickets, is answered: the
 * flushes from here on cover it. */
void recording_acknowledge(struct recording *r, uint64_t ticket);
/* recording_end: bytes: where the disk must at least end to hold all of it. */
uint64_t recording_end(const struct recording *r);
void recording_free(struct recording *r);

/* A moment just before something becomes durable, or the end of the recording: between two such
 * moments, the later the cut, the more may be lost, and nothing is gained. So these are all that
 * need to be looked at. */
struct moment {
    size_t first;     /* entries before it are durable */
    size_t end;       /* entries from here on have not happened */
    size_t in_flight; /* this entry asks for FUA, and is not done yet; SIZE_MAX: none */
    const char *mark; /* the last one set by then, or "" */
    uint64_t marks;   /* how many were set by then */
};

struct moments { /* to walk along a recording: only r is set at first */
    const struct recording *r;
    struct moment now;
    size_t next;       /* the first entry that was not looked at */
    bool dirty, ended; /* something is volatile; the last one was given */
};
/* moments_next: go on to the next one: m->now. False: there is none. */
bool moments_next(struct moments *m);
/* moment_cache: the changes that are not (or not surely) durable then, as records of c, which is
 * empty but for its conf. False without memory: then c is empty again. */
bool moment_cache(const struct recording *r, const struct moment *m, struct cache *c);

#endif
