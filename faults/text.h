/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Pieces of a line of text, and values written in them as people write them: words, sizes, names
 * of errors. blkdebug's own values are stricter and are read in load.c.
 */
#ifndef FAULTS_TEXT_H
#define FAULTS_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct ini_text { /* a piece of a line; not terminated */
    const char *at;
    size_t len;
};

/* Where in a rule file: both count from 1. Column 0: the line as a whole. */
struct ini_place {
    unsigned line, column;
};

bool text_is(struct ini_text t, const char *word);
/* text_trim: without white space at both ends. */
struct ini_text text_trim(struct ini_text t);
/* text_split: cut the part before the first `stop` off *rest; all of it if there is none. False if
 * *rest is used up (at == NULL), which it is after the last part. */
bool text_split(struct ini_text *rest, char stop, struct ini_text *part);
/* text_printable: for messages, as t may hold anything; at most 63 bytes. Returns buf. */
const char *text_printable(struct ini_text t, char buf[64]);
/* text_nearest: which of n names (NULLs are skipped) t was meant to be; NULL if it is like none. */
const char *text_nearest(struct ini_text t, const char *const *names, size_t n);
bool text_id_is_well_formed(struct ini_text t);

/* The values: messages begin with the key's name. */
bool value_size(struct ini_text t, const char *key, uint64_t *out, struct err **errp);
bool value_number(struct ini_text t, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                  struct err **errp);
bool value_bool(struct ini_text t, const char *key, bool *out, struct err **errp);
bool value_word(struct ini_text t, const char *key, const char *const *names, size_t n,
                unsigned *out, struct err **errp);
/* value_words: a list with commas, as bits 1 << index. */
bool value_words(struct ini_text t, const char *key, const char *const *names, size_t n,
                 unsigned *out, struct err **errp);
/* value_duration: milliseconds; 500ms, 10s, 2m. */
bool value_duration(struct ini_text t, const char *key, uint64_t *out_ms, struct err **errp);
/* value_errno: a name (EIO) or a number, 1 to 4095. */
bool value_errno(struct ini_text t, const char *key, int *out, struct err **errp);
/* value_prob: 25%, 0.1% or 0.25; above 0 and at most 1. */
bool value_prob(struct ini_text t, const char *key, double *out, struct err **errp);

/* errno_text: "EIO", or the number; into buf. Returns buf. */
const char *errno_text(int error, char buf[16]);

/* A text under construction: appended as far as there is room. */
struct out {
    char *buf;
    size_t len, used;
};
void out_put(struct out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void out_vput(struct out *o, const char *fmt, va_list ap);
/* out_size: with the largest suffix that leaves it whole: 4k. */
void out_size(struct out *o, uint64_t bytes);
/* out_words: names of the set bits, with commas. */
void out_words(struct out *o, unsigned bits, const char *const *names, size_t n);

#endif
