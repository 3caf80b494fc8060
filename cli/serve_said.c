/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What was said of one thing: see serve_said.h.
 */
#include "cli/serve_said.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

bool said_add(struct said *s, int code, const char *arg, const char **copy, struct err **errp)
{
    struct said_option *v = mem_realloc(s->v, (s->n + 1) * sizeof(*v));
    char *text = v && arg ? mem_strdup(arg) : NULL;

    if (v)
        s->v = v;
    if (!v || (arg && !text))
        return err_set(errp, ENOMEM, "out of memory for options");
    v[s->n++] = (struct said_option){code, text};
    if (copy)
        *copy = text;
    return true;
}

bool said_has(const struct said *s, int code)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->v[i].code == code)
            return true;
    }
    return false;
}

static bool option_equal(const struct said_option *a, const struct said_option *b)
{
    if (a->code != b->code || !a->arg != !b->arg)
        return false;
    return !a->arg || strcmp(a->arg, b->arg) == 0;
}

/* The first from i on that is of none of the codes; s->n: none. */
static unsigned next_but(const struct said *s, unsigned i, const int *codes)
{
    for (; i < s->n; i++) {
        const int *c = codes;

        while (*c && *c != s->v[i].code)
            c++;
        if (!*c)
            break;
    }
    return i;
}

bool said_equal_but(const struct said *a, const struct said *b, const int *codes)
{
    unsigned i = next_but(a, 0, codes), k = next_but(b, 0, codes);

    while (i < a->n && k < b->n && option_equal(&a->v[i], &b->v[k])) {
        i = next_but(a, i + 1, codes);
        k = next_but(b, k + 1, codes);
    }
    return i == a->n && k == b->n;
}

bool said_equal(const struct said *a, const struct said *b)
{
    static const int none[] = {0};

    return said_equal_but(a, b, none);
}

void said_free(struct said *s)
{
    for (unsigned i = 0; i < s->n; i++)
        mem_free(s->v[i].arg);
    mem_free(s->v);
    *s = (struct said){0};
}
