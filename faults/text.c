/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Texts in and out: comparing, guessing what was meant, and building lines of a fixed size.
 */
#include "faults/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"

bool text_is(struct ini_text t, const char *word)
{
    return strlen(word) == t.len && memcmp(t.at, word, t.len) == 0;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct ini_text text_trim(struct ini_text t)
{
    while (t.len > 0 && is_space(t.at[0])) {
        t.at++;
        t.len--;
    }
    while (t.len > 0 && is_space(t.at[t.len - 1]))
        t.len--;
    return t;
}

bool text_split(struct ini_text *rest, char stop, struct ini_text *part)
{
    const char *at;

    if (!rest->at)
        return false;
    at = rest->len > 0 ? memchr(rest->at, stop, rest->len) : NULL;
    *part = (struct ini_text){rest->at, at ? (size_t)(at - rest->at) : rest->len};
    if (at)
        *rest = (struct ini_text){at + 1, rest->len - part->len - 1};
    else
        *rest = (struct ini_text){NULL, 0};
    return true;
}

const char *text_printable(struct ini_text t, char buf[64])
{
    size_t n = min_u64(t.len, 63);

    for (size_t i = 0; i < n; i++)
        buf[i] = t.at[i] >= ' ' && t.at[i] < 127 ? t.at[i] : '?';
    buf[n] = 0;
    return buf;
}

const char *text_nearest(struct ini_text t, const char *const *names, size_t n)
{
    return parse_nearest(t.at, t.len, names, n);
}

bool text_id_is_well_formed(struct ini_text t)
{
    for (size_t i = 0; i < t.len; i++) {
        char c = t.at[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool other = (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';

        if (!letter && !(other && i > 0))
            return false;
    }
    return t.len > 0;
}

void out_put(struct out *o, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    out_vput(o, fmt, ap);
    va_end(ap);
}

void out_vput(struct out *o, const char *fmt, va_list ap)
{
    int n = vsnprintf(o->buf + o->used, o->len - o->used, fmt, ap);

    if (n > 0)
        o->used += (size_t)n < o->len - o->used ? (size_t)n : o->len - o->used - 1;
}

void out_size(struct out *o, uint64_t bytes)
{
    static const char suffix[] = " kMGTPE";
    unsigned i = 0;

    while (bytes > 0 && bytes % KiB == 0 && i + 2 < sizeof(suffix)) {
        bytes /= KiB;
        i++;
    }
    out_put(o, "%" PRIu64, bytes);
    if (i > 0)
        out_put(o, "%c", suffix[i]);
}

void out_words(struct out *o, unsigned bits, const char *const *names, size_t n)
{
    const char *comma = "";

    for (size_t i = 0; i < n; i++) {
        if (!(bits & (1u << i)))
            continue;
        out_put(o, "%s%s", comma, names[i]);
        comma = ",";
    }
}
