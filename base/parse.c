/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What people type, turned into values. Every message quotes the text that was wrong.
 */
#include "base/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "base/mem.h"

#define LONGEST_WORD 40 /* that is compared with others; ours are shorter */

/* number: the leading unsigned number of text; *end is the rest. False if there is none or it does
 * not fit. strtoull takes signs and leading space, which we do not. */
static bool number(const char *text, uint64_t *out, const char **end)
{
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *e;
    errno = 0;
    unsigned long long v = strtoull(text, &e, text[0] == '0' && (text[1] | 32) == 'x' ? 16 : 10);
    if (errno != 0)
        return false;
    *out = v;
    *end = e;
    return true;
}

static int suffix_shift(char c)
{
    static const char units[] = "bkmgtpe";
    if (c == '\0')
        return 0;
    const char *at = strchr(units, c >= 'A' && c <= 'Z' ? c + 32 : c);
    return at ? (int)(at - units) * 10 : -1;
}

/* The digits behind the point at *end, as so many of 2^shift; what is less than one is dropped.
 * Digit by digit in binary, since the product would not fit. False: none, or too many. */
static bool fraction(const char **end, int shift, uint64_t *out)
{
    uint64_t rest = 0, one = 1;
    const char *p = *end + 1;
    for (; *p >= '0' && *p <= '9' && one <= UINT64_MAX / 40; p++, one *= 10)
        rest = rest * 10 + (uint64_t)(*p - '0');
    bool some = p > *end + 1 && !(*p >= '0' && *p <= '9');
    *end = p;
    *out = 0;
    for (; shift > 0; shift--) {
        rest *= 2;
        *out = *out << 1 | (rest >= one);
        rest -= rest >= one ? one : 0;
    }
    return some;
}

/* Of the suffix behind what may be a fraction. */
static const char *suffix_of(const char *end)
{
    return *end == '.' ? end + 1 + strspn(end + 1, "0123456789") : end;
}

bool parse_size(const char *text, const char *what, uint64_t *out, struct err **errp)
{
    uint64_t v, part = 0;
    const char *end;
    if (!number(text, &v, &end))
        return err_set(errp, EINVAL,
                       "%s: '%s' is not a size (a number, then b, k, M, G, T, P or E)", what, text);
    int shift = suffix_shift(*suffix_of(end));
    bool hex = (text[1] | 32) == 'x';
    if (*end == '.' && (hex || shift == 0 || !fraction(&end, shift, &part)))
        return err_set(errp, EINVAL, "%s: '%s' is not a size (as 1.5G: not of bytes)", what, text);
    if (shift < 0 || (end[0] && end[1]))
        return err_set(errp, EINVAL, "%s: '%s' has an unknown suffix '%s' (b, k, M, G, T, P or E)",
                       what, text, end);
    if (v > UINT64_MAX >> shift)
        return err_set(errp, ERANGE, "%s: '%s' is too large", what, text);
    *out = (v << shift) + part;
    return true;
}

bool parse_u64(const char *text, const char *what, uint64_t min, uint64_t max, uint64_t *out,
               struct err **errp)
{
    if (text[0] < '0' || text[0] > '9')
        return err_set(errp, EINVAL, "%s: '%s' is not a number", what, text);
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 0);
    if (*end)
        return err_set(errp, EINVAL, "%s: '%s' is not a number", what, text);
    if (errno != 0 || v < min || v > max)
        return err_set(errp, ERANGE, "%s: %s is not between %" PRIu64 " and %" PRIu64, what, text,
                       min, max);
    *out = v;
    return true;
}

bool parse_bool(const char *text, const char *what, bool *out, struct err **errp)
{
    static const char *const yes[] = {"on", "yes", "true", "y"};
    static const char *const no[] = {"off", "no", "false", "n"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0) {
            *out = true;
            return true;
        }
        if (strcmp(text, no[i]) == 0) {
            *out = false;
            return true;
        }
    }
    return err_set(errp, EINVAL, "%s: '%s' is neither on nor off", what, text);
}

bool parse_duration_ms(const char *text, const char *what, uint64_t *out_ms, struct err **errp)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    uint64_t v;
    const char *end;
    if (number(text, &v, &end)) {
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
            if (strcmp(end, units[i].unit) != 0)
                continue;
            if (v > UINT64_MAX / units[i].ms)
                return err_set(errp, ERANGE, "%s: '%s' is too long", what, text);
            *out_ms = v * units[i].ms;
            return true;
        }
    }
    return err_set(errp, EINVAL, "%s: '%s' is not a time (a number, then ms, s, m or h)", what,
                   text);
}

/* kv_item: copy one item up to its closing comma, undoubling commas. *next: past the comma. */
static char *kv_item(const char *text, const char **next)
{
    char *item = mem_alloc(strlen(text) + 1);
    if (!item)
        return NULL;
    size_t n = 0;
    while (*text) {
        if (*text == ',' && text[1] != ',')
            break;
        if (*text == ',')
            text++;
        item[n++] = *text++;
    }
    item[n] = '\0';
    *next = *text ? text + 1 : text;
    return item;
}

static bool kv_append(struct kv_list *l, const char *item, bool first, const char *what,
                      struct err **errp)
{
    const char *eq = strchr(item, '=');
    if (!eq && !first)
        return err_set(errp, EINVAL, "%s: '%s' is not of the form key=value", what, item);
    if (eq == item)
        return err_set(errp, EINVAL, "%s: '%s' has no key before '='", what, item);
    struct kv *v = mem_realloc(l->v, (l->n + 1) * sizeof(*v));
    if (!v)
        return err_set(errp, ENOMEM, "%s: out of memory", what);
    l->v = v;
    struct kv *kv = &v[l->n];
    kv->key = mem_strndup(item, eq ? (size_t)(eq - item) : 0);
    kv->value = mem_strdup(eq ? eq + 1 : item);
    l->n++;
    if (!kv->key || !kv->value)
        return err_set(errp, ENOMEM, "%s: out of memory", what);
    return true;
}

bool kv_parse(const char *text, const char *what, struct kv_list *out, struct err **errp)
{
    *out = (struct kv_list){0};
    bool first = true;
    do {
        char *item = kv_item(text, &text);
        bool ok = item ? kv_append(out, item, first, what, errp)
                       : err_set(errp, ENOMEM, "%s: out of memory", what);
        mem_free(item);
        if (!ok) {
            kv_free(out);
            return false;
        }
        first = false;
    } while (*text);
    return true;
}

const char *kv_get(const struct kv_list *l, const char *key)
{
    for (size_t i = l->n; i-- > 0;)
        if (strcmp(l->v[i].key, key) == 0)
            return l->v[i].value;
    return NULL;
}

void kv_free(struct kv_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        mem_free(l->v[i].key);
        mem_free(l->v[i].value);
    }
    mem_free(l->v);
    *l = (struct kv_list){0};
}

char *size_to_text(uint64_t bytes, char *buf, size_t buf_len)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t u = 0;
    double v = (double)bytes;
    while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    if (u == 0)
        snprintf(buf, buf_len, "%" PRIu64 " %s", bytes, bytes == 1 ? "byte" : units[0]);
    else
        snprintf(buf, buf_len, v < 10 ? "%.2f %s" : v < 100 ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}

/* How far apart two words are: letters to be put in, left out, changed or swapped with their
 * neighbour, no letter twice (optimal string alignment). Rows: [0] is the one before last. */
static size_t word_distance(const char *a, size_t a_len, const char *b)
{
    size_t b_len = strlen(b), row[3][LONGEST_WORD + 1] = {{0}};

    if (a_len > LONGEST_WORD || b_len > LONGEST_WORD)
        return LONGEST_WORD;
    for (size_t j = 0; j <= b_len; j++)
        row[2][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        memcpy(row[0], row[1], sizeof(row[0]));
        memcpy(row[1], row[2], sizeof(row[1]));
        row[2][0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t least = row[1][j - 1] + (a[i - 1] != b[j - 1]);

            if (row[1][j] + 1 < least)
                least = row[1][j] + 1;
            if (row[2][j - 1] + 1 < least)
                least = row[2][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                row[0][j - 2] + 1 < least)
                least = row[0][j - 2] + 1;
            row[2][j] = least;
        }
    }
    return row[2][b_len];
}

const char *parse_nearest(const char *word, size_t len, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t least = 4;

    for (size_t i = 0; i < n; i++) {
        size_t d = names[i] ? word_distance(word, len, names[i]) : least;

        if (d < least) {
            best = names[i];
            least = d;
        }
    }
    /* A word of which less than half fits was not meant. */
    return best && 2 * least <= max_u64(len, strlen(best)) ? best : NULL;
}
