/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Commands about the monitor itself.
 */
#include <errno.h>

#include "control/control_priv.h"

static const struct qtype q_capability = {
    .kind = Q_ENUM, .name = "QMPCapability", .values = Q_NAMES("oob")};
static const struct qtype q_capabilities = {
    .kind = Q_LIST, .name = "QMPCapabilityList", .element = &q_capability};
static const struct qtype capabilities_args = {.kind = Q_STRUCT,
                                               .name = "qmp_capabilities-arg",
                                               .member =
                                                   Q_MEMBERS({"enable", &q_capabilities, true})};

static const struct qtype q_triple = {
    .kind = Q_STRUCT,
    .name = "VersionTriple",
    .member =
        Q_MEMBERS({"major", &q_int, false}, {"minor", &q_int, false}, {"micro", &q_int, false})};
static const struct qtype q_version = {
    .kind = Q_STRUCT,
    .name = "VersionInfo",
    .member = Q_MEMBERS({"qemu", &q_triple, false}, {"package", &q_str, false})};
static const struct qtype q_command = {
    .kind = Q_STRUCT, .name = "CommandInfo", .member = Q_MEMBERS({"name", &q_str, false})};
static const struct qtype q_commands = {
    .kind = Q_LIST, .name = "CommandInfoList", .element = &q_command};
static const struct qtype q_schema = {.kind = Q_LIST, .name = "SchemaInfoList", .element = &q_any};

static bool run_capabilities(struct call *call, struct err **errp)
{
    if (call->session && call->session->negotiated)
        return err_set(errp, QMP_COMMAND_NOT_FOUND,
                       "Capabilities negotiation is already complete, command ignored");
    if (json_array_size(arg_get(call->args, "enable")) > 0)
        return err_set(errp, ENOTSUP, "Capability oob not available");
    if (call->session)
        call->session->negotiated = true;
    return true;
}

static bool run_version(struct call *call, struct err **errp)
{
    return call_return(call, qmp_version(), errp);
}

static bool run_commands(struct call *call, struct err **errp)
{
    json_t *list = json_array();
    const struct command *c;

    for (unsigned i = 0; (c = command_at(i)); i++) {
        if (json_array_append_new(list, json_pack("{s:s}", "name", c->name)) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return call_return(call, list, errp);
}

static bool run_schema(struct call *call, struct err **errp)
{
    return call_return(call, introspect_all(), errp);
}

static bool run_quit(struct call *call, struct err **errp)
{
    if (call->ctl->quit_fn)
        call->ctl->quit_fn(call->ctl->quit_arg);
    return true;
}

const struct command monitor_commands[] = {
    {"qmp_capabilities", &capabilities_args, NULL, run_capabilities, true},
    {"query-version", NULL, &q_version, run_version, true},
    {"query-commands", NULL, &q_commands, run_commands, true},
    {"query-qmp-schema", NULL, &q_schema, run_schema, true},
    {"quit", NULL, NULL, run_quit, true},
    {0},
};
