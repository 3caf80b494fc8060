/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cutting a stream into JSON values. Only brackets and strings are understood here; whether what
 * lies between them is JSON, jansson judges once the last bracket is there. So no byte is looked at
 * more than twice, however small the pieces are, and a value that is too long or too deep is
 * skipped to its end without being kept.
 */
#include "control/json_stream.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"

#define RESET_BYTE 0xff

void json_stream_clear(struct json_stream *s)
{
    mem_free(s->text);
    *s = (struct json_stream){0};
}

/* Forget the value, keep a small buffer. */
static void start_over(struct json_stream *s)
{
    char *text = s->text;
    size_t cap = s->cap;

    if (cap > 64 * KiB) {
        mem_free(text);
        text = NULL;
        cap = 0;
    }
    *s = (struct json_stream){.text = text, .cap = cap};
}

static bool keep(struct json_stream *s, char c, struct err **errp)
{
    if (s->len >= JSON_STREAM_MAX_BYTES)
        return err_set(errp, EFBIG, "JSON value is longer than %zu bytes", JSON_STREAM_MAX_BYTES);
    if (s->len >= s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 1024;
        char *text = mem_realloc(s->text, cap);

        if (!text)
            return err_set(errp, ENOMEM, "out of memory for a JSON value");
        s->text = text;
        s->cap = cap;
    }
    s->text[s->len++] = c;
    return true;
}

/* A byte of a string; single quotes become double ones, which jansson knows. */
static bool keep_in_string(struct json_stream *s, char c, struct err **errp)
{
    char quote = s->quote;

    if (s->escape) {
        s->escape = false;
        if (c == '\'') /* \' is no escape of JSON; the backslash was kept already */
            s->len--;
        return keep(s, c, errp);
    }
    if (c == '\\')
        s->escape = true;
    if (c == quote) {
        s->quote = 0;
        return keep(s, '"', errp);
    }
    if (quote == '\'' && c == '"')
        return keep(s, '\\', errp) && keep(s, c, errp);
    return keep(s, c, errp);
}

static bool parse(struct json_stream *s, json_t **value, struct err **errp)
{
    json_error_t why;
    json_t *v = json_loadb(s->text, s->len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);

    if (!v && s->scalar)
        err_set(errp, EINVAL, "JSON parse error, invalid keyword '%.*s'", (int)min_u64(s->len, 64),
                s->text);
    else if (!v && json_error_code(&why) == json_error_duplicate_key)
        err_set(errp, EINVAL, "JSON parse error, duplicate key");
    else if (!v)
        err_set(errp, EINVAL, "JSON parse error, %s", why.text);
    *value = v;
    start_over(s);
    return true;
}

/* The rest of the value is skipped; the error has been told once. */
static bool give_up(struct json_stream *s)
{
    s->len = 0;
    s->discard = true;
    return true;
}

static bool is_control(unsigned char c)
{
    return c < 0x20 && c != '\t' && c != '\n' && c != '\r';
}

/* Outside of any value. */
static bool begin(struct json_stream *s, char c, json_t **value, struct err **errp)
{
    if (s->resync) {
        if (c != '{' && c != '\n')
            return false;
        s->resync = false;
    }
    if (isspace((unsigned char)c))
        return false;
    if (strchr("]},:", c)) {
        s->resync = true;
        err_set(errp, EINVAL, "JSON parse error, expecting value");
        return true;
    }
    if (!keep(s, c == '\'' ? '"' : c, errp))
        return true;
    if (c == '{' || c == '[')
        s->depth = 1;
    else if (c == '"' || c == '\'')
        s->quote = c;
    else
        s->scalar = true;
    return false;
}

static bool end_bracket(struct json_stream *s, json_t **value, struct err **errp)
{
    if (--s->depth > 0)
        return false;
    if (s->discard) {
        start_over(s);
        return false;
    }
    return parse(s, value, errp);
}

/* Inside an object or array, outside of strings. */
static bool inside(struct json_stream *s, char c, json_t **value, struct err **errp)
{
    if (!s->discard && !keep(s, c == '\'' ? '"' : c, errp)) {
        give_up(s);
        /* The byte still counts: else the end would be missed. */
        if (c == '{' || c == '[')
            s->depth++;
        else if (c == '}' || c == ']')
            end_bracket(s, value, NULL);
        else if (c == '"' || c == '\'')
            s->quote = c;
        return true;
    }
    if (c == '"' || c == '\'')
        s->quote = c;
    else if (c == '}' || c == ']')
        return end_bracket(s, value, errp);
    if (c != '{' && c != '[')
        return false;
    if (++s->depth <= JSON_STREAM_MAX_DEPTH || s->discard)
        return false;
    err_set(errp, EFBIG, "JSON parse error, more than %d levels of nesting", JSON_STREAM_MAX_DEPTH);
    return give_up(s);
}

static bool in_string(struct json_stream *s, char c, json_t **value, struct err **errp)
{
    if (s->discard) {
        if (s->escape)
            s->escape = false;
        else if (c == '\\')
            s->escape = true;
        else if (c == s->quote)
            s->quote = 0;
        return false;
    }
    if (!keep_in_string(s, c, errp))
        return give_up(s);
    if (s->quote == 0 && s->depth == 0)
        return parse(s, value, errp);
    return false;
}

bool json_stream_byte(struct json_stream *s, unsigned char c, json_t **value, struct err **errp)
{
    *value = NULL;
    if (c == RESET_BYTE) {
        bool busy = s->len > 0 || s->discard;

        start_over(s);
        if (busy)
            err_set(errp, EINVAL, "JSON parse error, the value was cut off by the byte 0xff");
        return busy;
    }
    if (is_control(c) || (s->quote && (c == '\n' || c == '\r'))) {
        start_over(s);
        s->resync = true;
        err_set(errp, EINVAL, "JSON parse error, stray control character 0x%02x", c);
        return true;
    }
    if (s->quote)
        return in_string(s, (char)c, value, errp);
    if (s->depth)
        return inside(s, (char)c, value, errp);
    if (!s->scalar)
        return begin(s, (char)c, value, errp);
    if (isspace(c))
        return parse(s, value, errp);
    if (strchr("{}[],:\"'", c)) {
        parse(s, value, errp);
        s->resync = c != '{';
        if (c == '{' && keep(s, '{', NULL))
            s->depth = 1;
        return true;
    }
    if (keep(s, (char)c, errp))
        return false;
    start_over(s);
    s->resync = true;
    return true;
}

size_t json_stream_feed(struct json_stream *s, const char *bytes, size_t len, bool *found,
                        json_t **value, struct err **errp)
{
    for (size_t i = 0; i < len; i++) {
        if (json_stream_byte(s, (unsigned char)bytes[i], value, errp)) {
            *found = true;
            return i + 1;
        }
    }
    *found = false;
    return len;
}
