/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading blkdebug's sections, for rule files (load.c) and for options (options.c).
 */
#ifndef FAULTS_LOAD_PRIV_H
#define FAULTS_LOAD_PRIV_H

#include "faults/fault_priv.h"

enum key {
    KEY_ID,
    KEY_EVENT,
    KEY_STATE,
    KEY_NEW_STATE,
    KEY_IOTYPE,
    KEY_ERRNO,
    KEY_SECTOR,
    KEY_ONCE,
    KEY_IMMEDIATELY,
    KEY_COUNT
};

#define IN_INJECT (1u << RULE_INJECT)
#define IN_SET_STATE (1u << RULE_SET_STATE)

struct load_key {
    const char *name;
    unsigned sections; /* where it may stand: bits 1 << enum rule_action */
};
extern const struct load_key load_keys[KEY_COUNT];

struct setting {
    struct ini_text value;
    struct ini_place at; /* of the value */
    bool given;
};

struct id {
    enum rule_action section;
    struct ini_text text;
};

struct loader {
    struct rules *rules;
    const char *file;
    unsigned line;
    const char *line_text; /* columns count from there */
    struct err **errp;

    bool in_section;
    enum rule_action section;
    unsigned section_line;
    struct setting set[KEY_COUNT];

    struct rule_list injects, set_states;
    struct id *ids; /* of the sections that have one */
    size_t n_ids;

    const char *option; /* where we are, if not in a file: "inject-error.0" */

    struct lang lang; /* reads the sections that are not blkdebug's */
};

bool load_bad(struct loader *l, struct ini_place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool load_no_memory(struct loader *l);

/* load_begin, load_lines, load_finish: in this order; nothing is added before load_finish, and only
 * if ok is true. It returns whether all went well. */
void load_begin(struct loader *l, struct rules *r, const char *file, struct err **e);
bool load_lines(struct loader *l, const char *text, size_t len);
/* load_end_section: the section that is open, if any, becomes a rule. */
bool load_end_section(struct loader *l);
bool load_finish(struct loader *l, bool ok);

/* rules_read_file: its whole text, to be freed; NULL: *errp. */
char *rules_read_file(const char *path, size_t *len, struct err **errp);

#endif
