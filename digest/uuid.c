/* SPDX-License-Identifier: BSD-3-Clause
 *
 * UUIDs from the system's entropy.
 */
#include "digest/uuid.h"

#include <stddef.h>
#include <string.h>

#include "digest/digest.h"
#include "base/bytes.h"
#include "base/rng.h"

/* Where the text has its dashes, in bytes of the value. */
static const size_t uuid_groups[] = {4, 2, 2, 2, 6};

void uuid_new(struct uuid *u)
{
    put_be64(u->v, rng_entropy());
    put_be64(u->v + 8, rng_entropy());
    u->v[6] = (u->v[6] & 0x0f) | 0x40;
    u->v[8] = (u->v[8] & 0x3f) | 0x80;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->v, b->v, UUID_LEN) == 0;
}

void uuid_format(const struct uuid *u, char *out)
{
    size_t at = 0;
    for (size_t g = 0; g < ARRAY_LEN(uuid_groups); g++) {
        if (g > 0)
            *out++ = '-';
        hex_encode(u->v + at, uuid_groups[g], out);
        at += uuid_groups[g];
        out += 2 * uuid_groups[g];
    }
}

bool uuid_parse(const char *text, struct uuid *out)
{
    char again[UUID_TEXT_LEN + 1], digits[2 * UUID_LEN + 1];
    size_t n = 0;

    if (strlen(text) != UUID_TEXT_LEN)
        return false;
    for (size_t i = 0; i < UUID_TEXT_LEN && n < 2 * UUID_LEN; i++)
        if (text[i] != '-')
            digits[n++] = text[i];
    digits[n] = '\0';
    if (!hex_decode(digits, out->v, UUID_LEN))
        return false;
    uuid_format(out, again);
    return strcmp(again, text) == 0;
}
