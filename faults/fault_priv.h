/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of the language beyond blkdebug share: a fault is selectors, an action, counters.
 */
#ifndef FAULTS_FAULT_PRIV_H
#define FAULTS_FAULT_PRIV_H

#include "faults/cache.h"
#include "faults/fault.h"
#include "faults/live.h"
#include "faults/pages.h"
#include "faults/rules_priv.h"
#include "faults/text.h"

#define FAULTS_MAX 4096 /* of one engine */
#define OP(io) (1u << FAULT_##io)
#define OPS_ALL (OP(READ) | OP(WRITE) | OP(WRITE_ZEROES) | OP(DISCARD) | OP(FLUSH))
#define OPS_WITH_STATUS (OPS_ALL | OP(BLOCK_STATUS))

extern const char *const fault_op_names[FAULT_IO_COUNT];
extern const char *const fault_layer_names[FAULT_LAYERS];

/* --- select.c --- */

enum fault_fua { FUA_ANY, FUA_ON, FUA_OFF };

struct fault_select {
    enum fault_layer layer;
    unsigned ops;      /* bits 1 << enum fault_io */
    unsigned kinds;    /* bits; 0: any */
    unsigned fua;      /* enum fault_fua */
    uint64_t off, len; /* the request touches it; len 0: any request does */
    uint64_t min_len;
    uint32_t state;          /* 0: any */
    uint64_t events;         /* bits; 0: any */
    char *export, *client;   /* globs; NULL: any */
    uint64_t conn;           /* 0: any */
    uint64_t from_ms, to_ms; /* since serving began; to_ms 0: any time */
    /* What counts, in the order in which it is asked. 0: not given. */
    uint64_t nth, every, limit;
    double prob; /* 1: always */
};

/* select_matches: all but the selectors that count. Its layer and op are known to fit. */
bool select_matches(const struct fault_select *s, const struct fault_req *q, uint32_t state);
/* select_origin: does it match who asks? */
bool select_origin(const struct fault_select *s, const struct fault_req *q);
/* select_counts: does request number `matched` (from 1) come up to nth and every? */
bool select_counts(const struct fault_select *s, uint64_t matched);
void select_describe(const struct fault_select *s, const struct rules_names *names, struct out *o);

/* --- action.c --- */

enum fault_action {
    ACTION_ERROR,
    ACTION_DELAY,
    ACTION_HANG,
    ACTION_SHORT,
    ACTION_TORN,
    ACTION_LOST,
    ACTION_MISDIRECT,
    ACTION_CORRUPT,
    ACTION_NOSPACE,
    ACTION_BADSECTOR,
    ACTION_POWERCUT,
    ACTION_DISCONNECT,
    ACTION_REPLY,
    ACTION_STATE,
    ACTION_LOG,
    ACTION_SCRIPT,
    ACTION_COUNT
};

enum fault_keep {
    KEEP_PREFIX, /* the first half */
    KEEP_SUFFIX,
    KEEP_RANDOM, /* each or not */
    KEEP_PREFIX_RANDOM,
    KEEP_SUFFIX_RANDOM,
    KEEP_MASK, /* those whose bits are set; said by the key of that name */
    KEEP_COUNT
};

enum fault_how { HOW_FLIP, HOW_FILL, HOW_STALE, HOW_STUCK };

enum fault_shape { SHAPE_UNIFORM, SHAPE_FIXED, SHAPE_LOGNORMAL, SHAPE_RAMP, SHAPE_COUNT };

#define HALF UINT64_MAX
#define LANES_MAX 64
#define TO_UNSET UINT64_MAX
#define BITS_MAX 64

struct fault_act {
    enum fault_action action;
    int error;
    uint64_t min_ms, max_ms; /* delay */
    unsigned lanes;          /* delay: so many wait at a time; 0: all */
    uint64_t hang_ms;        /* hang: then it fails; 0: never */
    uint64_t bytes;          /* short: transferred, or HALF */
    uint64_t quota;          /* nospace */
    uint32_t unit;           /* torn */
    unsigned keep;           /* enum fault_keep */
    uint64_t mask;           /* of KEEP_MASK: bit 0 is the first unit */
    int64_t delta;           /* misdirect */
    uint64_t to;             /* the same: a place, or TO_UNSET */
    bool swap;               /* and what is there comes here */
    unsigned how, bits;      /* enum fault_how */
    uint64_t byte;           /* corrupt: its value; disconnect: the first that is not sent */
    uint32_t new_state;
    unsigned shape;          /* enum fault_shape, of delays */
    bool heals;              /* badsector: by a write */
    bool on_disk;            /* what is damaged at rest is the disk itself */
    bool then_powercut;      /* after the action */
    bool drop;               /* error of a flush: drops what is not flushed */
    bool orderly;            /* disconnect: no reset */
    unsigned wrong;          /* enum fault_wrong, of replies */
    uint64_t budget, memory; /* script */
};

struct fault_action_info {
    const char *name, *text;
    unsigned ops;         /* what it can be done to */
    unsigned default_ops; /* what it is done to if the rule has no op */
    uint64_t needs;       /* bit 1 << key that must be given */
    unsigned layers;      /* bits 1 << enum fault_layer: where it can be done */
    bool modifier;        /* others may follow */
};
extern const struct fault_action_info fault_actions[ACTION_COUNT];
extern const char *const fault_keep_names[KEEP_COUNT];
extern const char *const fault_shape_names[SHAPE_COUNT];
extern const char *const fault_wrong_names[WRONG_COUNT];
/* act_delay_ns: of a request that comes so long after serving began; window: when the fault's
 * begins and ends. */
uint64_t act_delay_ns(const struct fault_act *a, uint64_t draw, uint64_t at_ms, uint64_t from_ms,
                      uint64_t to_ms);

/* act_queue_ns: the same, behind those that are in its lanes: lane says when each of n is free, in
 * ns since serving began, and this request takes the first. */
uint64_t act_queue_ns(uint64_t *lane, unsigned n, uint64_t at_ms, uint64_t delay_ns);

/* act_draws: does it need a draw? */
bool act_draws(const struct fault_act *a);
void act_describe(const struct fault_act *a, struct out *o);

/* --- draw.c --- */

/* How often each request (op, offset, length) has been met, by its hash. Grows up to a bound; what
 * finds no room, or no memory, counts as met for the first time: its draw then sticks. */
struct draws {
    struct draw_slot *slot;
    size_t size, used; /* size: a power of two, or 0 */
};

/* draw_next: the draw of this fault for q, which is counted as met once more. */
uint64_t draw_next(struct draws *t, uint64_t seed, uint64_t id, const struct fault_req *q);
void draws_free(struct draws *t);
/* draw_below: [0, n), n > 0. draw_hits: true with probability p. Both from a draw and a purpose, so
 * that one draw answers several questions. */
uint64_t draw_below(uint64_t draw, unsigned purpose, uint64_t n);
bool draw_hits(uint64_t draw, unsigned purpose, double p);
uint64_t draw_text(const char *text);

enum draw_purpose {
    DRAW_PROB = 1,
    DRAW_DELAY,
    DRAW_KEEP,
    DRAW_LOSE,
    DRAW_DELAY_ANGLE,
    DRAW_BIT = 1000
};

/* --- decide.c: the faults of an engine --- */

struct fault {
    uint64_t number; /* unique in its engine */
    char *where;     /* "file:line" of its section, or "--fault N" */
    char *id;        /* NULL: none */
    struct fault_select sel;
    struct fault_act act;

    bool draws; /* it needs draws */
    uint64_t draw_id;
    struct draws met;

    /* Counters: requests that all selectors matched that do not count; those it struck. */
    uint64_t matched, fired;
    struct fault_last last;
    uint64_t written;               /* nospace: let through */
    uint64_t lane_ns[LANES_MAX];    /* delay: when each lane is free */
    struct pages rest, old, healed; /* see rest.c */

    struct fault *all_next;
    struct fault *next[FAULT_IO_COUNT]; /* the next of its layer with this op */
    uint64_t ended[FAULT_IO_COUNT];     /* requests that went no further than to it */
    uint64_t before[FAULT_IO_COUNT];    /* requests that do not count as seen: before its time */
    bool once_armed;                    /* of rules_arm */
    struct fault_script *script;        /* NULL: none */
    bool stand_in;                      /* keeps damage for a replay, and is no rule */
};

/* The faults of one layer with one op, in file order. */
struct fault_list {
    struct fault *head;
    enum fault_io op;
    unsigned n;
    uint64_t met;              /* requests */
    struct fault_index *index; /* NULL: not made, or not worth it */
    bool indexed;              /* it has been tried */
};

struct fault_set {
    struct fault *all, **all_tail;
    struct fault_list by[FAULT_LAYERS][FAULT_IO_COUNT];
    unsigned n;
    uint64_t events; /* bits: some fault selects by them */
    bool origins;    /* some fault asks who asks */
    bool keeps_old;  /* some fault wants to know what was there before a write */
    bool heals;      /* some bad sector is healed by writes */
};

/* fault_seen: how many requests of its layer and op came to f. */
uint64_t fault_seen(const struct fault_set *s, const struct fault *f);

/* --- rest.c --- */

/* badsector_written: q is a write: sectors that it covers are healed. badsector_is_bad: does q,
 * which touches the range of f, touch a sector that is not healed? */
void badsector_written(struct rules *r, const struct fault_req *q);
bool badsector_is_bad(const struct fault *f, const struct fault_req *q);

/* --- scripts.c --- */

/* The script of a rule, and how it is named in a rule file. */
struct fault_script {
    char *path, *hook; /* path: as written */
    struct script *script;
    uint64_t told_ms, untold; /* of its failures, in the log */
    bool told;
};

#define SCRIPT_HOOK "decide"

/* script_take_...: keys of rules, as those of keys.c. */
#define SCRIPT_TAKE(what)                                                                          \
    bool script_take_##what(struct ini_text t, const struct rules_names *names, struct fault *f,   \
                            struct err **errp)
SCRIPT_TAKE(file);
SCRIPT_TAKE(hook);
SCRIPT_TAKE(budget);
SCRIPT_TAKE(memory);
/* fault_script_load: compile what the rule says; dir: of the rule file, with its '/', or "". */
bool fault_script_load(const struct rules *r, struct fault *f, const char *dir, size_t dir_len,
                       struct err **errp);
void fault_script_free(struct fault_script *s);
void fault_script_describe(const struct fault *f, struct out *o);
/* fault_script_ask: up to SCRIPT_ANSWERS actions that f's script says are done to q; how many.
 * False: it failed, which the log says now and then. */
bool fault_script_ask(struct rules *r, struct fault *f, const struct fault_req *q, uint64_t draw,
                      struct fault_act *acts, unsigned *n);

/* --- index.c --- */

/* index_new: of all in l. NULL without memory. */
struct fault_index *index_new(const struct fault_list *l);
void index_free(struct fault_index *x);
/* index_find: which of them may be about q in this state: those that event, kind, range, state,
 * length, fua and origin do not rule out.
 * index_next: one after the other, in file order; NULL: no more. */
void index_find(struct fault_index *x, const struct fault_req *q, uint32_t state);
struct fault *index_next(struct fault_index *x);

/* What rules.c keeps of it. */
struct cache_conf *rules_cache_conf(struct rules *r);
struct fault_set *rules_faults(struct rules *r);
const struct fault_set *rules_faults_const(const struct rules *r);

enum seed_source { SEED_RANDOM, SEED_FILE, SEED_USER };
/* rules_take_seed: unless a stronger source has said one. */
void rules_take_seed(struct rules *r, uint64_t seed, enum seed_source source);

void fault_free(struct fault *f);
void fault_list_free(struct fault *head); /* by all_next */
/* fault_set_add: takes f over; cannot fail. */
void fault_set_add(struct fault_set *s, struct fault *f);
/* fault_set_insert: before another, which is in s. fault_set_remove: out of s, not freed. */
void fault_set_insert(struct fault_set *s, struct fault *f, struct fault *before);
void fault_set_remove(struct fault_set *s, struct fault *f);
/* rules_add_fault: as fault_set_add, and it gets a number. */
void rules_add_fault(struct rules *r, struct fault *f);
void fault_set_free(struct fault_set *s);
const struct fault *fault_set_at(const struct fault_set *s, unsigned i);
/* fault_describe: "op=read action=error errno=EIO". */
void fault_describe(const struct fault *f, const struct rules_names *names, struct out *o);
/* fault_report: the line for the log at exit. */
void fault_report(const struct fault_set *s, const struct fault *f, const struct rules_names *names,
                  struct out *o);

/* --- lang.c: reading --- */

enum fault_key {
    FK_OP,
    FK_LAYER,
    FK_FUA,
    FK_KIND,
    FK_RANGE,
    FK_MINLEN,
    FK_STATE,
    FK_EVENT,
    FK_EXPORT,
    FK_CLIENT,
    FK_CONN,
    FK_WINDOW,
    FK_NTH,
    FK_EVERY,
    FK_LIMIT,
    FK_ONCE,
    FK_PROB,
    FK_ID,
    FK_ACTION,
    FK_THEN,
    FK_ERROR,
    FK_MS,
    FK_TIMEOUT,
    FK_LANES,
    FK_BYTES,
    FK_UNIT,
    FK_KEEP,
    FK_MASK,
    FK_DELTA,
    FK_TO,
    FK_SWAP,
    FK_BITS,
    FK_BYTE,
    FK_ZERO,
    FK_AFTER,
    FK_NEW_STATE,
    FK_SHAPE,
    FK_HEAL,
    FK_STALE,
    FK_STUCK,
    FK_WHERE,
    FK_DROP,
    FK_MODE,
    FK_WRONG,
    FK_FILE,
    FK_HOOK,
    FK_BUDGET,
    FK_MEMORY,
    FK_COUNT
};

/* keys.c: a key, and how its value gets into a fault. */
struct fault_key_info {
    const char *name, *value, *text;
    unsigned actions; /* bits 1 << enum fault_action it belongs to; 0: all */
    bool (*take)(struct ini_text t, const struct rules_names *names, struct fault *f,
                 struct err **errp);
};
extern const struct fault_key_info fault_keys[FK_COUNT];

struct fault_setting {
    struct ini_text value;
    struct ini_place at; /* of the value */
    bool given;
};

enum lang_section_id {
    LANG_CLOSED,
    LANG_FAULT,
    LANG_SCRIPT,
    LANG_ENGINE,
    LANG_SUSPEND,
    LANG_CACHE
};

struct lang {
    struct rules *rules;
    const char *file;  /* NULL: one rule alone, as on a command line */
    const char *label; /* of that, for messages: "--fault 2" */
    struct err **errp;

    enum lang_section_id section;
    unsigned section_line;
    const char *line_text; /* the line that is being read: columns count from there */
    struct fault_setting set[FK_COUNT];

    struct fault *head, **tail; /* what was read, in order */
    struct rule_list suspends;
    struct cache_conf cache; /* on: there was such a section */
    bool seed_given, cache_given;
    bool relaxed; /* strict = off: blkdebug's sections are written as ours are */
    enum fault_layer layer; /* of faults that do not say */
    uint64_t seed;
};

void lang_init(struct lang *l, struct rules *r, const char *file, struct err **errp);
/* lang_begin: open the section [name "id"] if it is one of ours; else false, and no error. */
bool lang_begin(struct lang *l, struct ini_text name, struct ini_text id, unsigned line);
/* sections.c: one section of a rule file, and what its keys mean together. */
struct lang_section {
    const char *name;
    const char *const *keys; /* NULL: fault_keys */
    unsigned n_keys;
    bool (*end)(struct lang *l);
    int id_key; /* what [name "id"] sets; -1: it has no id */
};
extern const struct lang_section lang_sections[];
extern const unsigned lang_n_sections;
bool lang_end_fault(struct lang *l);
bool lang_end_script(struct lang *l);
/* lang_read_answer: what a script of f says is done to q, "action=error errno=EIO", into *out.
 * EINVAL. */
bool lang_read_answer(struct rules *r, const struct fault *f, const struct fault_req *q,
                      const char *text, struct fault_act *out, struct err **errp);
/* Messages: of a place; in front of an error that is set already; all return false. */
bool lang_bad(struct lang *l, struct ini_place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool lang_at(struct lang *l, struct ini_place at);
bool lang_no_memory(struct lang *l);
/* setting.c. lang_place: where t, a piece of the line that is being read, stands. lang_setting:
 * KEY=VALUE, a part of that line. */
struct ini_place lang_place(const struct lang *l, struct ini_text t, unsigned line);
bool lang_setting(struct lang *l, struct ini_text text, unsigned line);
/* lang_take_apart: the key and the value of such a line, neither of them empty. */
bool lang_take_apart(struct lang *l, struct ini_text text, unsigned line, struct ini_text *key,
                     struct ini_text *value);
/* lang_line: a line inside our section. lang_end: the section is complete. */
bool lang_line(struct lang *l, struct ini_text text, unsigned line);
bool lang_end(struct lang *l);
/* lang_commit: all that was read becomes the engine's; cannot fail. lang_drop: or it does not. */
void lang_commit(struct lang *l);
void lang_drop(struct lang *l);

#endif
