/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files around Lua share.
 */
#ifndef FAULTS_SCRIPT_PRIV_H
#define FAULTS_SCRIPT_PRIV_H

#include <lua.h>

#include "faults/script.h"
#include "faults/text.h"

struct script {
    lua_State *L;
    char *name, *hook;
    uint64_t budget, spent; /* of the running call */
    uint64_t memory, used;  /* bytes */
    int64_t start_ns;       /* the thread's CPU time when the call began */
    unsigned steps;         /* looks at the budget */
    int line;               /* where it is */
    int hook_ref;
    const struct script_question *asked; /* NULL: it is being loaded */
    unsigned pcalls;                     /* that run, one in the other */
    unsigned draws;                      /* random numbers of this call */
    uint64_t log_ms;                     /* the second in which n_logged lines were logged */
    unsigned n_logged;
};

struct script *script_of(lua_State *L);
/* script_charge: so much of the budget is used; raises an error when there is no more. */
void script_charge(lua_State *L, uint64_t n);
/* script_put: what a script says, as far as it can be shown in a line of a log. */
void script_put(struct out *o, const char *text, size_t len);
/* script_open_lib: the global names of scripts. Runs protected; raises errors of memory. */
void script_open_lib(lua_State *L);

#endif
