/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The judge's own unpacking of compressed clusters: the libraries' streaming interfaces, a bit of
 * input at a time, with more room than a cluster so that too long a stream shows.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/lib/qcow2_check_priv.h"

#define STEP 100

static size_t inflate_all(const uint8_t *src, size_t n, uint8_t *dst, size_t room)
{
    z_stream z = {.next_in = (uint8_t *)src, .next_out = dst, .avail_out = (uInt)room};
    if (inflateInit2(&z, -12) != Z_OK)
        abort();
    int r = Z_OK;
    while (r == Z_OK && n && z.avail_out) {
        uInt step = (uInt)(n < STEP ? n : STEP);
        z.avail_in = step;
        r = inflate(&z, Z_NO_FLUSH);
        n -= step - z.avail_in;
    }
    size_t got = room - z.avail_out;
    inflateEnd(&z);
    return r == Z_OK || r == Z_STREAM_END ? got : 0;
}

static size_t zstd_all(const uint8_t *src, size_t n, uint8_t *dst, size_t room)
{
    ZSTD_DStream *s = ZSTD_createDStream();
    ZSTD_outBuffer out = {dst, room, 0};
    ZSTD_inBuffer in = {src, 0, 0};
    size_t r = 1;
    while (s && r && !ZSTD_isError(r) && in.pos < n && out.pos < room) {
        in.size = in.pos + STEP < n ? in.pos + STEP : n;
        r = ZSTD_decompressStream(s, &out, &in);
    }
    ZSTD_freeDStream(s);
    return r == 0 ? out.pos : 0;
}

bool qck_unpack(uint8_t compression, const uint8_t *src, size_t n, uint8_t *dst, size_t len)
{
    uint8_t *out = qck_alloc(len + 1, 1);
    size_t got =
        compression == 1 ? zstd_all(src, n, out, len + 1) : inflate_all(src, n, out, len + 1);
    if (got == len)
        memcpy(dst, out, len);
    free(out);
    return got == len;
}
