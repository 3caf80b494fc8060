/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Words of a command line as arguments of a command, and the completion of such words.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/ctl.h"
#include "control/command.h"

/* How the value of an unknown parameter looks: JSON, or else text. */
static json_t *guess(const char *text)
{
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);

    return v ? v : json_string(text);
}

static json_t *value_of(const char *text, bool typed)
{
    return typed && *text != '{' && *text != '[' ? json_string(text) : guess(text);
}

static json_t *build(char *const *words, int n, bool typed, struct err **errp)
{
    json_t *args = json_object();

    for (int i = 0; args && i < n; i++) {
        const char *eq = strchr(words[i], '=');
        AUTO_FREE char *key = eq ? mem_strndup(words[i], (size_t)(eq - words[i])) : NULL;
        json_t *value = eq ? value_of(eq + 1, typed) : NULL;

        if (!eq)
            err_set(errp, EINVAL, "'%s' is no argument: write KEY=VALUE", words[i]);
        else if (!key || !value)
            err_set(errp, EINVAL, "'%s' is not valid UTF-8", words[i]);
        if (!key || !value || !dotted_set(args, key, value, errp)) {
            json_decref(args);
            return NULL;
        }
    }
    if (args && dotted_lists(&args, errp))
        return args;
    json_decref(args);
    return NULL;
}

json_t *ctl_arguments(const char *name, char *const *words, int n, struct err **errp)
{
    const struct command *cmd = command_find(name);
    json_t *args;

    if (n == 1 && words[0][0] == '{') { /* all of them, as JSON */
        args = dotted_parse(words[0], NULL, errp);
        return args;
    }
    if (cmd && cmd->args) {
        args = build(words, n, true, errp);
        if (!args || schema_check(cmd->args, "", true, &args, NULL))
            return args;
        json_decref(args); /* the server says what is wrong, or knows more */
    }
    return build(words, n, false, errp);
}

static void print_keys(const struct qtype *t, const char *prefix, int depth)
{
    for (const struct qmember *m = t->member; m && m->name; m++) {
        bool deeper = m->type->kind == Q_STRUCT || m->type->kind == Q_UNION;
        AUTO_FREE char *path = mem_printf("%s%s.", prefix, m->name);

        if (!path)
            return;
        if (deeper && depth < 2)
            print_keys(m->type, path, depth + 1);
        else
            printf(" %s%s=", prefix, m->name);
    }
    for (const struct qvariant *v = t->kind == Q_UNION ? t->variant : NULL; v && v->tag; v++) {
        if (v->type)
            print_keys(v->type, prefix, depth);
    }
}

void ctl_completion(void)
{
    const struct command *c;

    printf(
        "# bash completion of breakwater ctl; use it with: source <(breakwater ctl --completion)\n"
        "_breakwater_ctl() {\n"
        "    local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[3]} words=\n"
        "    [ \"${COMP_WORDS[1]}\" = ctl ] || return 0\n"
        "    compopt +o nospace\n"
        "    if [ $COMP_CWORD -eq 2 ]; then\n"
        "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
        "        return 0\n"
        "    fi\n"
        "    if [ $COMP_CWORD -eq 3 ]; then\n"
        "        words='");
    for (unsigned i = 0; ctl_verb(i); i++)
        printf("%s%s", i ? " " : "", ctl_verb(i));
    for (unsigned i = 0; (c = command_at(i)); i++)
        printf(" %s", c->name);
    printf("'\n    else\n        compopt -o nospace\n        case $command in\n");
    for (unsigned i = 0; (c = command_at(i)); i++) {
        if (!c->args)
            continue;
        printf("        %s) words='", c->name);
        print_keys(c->args, "", 0);
        printf("' ;;\n");
    }
    printf("        esac\n"
           "    fi\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "}\n"
           "complete -F _breakwater_ctl breakwater\n");
}
