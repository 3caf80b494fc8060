/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands as data: for the dispatcher, for introspection, and for whoever completes a command
 * line.
 */
#ifndef CONTROL_COMMAND_H
#define CONTROL_COMMAND_H

#include "control/control.h"
#include "control/schema.h"

struct session;

/* One command under way. */
struct call {
    struct control *ctl;
    struct session *session; /* NULL: control_run */
    const struct command *command;
    json_t *args;   /* checked; never NULL */
    json_t *result; /* what the handler returns; NULL: {} */
};

struct command {
    const char *name;
    const struct qtype *args; /* Q_STRUCT or Q_UNION; NULL: none */
    const struct qtype *ret;  /* NULL: {} */
    bool (*run)(struct call *call, struct err **errp);
    bool looks_only; /* changes nothing, or takes the lock for changes by itself: runs beside
                      * others */
};

extern const struct command monitor_commands[], block_commands[], query_commands[],
    export_commands[], object_commands[], bitmap_commands[], transaction_commands[], job_commands[],
    create_commands[], human_commands[], fault_commands[], backup_commands[], pull_commands[],
    snapshot_commands[], chain_commands[], reopen_commands[];

/* command_at: all commands, one after another; NULL past the end. command_find: or NULL. */
const struct command *command_at(unsigned i);
const struct command *command_find(const char *name);
/* command_run: check a copy of the arguments (NULL: none) and run it; see control_run. Yields. */
bool command_run(struct control *c, struct session *s, const struct command *cmd, json_t *args,
                 bool from_text, json_t **result, struct err **errp);
/* call_return: value (taken over; NULL: out of memory) is the command's result. */
bool call_return(struct call *call, json_t *value, struct err **errp);

#endif
