/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Faults beyond blkdebug: what a [fault] section does to a request.
 *
 * A rule of blkdebug is armed by an event and strikes whatever comes next. A fault looks at the
 * request itself: its selectors must all match, and its action says what becomes of the request.
 * The engine only decides; who asked carries the decision out. Pure: no I/O, no nodes, no clock.
 *
 * Draws (probabilities, random units, bits, delays) are a hash of the seed, the fault's identity,
 * the request's op, offset and length, and of how often the fault has met such a request. So they
 * depend neither on the order in which different requests arrive nor on other faults.
 */
#ifndef FAULTS_FAULT_H
#define FAULTS_FAULT_H

#include "faults/rules.h"

enum fault_layer {
    FAULT_HOST,  /* under the format: host-file offsets */
    FAULT_GUEST, /* above it: what clients ask for */
    FAULT_LAYERS
};

struct fault_req {
    enum fault_layer layer;
    enum fault_io op;
    unsigned kind; /* of a write under the format: index into rules_names.kind */
    bool fua;
    uint64_t off, len;
};

/* What becomes of a request after its delay. */
enum fault_deed {
    FAULT_PASS,
    FAULT_FAIL,      /* error, and nothing else */
    FAULT_HANG,      /* no answer until the server stops */
    FAULT_SHORT,     /* the first done bytes, then error */
    FAULT_TORN,      /* only what fault_torn_next tells, then success */
    FAULT_LOST,      /* nothing, and success */
    FAULT_MISDIRECT, /* delta bytes from where it should go, and success */
    FAULT_CORRUPT,   /* as usual, but fault_damage on the data */
};

struct fault_tear {
    uint32_t unit;
    uint8_t keep; /* enum fault_keep */
    uint64_t draw;
};

struct fault_damage {
    uint8_t how;       /* enum fault_how */
    uint8_t byte;      /* FILL */
    unsigned bits;     /* FLIP */
    uint64_t off, len; /* only bytes in here; len 0: all */
    uint64_t draw;
};

struct fault_decision {
    enum fault_deed deed;
    const char *by;    /* the fault of the deed, for messages; NULL: none */
    int error;         /* errno > 0 */
    uint64_t delay_ns; /* of all delays together */
    uint64_t done;     /* SHORT */
    int64_t delta;     /* MISDIRECT */
    struct fault_tear tear;
    struct fault_damage damage;
};

/* rules_watches: may anything be decided about op at this layer now? False costs the filter one
 * call and nothing else. At the host layer it counts armed blkdebug rules, too. */
bool rules_watches(const struct rules *r, enum fault_layer layer, enum fault_io op);
/* rules_has_layer: is there a fault for this layer? */
bool rules_has_layer(const struct rules *r, enum fault_layer layer);
/* rules_decide: let the faults of q's layer and op meet q, in file order: delays add up, states are
 * set, log lines written; the first other action that fires ends it. All compare with the state as
 * it was before q. Advances counters. */
void rules_decide(struct rules *r, const struct fault_req *q, struct fault_decision *d);

/* fault_torn_next: the next run of kept bytes of [off, off + len) from *at on: then it is
 * [*at, *at + *n), and true. Start with *at = off, go on with *at += *n. */
bool fault_torn_next(const struct fault_tear *t, uint64_t off, uint64_t len, uint64_t *at,
                     uint64_t *n);
/* fault_damage: change buf, which holds [off, off + len). */
void fault_damage(const struct fault_damage *d, void *buf, uint64_t off, uint64_t len);

/* rules_load_option: one fault as on a command line: 'op=read range=1M+4k action=error nth=3'.
 * Messages and counters call it "--fault N". As rules_load otherwise. */
bool rules_load_option(struct rules *r, const char *text, unsigned n, struct err **errp);

/* The seed of all draws: random unless the file or the user says it; the user's stands. */
uint64_t rules_seed(const struct rules *r);
void rules_set_seed(struct rules *r, uint64_t seed);

/* rules_warn: fn is told, in sentences that begin with "file:line: ", of rules that can never fire
 * and of those that latch. Returns how many. */
unsigned rules_warn(const struct rules *r, void (*fn)(void *arg, const char *text), void *arg);
/* rules_explain: what rule i does, in words; false past the end. */
bool rules_explain(const struct rules *r, unsigned i, char *buf, size_t buf_len);

/* For documentation: the actions, and the keys of [fault] sections. False past the end. */
struct fault_help {
    const char *name, *value, *text;
    char goes_with[160]; /* of an action: its ops; of a key: its actions, "" for a selector */
};
bool fault_action_help(unsigned i, struct fault_help *out);
bool fault_key_help(unsigned i, struct fault_help *out);

#endif
