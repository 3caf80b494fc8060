/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A trace of what an engine heard and decided, as bytes: a header, then records of a few bytes
 * each, then a sum.
 *
 * There is no time in it, nor anything else that differs from run to run: the same requests in the
 * same order with the same seed give the same bytes. A decision is in it whole, so that it can be
 * taken again without the rules (faults/replay.h). Numbers are base 128, low part first. Pure: no
 * I/O.
 */
#ifndef FAULTS_TRACE_H
#define FAULTS_TRACE_H

#include "faults/cache.h"
#include "faults/live.h"
#include "faults/options.h"

enum trace_type {
    TRACE_EVENT = 1, /* the format announced it */
    TRACE_REQUEST,   /* a request, and what became of it */
    TRACE_MARK,      /* somebody wrote a word into it */
    TRACE_FULL,      /* nothing more was recorded */
    TRACE_SETUP,     /* what else was around the disk; the first record */
    TRACE_END,       /* the last record: the trace is whole */
    TRACE_TYPES
};

struct trace_setup {
    struct cache_conf cache; /* without its seed: that is the header's */
    struct fault_limits limits;
};

struct trace_record {
    enum trace_type type;
    unsigned event;         /* EVENT */
    enum fault_layer layer; /* REQUEST */
    enum fault_io op;
    unsigned kind;
    bool fua;
    uint64_t off, len, conn;
    struct fault_decision what; /* by is NULL; id: the rule's number, 0: none */
    char mark[64];              /* MARK */
    struct trace_setup setup;   /* SETUP */
    uint64_t sum;               /* END: of all bytes before it */
};

#define TRACE_KINDS 32 /* more than there are names for: some kinds cannot be selected */
#define TRACE_HEADER_LEN 16
#define TRACE_RECORD_MAX 128 /* bytes */
#define TRACE_SUM_FIRST UINT64_C(0xcbf29ce484222325)

/* trace_header: TRACE_HEADER_LEN bytes. trace_header_seed: false: these are none. */
void trace_header(uint8_t *buf, uint64_t seed);
bool trace_header_seed(const uint8_t *buf, size_t len, uint64_t *seed);
/* trace_encode: at most TRACE_RECORD_MAX bytes; how many. */
size_t trace_encode(const struct trace_record *t, uint8_t *buf);
/* trace_decode: how many bytes of buf the next record has; 0: it is not whole, or none. Numbers out
 * of range, of events those of names, are none, nor are decisions that no rule can come to. */
size_t trace_decode(const uint8_t *buf, size_t len, const struct rules_names *names,
                    struct trace_record *out);
/* trace_sum: of these bytes behind those that gave sum; TRACE_SUM_FIRST of none. */
uint64_t trace_sum(uint64_t sum, const uint8_t *buf, size_t len);
/* fault_deed_name: "passes", "fails", ... */
const char *fault_deed_name(enum fault_deed deed);

/* rules_on_trace: fn is told of each event and each request that r hears of, in order; with it, r
 * wants to hear of all. t is its own only during the call. fn NULL: no more. rules_mark: a mark is
 * made: false: nobody records. */
void rules_on_trace(struct rules *r, void (*fn)(void *arg, const struct trace_record *t),
                    void *arg);
bool rules_mark(struct rules *r, const char *text);

#endif
