/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of faults/ share: a rule, and how the reader of rule files hands rules over.
 */
#ifndef FAULTS_RULES_PRIV_H
#define FAULTS_RULES_PRIV_H

#include <stddef.h>

#include "faults/rules.h"
#include "faults/text.h"

enum rule_action { RULE_INJECT, RULE_SET_STATE, RULE_SUSPEND, RULE_ACTIONS };

#define SECTOR_ANY INT64_C(-1)

struct fault_last { /* the request that a rule struck last */
    bool any;
    enum fault_io op;
    uint64_t off, len;
};

struct rule {
    uint64_t number; /* unique in its engine */
    enum rule_action action;
    unsigned event;
    uint32_t state; /* matches in this state only; 0 = any */
    char *where;    /* "file:line" of its section */
    char *id;       /* NULL: none */

    uint32_t new_state; /* set-state */

    unsigned io_mask; /* inject-error: bits 1 << enum fault_io */
    int error;        /* errno; 0 shields the rules behind it */
    int64_t off;      /* bytes, or SECTOR_ANY */
    bool once, immediately;

    char *tag;                     /* suspend */
    uint64_t timeout_ms;           /* 0: for ever */
    struct rules_sleeper *sleeper; /* whom it holds */
    bool transient;                /* made by rules_break: gone once it is over */

    bool spent;                  /* once, and it fired: takes part in nothing any more */
    uint64_t seen, armed, fired; /* counters: its event came; it matched; it failed a request */
    struct fault_last last;

    struct rule *event_next; /* rules of one event, newest first */
    struct rule *armed_next; /* armed rules, oldest first; or suspended ones */
    struct rule *break_next; /* breakpoints that are no file's */
    struct rule *load_next;  /* while a file is being read */
};

/* Rules in the order in which they shall be added. */
struct rule_list {
    struct rule *head, **tail;
    unsigned n;
};

const struct rules_names *rules_event_names(const struct rules *r);
/* rules_at: blkdebug's rule i, in load order; NULL past the last. */
const struct rule *rules_at(const struct rules *r, unsigned i);
void rule_free(struct rule *rule);
void rule_list_init(struct rule_list *l);
void rule_list_push(struct rule_list *l, struct rule *rule);
void rule_list_free(struct rule_list *l);
/* rules_add: all rules of the lists, in order, up to a NULL; takes them over. -ENOMEM: nothing
 * added, and the lists are as they were. */
int rules_add(struct rules *r, struct rule_list *const *lists);
/* rules_suspend: rule, which is in the list of its event, holds s from now on. */
void rules_suspend(struct rules *r, struct rule *rule, struct rules_sleeper *s);

extern const char *const fault_io_names[FAULT_IO_COUNT];
extern const char *const rule_section_names[RULE_ACTIONS];

/* --- ini.c: one line of a rule file --- */

enum ini_kind { INI_BLANK, INI_SECTION, INI_SETTING, INI_BAD };

struct ini_line {
    enum ini_kind kind;
    struct ini_text name;  /* of the section, or the key */
    struct ini_text value; /* id of the section (len 0: none), or the key's value */
    bool quoted;           /* SETTING: a value in quotes was found; else value is empty */
    bool closed;           /* SETTING: the closing quote was there */
};

#define INI_LINE_MAX 1022 /* bytes without the newline */

/* ini_parse: read the line of len bytes, its newline (if any) included. Never fails: what is not a
 * line of the grammar is INI_BAD. */
void ini_parse(const char *line, size_t len, struct ini_line *out);

#endif
