/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Parsing of what people type: sizes, numbers, booleans, comma-separated key=value lists.
 * The messages of errors carry the offending text.
 */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* parse_size: decimal (or 0x) number with an optional suffix b, k, M, G, T, P, E (powers of 1024;
 * either case). "64k" -> 65536. Decimal fractions of k and above are cut to bytes: "1.5k" -> 1536.
 * Rejects negatives, overflow and trailing text.
 * what: the name of the option, for the message. */
bool parse_size(const char *text, const char *what, uint64_t *out, struct err **errp);

/* parse_u64: number in strtoull base 0 syntax within [min, max]. */
bool parse_u64(const char *text, const char *what, uint64_t min, uint64_t max, uint64_t *out,
               struct err **errp);

/* parse_bool: on/yes/true/y and off/no/false/n. */
bool parse_bool(const char *text, const char *what, bool *out, struct err **errp);

/* parse_duration_ms: number with unit ms, s, m, h (default s). */
bool parse_duration_ms(const char *text, const char *what, uint64_t *out_ms, struct err **errp);

/* A parsed "first,key=value,key=value" list, as in -B NAME,granularity=N. A doubled comma stands
 * for a comma, as in QEMU. */
struct kv {
    char *key, *value; /* key "" for a bare first word */
};
struct kv_list {
    struct kv *v;
    size_t n;
};
bool kv_parse(const char *text, const char *what, struct kv_list *out, struct err **errp);
/* kv_get: value of the last occurrence of key, or NULL. Belongs to the list. */
const char *kv_get(const struct kv_list *l, const char *key);
void kv_free(struct kv_list *l);

/* parse_nearest: which of n names (NULL ones are passed over) was probably meant by the len bytes
 * at word; NULL if none is near. For "did you mean". */
const char *parse_nearest(const char *word, size_t len, const char *const *names, size_t n);

/* size_to_text: "64 MiB" style text in buf (at least 32 bytes); returns buf. */
char *size_to_text(uint64_t bytes, char *buf, size_t buf_len);

#endif
