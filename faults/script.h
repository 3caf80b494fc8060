/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A Lua script that says what becomes of requests: what the engine needs of it, and no Lua.
 *
 * A script belongs to one rule of one engine and has a Lua state of its own. It has no way out of
 * it: no files, no modules, no other code than its own. What it may take of time and memory is
 * bounded; when it takes more, or throws, the call fails and the script can be asked again.
 */
#ifndef FAULTS_SCRIPT_H
#define FAULTS_SCRIPT_H

#include "faults/fault.h"

struct script;

#define SCRIPT_ANSWERS 4        /* actions for one request */
#define SCRIPT_ANSWER_LEN 160   /* of the text of one, with its 0 */
#define SCRIPT_STRING_MAX 16384 /* the longest string of a script */
#define SCRIPT_FILE_MAX (256 * 1024)

#define SCRIPT_BUDGET 100000 /* default: instructions, and what is like them */
#define SCRIPT_BUDGET_MAX 100000000
#define SCRIPT_MEMORY (4 << 20) /* default: bytes */
#define SCRIPT_MEMORY_MIN (256 << 10)
#define SCRIPT_MEMORY_MAX (256 << 20)

struct script_conf {
    const char *name; /* of its file, for messages */
    const char *hook; /* the function that is asked */
    uint64_t budget;  /* for each call */
    uint64_t memory;
};

struct script_question {
    const struct fault_req *req;
    const struct rules_names *names;
    uint32_t state;
    uint64_t count; /* the how manieth that the rule asks about */
    uint64_t draw;  /* of random numbers */
};

struct script_answer {
    unsigned n; /* 0: the request goes on */
    int line;   /* where it came from */
    char text[SCRIPT_ANSWERS][SCRIPT_ANSWER_LEN];
};

/* script_is_built: was breakwater built with Lua? */
bool script_is_built(void);
/* script_new: compile and run text, which then has the hook. The strings of conf are copied.
 * NULL: *errp names the script and the line. */
struct script *script_new(const struct script_conf *conf, const char *text, size_t len,
                          struct err **errp);
void script_free(struct script *s);
/* script_ask: call the hook. Does not yield. False: problem says what is wrong, with script and
 * line. */
bool script_ask(struct script *s, const struct script_question *q, struct script_answer *out,
                char *problem, size_t problem_len);

#endif
