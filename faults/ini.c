/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The lines of blkdebug's rule files, with every oddity of QEMU's reader, because a file must mean
 * the same to both:
 *
 *   - "[section]" or "[section "id"]" starts in the first column; "#" is a comment only there;
 *   - a line is blank only when it is empty: one of spaces (or a lone CR) is an error;
 *   - "key = "value"": white space is required after the key, as a key is all up to white space
 *     (key="value" is one long key), and optional after "="; the quotes are required and nothing
 *     can be escaped; anything else after the key leaves the value empty;
 *   - text after the closing bracket or quote is ignored, as is a missing bracket after an id;
 *   - names and ids end after 63 bytes, values after 1023.
 */
#include "faults/rules_priv.h"

#include <string.h>

#define NAME_MAX_LEN 63
#define VALUE_MAX_LEN 1023

struct scan {
    const char *at, *end;
};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && is_space(*s->at))
        s->at++;
}

static bool skip_char(struct scan *s, char c)
{
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

static struct ini_text take_word(struct scan *s)
{
    struct ini_text t = {s->at, 0};

    while (s->at < s->end && !is_space(*s->at) && t.len < NAME_MAX_LEN) {
        s->at++;
        t.len++;
    }
    return t;
}

static struct ini_text take_until(struct scan *s, char stop, size_t max)
{
    struct ini_text t = {s->at, 0};

    while (s->at < s->end && *s->at != stop && t.len < max) {
        s->at++;
        t.len++;
    }
    return t;
}

/* s is behind the opening bracket. */
static void parse_section(struct scan s, struct ini_line *out)
{
    struct scan with_id = s;
    struct ini_text name, id;

    skip_space(&with_id);
    name = take_word(&with_id);
    skip_space(&with_id);
    if (name.len > 0 && skip_char(&with_id, '"')) {
        id = take_until(&with_id, '"', NAME_MAX_LEN);
        if (id.len > 0) {
            out->kind = INI_SECTION;
            out->name = name;
            out->value = id;
            return;
        }
    }
    name = take_until(&s, ']', NAME_MAX_LEN);
    out->kind = name.len > 0 ? INI_SECTION : INI_BAD;
    out->name = name;
}

static void parse_setting(struct scan s, struct ini_line *out)
{
    skip_space(&s);
    out->name = take_word(&s);
    if (out->name.len == 0) {
        out->kind = INI_BAD;
        return;
    }
    out->kind = INI_SETTING;
    skip_space(&s);
    out->value.at = s.at;
    if (!skip_char(&s, '='))
        return;
    skip_space(&s);
    out->value.at = s.at;
    if (!skip_char(&s, '"'))
        return;
    out->quoted = true;
    out->value = take_until(&s, '"', VALUE_MAX_LEN);
    /* A value that the file's end cuts off counts as closed. */
    out->closed = s.at == s.end ? !memchr(out->value.at, '\n', out->value.len) : *s.at == '"';
}

void ini_parse(const char *line, size_t len, struct ini_line *out)
{
    struct scan s = {line, line + len};

    *out = (struct ini_line){.kind = INI_BLANK};
    if (len == 0 || line[0] == '\n' || line[0] == '#')
        return;
    if (skip_char(&s, '['))
        parse_section(s, out);
    else
        parse_setting(s, out);
}
