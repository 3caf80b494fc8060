/* SPDX-License-Identifier: BSD-3-Clause
 *
 * JSON values out of a stream of bytes that arrive in any pieces.
 */
#ifndef CONTROL_JSON_STREAM_H
#define CONTROL_JSON_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/err.h"

#define JSON_STREAM_MAX_BYTES ((size_t)4 << 20) /* of one value, as text */
#define JSON_STREAM_MAX_DEPTH 128

/* Zeroed is valid: nothing was received yet. */
struct json_stream {
    char *text; /* of the value that is being received */
    size_t len, cap;
    unsigned depth;
    char quote; /* inside a string: what ends it; else 0 */
    bool escape;
    bool scalar;  /* text is a word or number outside of any object */
    bool discard; /* the value is being skipped: its error has been told */
    bool resync;  /* skip to the next line or object */
};

/* json_stream_byte: take one byte. True: a value or an error is complete; then *value is a new
 * reference, or NULL and *errp says what is wrong. After an error what belongs to the same value is
 * skipped. Strings may be in single quotes, as in QEMU. The byte 0xff, which no JSON text
 * holds, throws away what came before it, as the QMP specification has it. */
bool json_stream_byte(struct json_stream *s, unsigned char c, json_t **value, struct err **errp);
/* json_stream_feed: take up to len bytes, and stop behind the first value or error. Returns how
 * many were taken; *found: value or errp is set. */
size_t json_stream_feed(struct json_stream *s, const char *bytes, size_t len, bool *found,
                        json_t **value, struct err **errp);
void json_stream_clear(struct json_stream *s);

#endif
