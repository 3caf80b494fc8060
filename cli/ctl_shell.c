/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The interactive shell of `breakwater ctl`: a line is a command with its arguments. With libedit
 * lines can be edited and recalled; the history is not kept in a file, as it may hold secrets.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/ctl.h"
#include "control/command.h"

#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#endif

#define MAX_WORDS 64

/* Words are divided by blanks; quotes keep them together and are dropped, but inside of JSON.
 * False: a quote has no end, or there are too many words. */
static bool split(char *line, char **words, int *n)
{
    char *out = line;

    *n = 0;
    for (;;) {
        int depth = 0;
        char quote = 0;

        line += strspn(line, " \t\r\n");
        if (*line == '\0')
            return true;
        if (*n == MAX_WORDS)
            return false;
        words[(*n)++] = out;
        for (; *line && (quote || depth > 0 || !strchr(" \t\r\n", *line)); line++) {
            if (!quote && (*line == '{' || *line == '['))
                depth++;
            if (!quote && depth > 0 && (*line == '}' || *line == ']'))
                depth--;
            bool mark = quote ? *line == quote : *line == '"' || *line == '\'';
            if (mark)
                quote = quote ? 0 : *line;
            if (!mark || depth > 0)
                *out++ = *line;
        }
        if (quote)
            return false;
        if (*line)
            line++;
        *out++ = '\0';
    }
}

static char *read_line(bool interactive)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

#ifdef HAVE_LIBEDIT
    if (interactive) {
        line = readline("breakwater> ");
        if (line && *line)
            add_history(line);
        return line;
    }
#endif
    if (interactive) {
        printf("breakwater> ");
        fflush(stdout);
    }
    n = getline(&line, &cap, stdin);
    if (n >= 0)
        return line;
    free(line);
    return NULL;
}

static void help(void)
{
    const struct command *c;

    printf("COMMAND [KEY=VALUE]..., or: help, quit-shell");
    for (unsigned i = 0; ctl_verb(i); i++)
        printf(", %s", ctl_verb(i));
    printf("\nCommands:\n");
    for (unsigned i = 0; (c = command_at(i)); i++)
        printf("  %s\n", c->name);
}

/* False: the connection is gone, or a script has failed. */
static bool run_line(struct ctl *c, char *line, bool interactive, bool *end, struct err **errp)
{
    char *words[MAX_WORDS];
    struct err *e = NULL;
    int n;

    if (!split(line, words, &n)) {
        err_set(&e, EINVAL, "a quote has no end, or there are more than %d words", MAX_WORDS);
    } else if (n > 0 && strcmp(words[0], "help") == 0) {
        help();
    } else if (n > 0 && strcmp(words[0], "quit-shell") == 0) {
        *end = true;
    } else if (n > 0 && words[0][0] != '#') {
        ctl_do(c, words, n, &e);
        fflush(stdout);
    }
    if (e && interactive && (err_code(e) == QMP_ANSWERED || err_code(e) == EINVAL)) {
        fprintf(stderr, "%s\n", err_msg(e));
        err_free(e);
        return true;
    }
    return !e || err_move(errp, e);
}

bool ctl_shell(struct ctl *c, struct err **errp)
{
    bool interactive = isatty(STDIN_FILENO), end = false, ok = true;
    char *line;

    while (ok && !end && (line = read_line(interactive))) {
        ok = run_line(c, line, interactive, &end, errp);
        free(line);
    }
    return ok;
}
