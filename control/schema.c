/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checking values against types. Members are visited in the order in which they are declared and
 * unknown ones are looked for last, so that of several mistakes the same one is told as by QEMU.
 */
#include "control/schema.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"

const struct qtype q_str = {.kind = Q_STR, .name = "str"};
const struct qtype q_bool = {.kind = Q_BOOL, .name = "bool"};
const struct qtype q_number = {.kind = Q_NUMBER, .name = "number"};
const struct qtype q_null = {.kind = Q_NULL, .name = "null"};
const struct qtype q_any = {.kind = Q_ANY, .name = "any"};
const struct qtype q_int = {.kind = Q_INT, .name = "int", .min = INT64_MIN, .max = INT64_MAX};
const struct qtype q_int64 = {.kind = Q_INT, .name = "int64_t", .min = INT64_MIN, .max = INT64_MAX};
const struct qtype q_uint8 = {.kind = Q_INT, .name = "uint8_t", .max = UINT8_MAX};
const struct qtype q_uint16 = {.kind = Q_INT, .name = "uint16_t", .max = UINT16_MAX};
const struct qtype q_uint32 = {.kind = Q_INT, .name = "uint32_t", .max = UINT32_MAX};
const struct qtype q_size = {.kind = Q_SIZE, .name = "size", .max = INT64_MAX};
const struct qtype q_str_list = {.kind = Q_LIST, .name = "strList", .element = &q_str};

static const char *json_name(enum qkind kind)
{
    switch (kind) {
    case Q_STR:
    case Q_ENUM:
        return "string";
    case Q_INT:
    case Q_SIZE:
        return "integer";
    case Q_NUMBER:
        return "number";
    case Q_BOOL:
        return "boolean";
    case Q_NULL:
        return "null";
    case Q_LIST:
        return "array";
    default:
        return "object";
    }
}

static bool wrong_type(const char *path, const char *expected, struct err **errp)
{
    return err_set(errp, EINVAL, "Invalid parameter type for '%s', expected: %s",
                   *path ? path : "null", expected);
}

/* The last component: what QEMU names when the value, not the type, is wrong. */
static const char *short_name(const char *path)
{
    const char *dot = strrchr(path, '.');

    return dot ? dot + 1 : path;
}

static bool has_kind(const struct qtype *t, const json_t *v)
{
    switch (t->kind) {
    case Q_STR:
    case Q_ENUM:
        return json_is_string(v);
    case Q_INT:
    case Q_SIZE:
        return json_is_integer(v);
    case Q_NUMBER:
        return json_is_number(v);
    case Q_BOOL:
        return json_is_boolean(v);
    case Q_NULL:
        return json_is_null(v);
    case Q_LIST:
        return json_is_array(v);
    case Q_STRUCT:
    case Q_UNION:
        return json_is_object(v);
    default:
        return true;
    }
}

static bool text_to_int(const char *path, json_t **value, struct err **errp)
{
    const char *text = json_string_value(*value);
    bool negative = text[0] == '-';
    uint64_t n;

    if (!parse_size(text + negative, path, &n, NULL) || n > INT64_MAX)
        return err_set(errp, EINVAL, "Parameter '%s' expects a number, not '%s'", path, text);
    json_decref(*value);
    *value = json_integer(negative ? -(json_int_t)n : (json_int_t)n);
    return *value || err_set(errp, ENOMEM, "out of memory");
}

static bool text_to_bool(const char *path, json_t **value, struct err **errp)
{
    const char *text = json_string_value(*value);
    bool b;

    if (!parse_bool(text, path, &b, NULL))
        return err_set(errp, EINVAL, "Parameter '%s' expects 'on' or 'off'", path);
    json_decref(*value);
    *value = json_boolean(b);
    return true;
}

/* A string from a command line as what the type wants. What stays wrong is told afterwards. */
static bool from_string(const struct qtype *t, const char *path, json_t **value, struct err **errp)
{
    if (t->kind == Q_INT || t->kind == Q_SIZE || t->kind == Q_NUMBER)
        return text_to_int(path, value, errp);
    if (t->kind == Q_BOOL)
        return text_to_bool(path, value, errp);
    if (t->kind == Q_LIST) { /* one element */
        json_t *list = json_array();

        if (!list || json_array_append_new(list, *value) < 0) {
            *value = list;
            return err_set(errp, ENOMEM, "out of memory");
        }
        *value = list;
    }
    return true;
}

static char *join(const char *path, const char *name)
{
    return *path ? mem_printf("%s.%s", path, name) : mem_strdup(name);
}

const struct qtype *schema_variant(const struct qtype *t, const char *tag)
{
    for (const struct qvariant *v = t->variant; tag && v && v->tag; v++) {
        if (strcmp(v->tag, tag) == 0)
            return v->type;
    }
    return NULL;
}

const struct qmember *schema_find_member(const struct qtype *t, const char *tag, const char *name)
{
    for (const struct qmember *m = t->member; m && m->name; m++) {
        if (strcmp(m->name, name) == 0)
            return m;
    }
    t = t->kind == Q_UNION ? schema_variant(t, tag) : NULL;
    return t ? schema_find_member(t, NULL, name) : NULL;
}

static bool check_members(const struct qtype *t, const char *path, bool from_text, json_t *object,
                          struct err **errp)
{
    for (const struct qmember *m = t->member; m && m->name; m++) {
        AUTO_FREE char *inner = join(path, m->name);
        json_t *v = json_object_get(object, m->name);

        if (!inner)
            return err_set(errp, ENOMEM, "out of memory");
        if (!v && m->optional)
            continue;
        if (!v)
            return err_set(errp, EINVAL, "Parameter '%s' is missing", inner);
        json_incref(v);
        bool ok = schema_check(m->type, inner, from_text, &v, errp);
        if (ok && v != json_object_get(object, m->name))
            ok = json_object_set(object, m->name, v) == 0 || err_set(errp, ENOMEM, "out of memory");
        json_decref(v);
        if (!ok)
            return false;
    }
    return true;
}

static bool check_object(const struct qtype *t, const char *path, bool from_text, json_t *object,
                         struct err **errp)
{
    const char *tag = NULL, *key;
    const struct qtype *more = NULL;
    json_t *v;

    if (!check_members(t, path, from_text, object, errp))
        return false;
    if (t->kind == Q_UNION) {
        tag = arg_str(object, t->tag);
        more = schema_variant(t, tag);
        if (more && !check_members(more, path, from_text, object, errp))
            return false;
    }
    json_object_foreach(object, key, v)
    {
        if (!schema_find_member(t, tag, key)) {
            AUTO_FREE char *inner = join(path, key);

            return err_set(errp, EINVAL, "Parameter '%s' is unexpected", inner ? inner : key);
        }
    }
    return true;
}

static bool check_list(const struct qtype *t, const char *path, bool from_text, json_t *list,
                       struct err **errp)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        AUTO_FREE char *inner = mem_printf("%s[%zu]", path, i);
        json_t *v = json_incref(json_array_get(list, i));
        bool ok = inner ? schema_check(t->element, inner, from_text, &v, errp)
                        : err_set(errp, ENOMEM, "out of memory");

        if (ok && v != json_array_get(list, i))
            ok = json_array_set(list, i, v) == 0 || err_set(errp, ENOMEM, "out of memory");
        json_decref(v);
        if (!ok)
            return false;
    }
    return true;
}

static bool check_alternate(const struct qtype *t, const char *path, bool from_text, json_t **value,
                            struct err **errp)
{
    for (const struct qmember *m = t->member; m->name; m++) {
        if (has_kind(m->type, *value))
            return schema_check(m->type, path, from_text, value, errp);
    }
    return wrong_type(path, t->name, errp);
}

static bool check_value(const struct qtype *t, const char *path, const json_t *v, struct err **errp)
{
    if (t->kind == Q_ENUM) {
        for (const char *const *name = t->values; *name; name++) {
            if (strcmp(*name, json_string_value(v)) == 0)
                return true;
        }
        return err_set(errp, EINVAL, "Parameter '%s' does not accept value '%s'", short_name(path),
                       json_string_value(v));
    }
    if (t->kind == Q_INT || t->kind == Q_SIZE) {
        json_int_t n = json_integer_value(v);

        if (n < t->min || n > t->max)
            return err_set(errp, EINVAL, "Parameter '%s' expects %s", short_name(path), t->name);
    }
    return true;
}

bool schema_check(const struct qtype *t, const char *path, bool from_text, json_t **value,
                  struct err **errp)
{
    if (t->kind == Q_ANY)
        return true;
    if (t->kind == Q_ALT)
        return check_alternate(t, path, from_text, value, errp);
    if (from_text && json_is_string(*value) && !from_string(t, path, value, errp))
        return false;
    if (!has_kind(t, *value))
        return wrong_type(path, json_name(t->kind), errp);
    if (t->kind == Q_LIST)
        return check_list(t, path, from_text, *value, errp);
    if (t->kind == Q_STRUCT || t->kind == Q_UNION)
        return check_object(t, path, from_text, *value, errp);
    return check_value(t, path, *value, errp);
}

const char *arg_str(const json_t *args, const char *name)
{
    return json_string_value(json_object_get(args, name));
}

int64_t arg_int(const json_t *args, const char *name, int64_t otherwise)
{
    const json_t *v = json_object_get(args, name);

    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

bool arg_bool(const json_t *args, const char *name, bool otherwise)
{
    const json_t *v = json_object_get(args, name);

    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}
