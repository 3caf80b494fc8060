/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table of commands: each noun lists its own, in a table that ends with an empty entry.
 */
#include "control/control_priv.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

static const struct command *const tables[] = {
    monitor_commands, block_commands,    query_commands,       export_commands,
    object_commands,  bitmap_commands,   transaction_commands, job_commands,
    create_commands,  human_commands,    fault_commands,       backup_commands,
    pull_commands,    snapshot_commands, chain_commands,       reopen_commands,
};

const struct command *command_at(unsigned i)
{
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        for (const struct command *c = tables[t]; c->name; c++) {
            if (i-- == 0)
                return c;
        }
    }
    return NULL;
}

const struct command *command_find(const char *name)
{
    const struct command *c;

    for (unsigned i = 0; (c = command_at(i)); i++) {
        if (strcmp(c->name, name) == 0)
            return c;
    }
    return NULL;
}

bool call_return(struct call *call, json_t *value, struct err **errp)
{
    call->result = value;
    return value || err_set(errp, ENOMEM, "out of memory for the answer");
}

static const struct qtype no_arguments = {.kind = Q_STRUCT, .name = "q_empty"};

bool command_run(struct control *c, struct session *s, const struct command *cmd, json_t *args,
                 bool from_text, json_t **result, struct err **errp)
{
    struct call call = {.ctl = c, .session = s, .command = cmd};
    const struct qtype *type = cmd->args ? cmd->args : &no_arguments;
    bool ok;

    call.args = args ? json_deep_copy(args) : json_object();
    if (!call.args)
        return err_set(errp, ENOMEM, "out of memory for the arguments");
    ok = schema_check(type, "", from_text, &call.args, errp);
    if (ok && !cmd->looks_only) {
        co_lock(&c->busy);
        ok = !c->stopping || err_set(errp, ESHUTDOWN, "shutting down");
        ok = ok && cmd->run(&call, errp);
        co_unlock(&c->busy);
    } else if (ok) {
        ok = cmd->run(&call, errp);
    }
    json_decref(call.args);
    if (ok && result)
        *result = call.result;
    else
        json_decref(call.result);
    return ok;
}

bool control_run(struct control *c, const char *command, json_t *args, bool from_text,
                 json_t **result, struct err **errp)
{
    const struct command *cmd = command_find(command);

    if (!cmd)
        return err_set(errp, QMP_COMMAND_NOT_FOUND, "The command %s has not been found", command);
    return command_run(c, NULL, cmd, args, from_text, result, errp);
}
