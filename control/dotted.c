/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dotted keys, as on QEMU's command lines: "driver=qcow2,file.driver=file,file.filename=a,,b".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "control/json_stream.h"
#include "control/schema.h"

#define MAX_KEY 1023

static bool no_memory(struct err **errp)
{
    return err_set(errp, ENOMEM, "out of memory");
}

bool dotted_set(json_t *object, const char *key, json_t *value, struct err **errp)
{
    const char *dot;

    while ((dot = strchr(key, '.')) && dot != key) {
        AUTO_FREE char *part = mem_strndup(key, (size_t)(dot - key));
        json_t *inner = part ? json_object_get(object, part) : NULL;

        if (part && !inner && json_object_set_new(object, part, json_object()) == 0)
            inner = json_object_get(object, part);
        if (!inner) {
            json_decref(value);
            return no_memory(errp);
        }
        if (!json_is_object(inner)) {
            json_decref(value);
            return err_set(errp, EINVAL, "Parameters '%s' and '%s.*' used inconsistently", part,
                           part);
        }
        object = inner;
        key = dot + 1;
    }
    if (*key == '\0' || *key == '.') {
        json_decref(value);
        return err_set(errp, EINVAL, "Invalid parameter '%s'", key);
    }
    if (json_is_object(json_object_get(object, key)) && !json_is_object(value)) {
        json_decref(value);
        return err_set(errp, EINVAL, "Parameters '%s' and '%s.*' used inconsistently", key, key);
    }
    return json_object_set_new(object, key, value) == 0 || no_memory(errp);
}

/* The value up to the next single comma, unescaped; *at moves behind it. */
static char *take_value(const char **at)
{
    char *value = mem_alloc(strlen(*at) + 1), *out = value;

    if (!value)
        return NULL;
    for (; **at; (*at)++) {
        if (**at == ',' && *++*at != ',')
            break;
        *out++ = **at;
    }
    *out = '\0';
    return value;
}

static bool take_pair(const char **at, const char *implied, json_t *object, struct err **errp)
{
    size_t n = strcspn(*at, "=,");
    AUTO_FREE char *key = NULL;
    AUTO_FREE char *value = NULL;

    if ((*at)[n] == '=') {
        key = mem_strndup(*at, n);
        *at += n + 1;
    } else if (implied) {
        key = mem_strdup(implied);
    } else {
        return err_set(errp, EINVAL, "Expected '=' after parameter '%.*s'", (int)n, *at);
    }
    value = take_value(at);
    if (!key || !value)
        return no_memory(errp);
    if (strlen(key) > MAX_KEY)
        return err_set(errp, EINVAL, "Parameter name of %zu bytes; at most %d are allowed",
                       strlen(key), MAX_KEY);
    json_t *text = json_string(value);
    if (!text)
        return err_set(errp, EINVAL, "Parameter '%s' is not valid UTF-8", key);
    return dotted_set(object, key, text, errp);
}

/* All keys 0..n-1: a list. Some are numbers: a mistake. */
static bool list_of(json_t *object, json_t **out, struct err **errp)
{
    size_t n = json_object_size(object), numbers = 0;
    json_t *list = NULL, *v;
    const char *key;

    *out = NULL;
    json_object_foreach(object, key, v) numbers += key[strspn(key, "0123456789")] == '\0';
    if (numbers == 0)
        return true;
    if (numbers != n)
        return err_set(errp, EINVAL, "List members and other parameters are mixed");
    list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        char index[24];

        snprintf(index, sizeof(index), "%zu", i);
        v = json_object_get(object, index);
        if (!v) {
            json_decref(list);
            return err_set(errp, EINVAL, "Parameter '%zu' of a list is missing", i);
        }
        if (json_array_append(list, v) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    *out = list;
    return list || no_memory(errp);
}

bool dotted_lists(json_t **value, struct err **errp)
{
    json_t *list, *v;
    const char *key;
    void *next;

    if (!json_is_object(*value))
        return true;
    json_object_foreach_safe(*value, next, key, v)
    {
        bool ok;

        json_incref(v);
        ok = dotted_lists(&v, errp);
        if (ok && v != json_object_get(*value, key))
            ok = json_object_set(*value, key, v) == 0 || no_memory(errp);
        json_decref(v);
        if (!ok)
            return false;
    }
    if (!list_of(*value, &list, errp))
        return false;
    if (list) {
        json_decref(*value);
        *value = list;
    }
    return true;
}

static json_t *parse_json(const char *text, struct err **errp)
{
    struct json_stream s = {0};
    json_t *value = NULL;
    bool found = false;
    size_t n = json_stream_feed(&s, text, strlen(text), &found, &value, errp);

    json_stream_clear(&s);
    if (!found)
        err_set(errp, EINVAL, "JSON parse error, the text ends in the middle");
    else if (value && (text[n + strspn(text + n, " \t\r\n")] || !json_is_object(value))) {
        json_decref(value);
        value = NULL;
        err_set(errp, EINVAL, "JSON parse error, one object was expected");
    }
    return value;
}

json_t *dotted_parse(const char *text, const char *implied, struct err **errp)
{
    json_t *object;

    if (*text == '{')
        return parse_json(text, errp);
    object = json_object();
    if (!object) {
        no_memory(errp);
        return NULL;
    }
    for (const char *at = text; *at;) {
        if (!take_pair(&at, implied, object, errp))
            goto fail;
        implied = NULL;
    }
    if (dotted_lists(&object, errp))
        return object;
fail:
    json_decref(object);
    return NULL;
}
