/* SPDX-License-Identifier: BSD-3-Clause
 *
 * SHA-256 of guest content, in blocks of 64 KiB.
 *
 * Every digest in a backup is of one block of guest data. The last block of a disk whose size is
 * not a multiple of the block is hashed as if zeros followed to its end, so that a block of zeros
 * has one digest wherever it is.
 */
#ifndef DIGEST_DIGEST_H
#define DIGEST_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BACKUP_BLOCK UINT64_C(65536)
#define DIGEST_LEN 32
#define DIGEST_HEX_LEN (2 * DIGEST_LEN)

struct digest {
    uint8_t v[DIGEST_LEN];
};

/* digest_init: fetch the algorithm and compute the digest of a zero block; call before any other
 * function here. May be called again, from any thread; costs nothing then. */
bool digest_init(struct err **errp);

/* digest_zero: the digest of a block of zeros. */
const struct digest *digest_zero(void);
bool digest_equal(const struct digest *a, const struct digest *b);

/* digest_bytes: SHA-256 of len bytes. False only if the library fails (out of memory). Any
 * thread. */
bool digest_bytes(const void *p, size_t len, struct digest *out);

/* digest_blocks: the digests of the blocks in buf, of which len bytes are used (a shorter last
 * block counts as padded with zeros). buf has room up to a whole number of blocks; the padding is
 * written into it. zero[i] says whether block i holds only zeros. Any thread. */
bool digest_blocks(uint8_t *buf, size_t len, struct digest *out, bool *zero);

/* A running SHA-256, for hash files and roots. */
struct digest_stream;
struct digest_stream *digest_stream_new(void);
void digest_stream_free(struct digest_stream *s);
bool digest_stream_add(struct digest_stream *s, const void *p, size_t len);
/* digest_stream_end: the digest; the stream takes no more afterwards. */
bool digest_stream_end(struct digest_stream *s, struct digest *out);

/* hex_encode: 2 * len digits and a NUL. hex_decode: false unless text is exactly 2 * len lower- or
 * upper-case digits. */
void hex_encode(const uint8_t *p, size_t len, char *out);
bool hex_decode(const char *text, uint8_t *out, size_t len);

#endif
