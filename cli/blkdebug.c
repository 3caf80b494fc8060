/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blkdebug's options become a flat list of keys and values, which faults/options.c understands.
 */
#include "cli/blkdebug.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"

#define DEPTH_MAX 4 /* {"inject-error": [{"event": "none"}]} has 3 */
#define OPTIONS_MAX 65536

/* Takes key and value over. */
static bool add(struct blkdebug_args *a, char *key, char *value, struct err **errp)
{
    struct fault_option *v = NULL;

    if (key && value && a->n < OPTIONS_MAX)
        v = mem_realloc(a->v, (a->n + 1) * sizeof(a->v[0]));
    if (!v) {
        mem_free(key);
        mem_free(value);
        return a->n < OPTIONS_MAX ? err_set(errp, ENOMEM, "out of memory for options")
                                  : err_set(errp, E2BIG, "more than %d options", OPTIONS_MAX);
    }
    a->v = v;
    v[a->n++] = (struct fault_option){key, value};
    return true;
}

/* A number, a text or a truth value as it would be written after '='. NULL: it is none of them. */
static char *scalar_text(const json_t *v)
{
    if (json_is_string(v))
        return mem_strdup(json_string_value(v));
    if (json_is_integer(v))
        return mem_printf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    if (json_is_boolean(v))
        return mem_strdup(json_is_true(v) ? "on" : "off");
    return NULL;
}

static bool flatten(struct json_t *v, const char *prefix, unsigned depth, const char *what,
                    struct blkdebug_args *a, struct err **errp)
{
    const char *name, *dot = *prefix ? "." : "";
    json_t *child;
    size_t i;
    bool ok = true;

    if (depth > DEPTH_MAX)
        return err_set(errp, EINVAL, "%s: '%s' is nested too deep", what, prefix);
    if (json_is_object(v)) {
        json_object_foreach(v, name, child)
        {
            char *key = mem_printf("%s%s%s", prefix, dot, name);

            ok = ok && (key ? flatten(child, key, depth + 1, what, a, errp)
                            : err_set(errp, ENOMEM, "out of memory for options"));
            mem_free(key);
        }
        return ok;
    }
    if (json_is_array(v)) {
        json_array_foreach(v, i, child)
        {
            char *key = mem_printf("%s%s%zu", prefix, dot, i);

            ok = ok && (key ? flatten(child, key, depth + 1, what, a, errp)
                            : err_set(errp, ENOMEM, "out of memory for options"));
            mem_free(key);
        }
        return ok;
    }
    if (json_is_real(v) || json_is_null(v))
        return err_set(errp, EINVAL, "%s: '%s' is neither a text, a whole number nor true or false",
                       what, prefix);
    return add(a, mem_strdup(prefix), scalar_text(v), errp);
}

bool blkdebug_flatten(struct json_t *v, const char *what, struct blkdebug_args *out,
                      struct err **errp)
{
    if (!json_is_object(v))
        return err_set(errp, EINVAL, "%s: a JSON object is needed", what);
    return flatten(v, "", 0, what, out, errp);
}

static bool parse_json(const char *text, const char *what, struct blkdebug_args *out,
                       struct err **errp)
{
    json_error_t je;
    json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, &je);
    bool ok;

    if (!v)
        return err_set(errp, EINVAL, "%s: %s at byte %d", what, je.text, je.position);
    ok = blkdebug_flatten(v, what, out, errp);
    json_decref(v);
    return ok;
}

bool blkdebug_parse(const char *text, const char *what, struct blkdebug_args *out,
                    struct err **errp)
{
    struct kv_list l;
    bool ok = true;

    if (text[0] == '{')
        return parse_json(text, what, out, errp);
    if (!kv_parse(text, what, &l, errp))
        return false;
    for (size_t i = 0; ok && i < l.n; i++) {
        if (!*l.v[i].key)
            ok =
                err_set(errp, EINVAL, "%s: '%s' is no option: write KEY=VALUE", what, l.v[i].value);
        else
            ok = add(out, mem_strdup(l.v[i].key), mem_strdup(l.v[i].value), errp);
    }
    kv_free(&l);
    return ok;
}

void blkdebug_args_free(struct blkdebug_args *a)
{
    for (size_t i = 0; i < a->n; i++) {
        mem_free((char *)a->v[i].key);
        mem_free((char *)a->v[i].value);
    }
    mem_free(a->v);
    *a = (struct blkdebug_args){0};
}
