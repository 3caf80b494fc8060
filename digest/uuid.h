/* SPDX-License-Identifier: BSD-3-Clause
 *
 * UUIDs (RFC 9562 version 4): the identity of a backup, in its file names and checkpoint name.
 */
#ifndef DIGEST_UUID_H
#define DIGEST_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_LEN 16
#define UUID_TEXT_LEN 36

struct uuid {
    uint8_t v[UUID_LEN];
};

/* uuid_new: a fresh random one. */
void uuid_new(struct uuid *u);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
/* uuid_format: 36 characters, lower case, and a NUL. */
void uuid_format(const struct uuid *u, char *out);
/* uuid_parse: exactly 36 characters in the usual form, lower case only (file names must have one
 * spelling). */
bool uuid_parse(const char *text, struct uuid *out);

#endif
