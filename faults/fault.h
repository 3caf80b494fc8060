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
    FAULT_WIRE,  /* replies on their way to a client */
    FAULT_LAYERS
};

struct fault_req {
    enum fault_layer layer;
    enum fault_io op;
    unsigned kind; /* of a write under the format: index into rules_names.kind */
    bool fua;
    uint64_t off, len;
    uint64_t events;             /* bits 1 << event: announced by the same operation just before */
    const void *data;            /* what a write writes; NULL: not known */
    const char *export, *client; /* NULL: not known */
    uint64_t conn;               /* 0: not known */
    uint64_t at_ms;              /* since serving began */
};

/* What becomes of a request after its delay. */
enum fault_deed {
    FAULT_PASS,
    FAULT_FAIL,       /* error, and nothing else */
    FAULT_HANG,       /* no answer until the server stops, or error after hang_ms */
    FAULT_SHORT,      /* the first done bytes, then error */
    FAULT_TORN,       /* only what fault_torn_next tells, then success */
    FAULT_LOST,       /* nothing, and success */
    FAULT_MISDIRECT,  /* delta bytes from where it should go, and success */
    FAULT_CORRUPT,    /* as usual, but fault_damage on the data */
    FAULT_OLD,        /* a read: as usual, then rules_patch_old on the data */
    FAULT_CUT,        /* nothing: the power is cut before it */
    FAULT_DISCONNECT, /* wire: the connection ends in this reply, after `done` bytes of it */
    FAULT_REPLY,      /* wire: the reply is wrong */
};

enum fault_wrong {                  /* what is wrong with a reply */
                   WRONG_MAGIC,     /* its magic number */
                   WRONG_COOKIE,    /* it answers a request that nobody made */
                   WRONG_DUPLICATE, /* it comes twice */
                   WRONG_TRUNCATE,  /* it says that it is longer than it is, and the connection ends
                                     */
                   WRONG_ERRNO,     /* it says error although all is well */
                   WRONG_COUNT
};

struct fault_tear {
    uint32_t unit;
    uint8_t keep; /* enum fault_keep */
    uint64_t draw;
    uint64_t mask; /* of KEEP_MASK */
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
    const char *by; /* the fault of the deed, for messages; NULL: none. Only until the next yield */
    uint64_t id;    /* the fault of the deed, for rules_rest_set and others */
    bool on_disk;   /* TORN, LOST, MISDIRECT, CORRUPT: the disk itself is damaged */
    bool powercut;  /* then cut the power */
    bool drop;      /* FAIL of a flush: what it should have made durable is gone */
    bool turn;      /* FAIL: but first a turn of the event loop */
    int error;      /* errno > 0 */
    bool keep_old;  /* a change: first rules_give_old what is there */
    uint64_t delay_ns; /* of all delays together */
    uint64_t hang_ms;  /* HANG; 0: for ever, and then error is 0, too */
    uint64_t done;     /* SHORT, DISCONNECT */
    bool orderly;      /* DISCONNECT: no reset */
    enum fault_wrong wrong;
    int64_t delta; /* MISDIRECT */
    bool swap;     /* MISDIRECT: what is there comes here */
    struct fault_tear tear;
    struct fault_damage damage;
};

/* rules_watches: may anything be decided about op at this layer now? False costs the filter one
 * call and nothing else. At the host layer it counts armed blkdebug rules, too. */
bool rules_watches(const struct rules *r, enum fault_layer layer, enum fault_io op);
/* rules_has_layer: is there a fault for this layer? */
bool rules_has_layer(const struct rules *r, enum fault_layer layer);
/* rules_check_req: rules_check, of a request of the host layer that a trace shall have whole. */
struct fault_verdict rules_check_req(struct rules *r, const struct fault_req *q);
/* rules_wanted_events: bits of the events that a fault selects by: fault_req.events need hold no
 * others. */
uint64_t rules_wanted_events(const struct rules *r);
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

/* Damage at rest. Unless it shall be on_disk, who carries out a deed writes the truth to the disk
 * and tells here what reads shall find instead; false: there is no room for it, or the fault is
 * gone. rules_rest_written: these bytes are being written: their damage ends. rules_rest_patch: put
 * it over what was read. rules_rest_run: as pages_run. rules_rest_any: false: no need to ask. */
bool rules_rest_set(struct rules *r, uint64_t id, uint64_t off, const void *buf, uint64_t len);
void rules_rest_written(struct rules *r, enum fault_layer layer, uint64_t off, uint64_t len);
void rules_rest_patch(const struct rules *r, enum fault_layer layer, uint64_t off, void *buf,
                      uint64_t len);
uint64_t rules_rest_run(const struct rules *r, enum fault_layer layer, uint64_t off, uint64_t len,
                        bool *held);
bool rules_rest_any(const struct rules *r, enum fault_layer layer);
/* rules_give_old: what is there before this write, which keep_old asks for. rules_patch_old: put
 * over buf what was there before; of deed OLD. rules_wants_old: does a fault want to know? */
bool rules_wants_old(const struct rules *r, enum fault_layer layer, uint64_t off, uint64_t len);
void rules_give_old(struct rules *r, enum fault_layer layer, uint64_t off, const void *old,
                    uint64_t len);
void rules_patch_old(const struct rules *r, uint64_t id, uint64_t off, void *buf, uint64_t len);

/* rules_load_option: one fault as on a command line: 'op=read range=1M+4k action=error nth=3'.
 * Messages and counters call it "--fault N". As rules_load otherwise. */
bool rules_load_option(struct rules *r, const char *text, unsigned n, struct err **errp);
/* rules_load_rule: the same, under this name instead. */
bool rules_load_rule(struct rules *r, const char *text, const char *label, struct err **errp);

/* rules_on_script: what opens a script of r asks allow, which returns the path to open, a new
 * string, or NULL and *errp. Without it any path is opened as it is. */
void rules_on_script(struct rules *r,
                     char *(*allow)(const void *arg, const char *path, struct err **errp),
                     const void *arg);

/* The seed of all draws: random unless the file or the user says it; the user's stands. */
uint64_t rules_seed(const struct rules *r);
void rules_set_seed(struct rules *r, uint64_t seed);

/* rules_warn: fn is told, in sentences that begin with "file:line: ", of rules that can never fire
 * and of those that latch. Returns how many. */
unsigned rules_warn(const struct rules *r, void (*fn)(void *arg, const char *text), void *arg);
/* rules_check_exports: ENOENT if a fault is about an export that has none of these names and is no
 * view of one (NAME@...); patterns are compared up to their first wildcard. */
bool rules_check_exports(const struct rules *r, const char *const *names, size_t n,
                         struct err **errp);
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
