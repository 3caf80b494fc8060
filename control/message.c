/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One message of a client: its form is checked, its command run, and the answer queued. The texts
 * are those of QEMU's dispatcher, which clients match on. Source: docs/interop/qmp-spec.txt.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "control/control_priv.h"

json_t *qmp_version(void)
{
    /* The QEMU whose commands and errors these are: clients decide by it what they may use. */
    return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "micro", 0, "minor", 2, "major", 7, "package",
                     "breakwater " BREAKWATER_VERSION);
}

static const char *class_name(int code)
{
    switch (code) {
    case QMP_COMMAND_NOT_FOUND:
        return "CommandNotFound";
    case QMP_DEVICE_NOT_ACTIVE:
        return "DeviceNotActive";
    case QMP_DEVICE_NOT_FOUND:
        return "DeviceNotFound";
    default:
        return "GenericError";
    }
}

/* Text of unknown origin: a host file's name need not be UTF-8. */
static json_t *safe_string(const char *text)
{
    json_t *s = json_string(text);
    AUTO_FREE char *ascii = NULL;

    if (s)
        return s;
    ascii = mem_strdup(text);
    for (char *p = ascii; p && *p; p++) {
        if (*p & 0x80)
            *p = '?';
    }
    return ascii ? json_string(ascii) : NULL;
}

static bool check_form(const json_t *message, struct err **errp)
{
    const char *key;
    json_t *v;

    if (!json_is_object(message))
        return err_set(errp, EINVAL, "QMP input must be a JSON object");
    json_object_foreach((json_t *)message, key, v)
    {
        if (strcmp(key, "execute") == 0) {
            if (!json_is_string(v))
                return err_set(errp, EINVAL, "QMP input member 'execute' must be a string");
        } else if (strcmp(key, "arguments") == 0) {
            if (!json_is_object(v))
                return err_set(errp, EINVAL, "QMP input member 'arguments' must be an object");
        } else if (strcmp(key, "id") != 0) {
            return err_set(errp, EINVAL, "QMP input member '%s' is unexpected", key);
        }
    }
    if (!arg_has(message, "execute"))
        return err_set(errp, EINVAL, "QMP input lacks member 'execute'");
    return true;
}

static bool execute(struct session *s, const json_t *message, json_t **result, struct err **errp)
{
    const char *name = arg_str(message, "execute");
    const struct command *cmd = command_find(name);
    bool negotiates = strcmp(name, "qmp_capabilities") == 0;

    if (!s->negotiated && !negotiates)
        return err_set(errp, QMP_COMMAND_NOT_FOUND,
                       "Expecting capabilities negotiation with 'qmp_capabilities'");
    if (!cmd)
        return err_set(errp, QMP_COMMAND_NOT_FOUND, "The command %s has not been found", name);
    return command_run(s->ctl, s, cmd, arg_get(message, "arguments"), false, result, errp);
}

static json_t *error_object(const struct err *e)
{
    return json_pack("{s:{s:s,s:o}}", "error", "class", class_name(err_code(e)), "desc",
                     safe_string(err_msg(e)));
}

void message_handle(struct session *s, json_t *message, struct err *e)
{
    json_t *result = NULL, *answer;
    json_t *id = json_is_object(message) ? json_incref(arg_get(message, "id")) : NULL;

    if (message && check_form(message, &e))
        execute(s, message, &result, &e);
    json_decref(message);
    answer = e ? error_object(e) : json_pack("{s:o}", "return", result ? result : json_object());
    if (e)
        json_decref(result);
    if (answer && id && json_object_set(answer, "id", id) < 0) {
        json_decref(answer);
        answer = NULL;
    }
    json_decref(id);
    err_free(e);
    session_put(s, answer, false); /* NULL: cuts the client off, which cannot be answered */
}
