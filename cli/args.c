/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One pass over a command line: see args.h.
 */
#include "cli/args.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"

#define NAMES_MAX 256

struct args args_begin(int argc, char **argv, const char *letters, const struct option *names)
{
    optind = 0; /* glibc: begin anew, whatever the letters begin with */
    opterr = 0;
    return (struct args){argc, argv, letters, names, 1};
}

static const char *meant(const struct args *a, const char *word)
{
    const char *list[NAMES_MAX];
    size_t n = 0;

    if (strncmp(word, "--", 2) != 0)
        return NULL;
    while (n < NAMES_MAX && a->names[n].name) {
        list[n] = a->names[n].name;
        n++;
    }
    return parse_nearest(word + 2, strcspn(word + 2, "="), list, n);
}

static bool unknown(const struct args *a, const char *word, struct err **errp)
{
    const char *name = meant(a, word);

    return name
               ? err_set(errp, EINVAL, "option '%s' is not known; did you mean '--%s'?", word, name)
               : err_set(errp, EINVAL, "option '%s' is not known", word);
}

int args_next(struct args *a, struct err **errp)
{
    int code = getopt_long(a->argc, a->argv, a->letters, a->names, NULL);

    if (code == -1)
        return ARGS_END;
    /* Of several letters in one word, the word is not behind getopt before its last one. */
    const char *word = a->argv[optind > a->at ? optind - 1 : a->at];
    if (code == ':')
        err_set(errp, EINVAL, "option '%s' needs a value", word);
    else if (code == '?')
        unknown(a, word, errp);
    a->at = optind;
    return code == ':' || code == '?' ? ARGS_WRONG : code;
}
