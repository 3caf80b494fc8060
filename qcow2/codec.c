/* SPDX-License-Identifier: BSD-3-Clause
 *
 * zlib and zstd, held to what the format wants: one cluster, no more, no less.
 *
 * Both are called once for the whole cluster, so that the output itself is the window: the memory
 * they take does not depend on what the input claims. (zstd's streaming interface would allocate
 * the window that a frame header asks for, up to 128 MiB.)
 */
#include "qcow2/codec.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"

/* The format's readers inflate with a window of 4 KiB: what is written must not reach back more. */
#define DEFLATE_WINDOW_BITS (-12) /* negative: raw deflate */
#define DEFLATE_MEM_LEVEL 9
#define ZSTD_LEVEL 3

static voidpf z_alloc(voidpf arg, uInt n, uInt size)
{
    return mem_array(n, size);
}

static void z_free(voidpf arg, voidpf p)
{
    mem_free(p);
}

static int z_error(int r)
{
    return r == Z_MEM_ERROR ? -ENOMEM : -EIO;
}

/* The output is full, but the end of the stream was not seen: the last sector may have been cut
 * off right behind the data. It is right if nothing more comes out. */
static int inflate_rest(z_stream *z)
{
    uint8_t extra;
    z->next_out = &extra;
    z->avail_out = 1;
    int r = inflate(z, Z_FINISH);
    if (z->avail_out == 0)
        return -EIO;
    return r == Z_STREAM_END || r == Z_BUF_ERROR ? 0 : z_error(r);
}

static int unpack_deflate(const uint8_t *src, size_t n, uint8_t *dst, size_t len)
{
    z_stream z = {.zalloc = z_alloc,
                  .zfree = z_free,
                  .next_in = (uint8_t *)src,
                  .avail_in = (uInt)n,
                  .next_out = dst,
                  .avail_out = (uInt)len};
    int r = inflateInit2(&z, DEFLATE_WINDOW_BITS);
    if (r != Z_OK)
        return z_error(r);
    r = inflate(&z, Z_FINISH);
    int ret;
    if (r == Z_STREAM_END)
        ret = z.avail_out == 0 ? 0 : -EIO;
    else
        ret = r == Z_BUF_ERROR && z.avail_out == 0 ? inflate_rest(&z) : z_error(r);
    inflateEnd(&z);
    return ret;
}

static const uint8_t zstd_magic[] = {0x28, 0xb5, 0x2f, 0xfd};

/* Frames one behind the other, until the cluster is full. Only plain frames: the library would also
 * take skippable ones and, depending on its build, the formats from before version 1. */
static int unpack_zstd(const uint8_t *src, size_t n, uint8_t *dst, size_t len)
{
    ZSTD_DCtx *ctx = ZSTD_createDCtx();
    int ret = ctx ? 0 : -ENOMEM;
    while (ret == 0 && len) {
        size_t frame = ZSTD_findFrameCompressedSize(src, n);
        if (ZSTD_isError(frame) || memcmp(src, zstd_magic, sizeof(zstd_magic)) != 0) {
            ret = -EIO;
            break;
        }
        size_t got = ZSTD_decompressDCtx(ctx, dst, len, src, frame);
        if (ZSTD_isError(got)) {
            ret = -EIO;
            break;
        }
        src += frame;
        n -= frame;
        dst += got;
        len -= got;
    }
    ZSTD_freeDCtx(ctx);
    return ret;
}

int qc_codec_unpack(enum qc_codec codec, const uint8_t *src, size_t n, uint8_t *dst, size_t len)
{
    return codec == QC_CODEC_ZSTD ? unpack_zstd(src, n, dst, len)
                                  : unpack_deflate(src, n, dst, len);
}

struct qc_packer {
    enum qc_codec codec;
    z_stream z;
    ZSTD_CCtx *zstd;
};

struct qc_packer *qc_packer_new(enum qc_codec codec)
{
    struct qc_packer *p = mem_new(struct qc_packer);
    if (!p)
        return NULL;
    p->codec = codec;
    p->z = (z_stream){.zalloc = z_alloc, .zfree = z_free};
    if (codec == QC_CODEC_ZSTD)
        p->zstd = ZSTD_createCCtx();
    bool ok = codec == QC_CODEC_ZSTD
                  ? p->zstd != NULL
                  : deflateInit2(&p->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, DEFLATE_WINDOW_BITS,
                                 DEFLATE_MEM_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
    if (ok)
        return p;
    mem_free(p);
    return NULL;
}

void qc_packer_free(struct qc_packer *p)
{
    if (!p)
        return;
    if (p->codec == QC_CODEC_ZSTD)
        ZSTD_freeCCtx(p->zstd);
    else
        deflateEnd(&p->z);
    mem_free(p);
}

static size_t pack_deflate(z_stream *z, const uint8_t *src, size_t len, uint8_t *dst, size_t room)
{
    if (deflateReset(z) != Z_OK)
        return 0;
    z->next_in = (uint8_t *)src;
    z->avail_in = (uInt)len;
    z->next_out = dst;
    z->avail_out = (uInt)room;
    return deflate(z, Z_FINISH) == Z_STREAM_END ? room - z->avail_out : 0;
}

size_t qc_packer_pack(struct qc_packer *p, const uint8_t *src, size_t len, uint8_t *dst,
                      size_t room)
{
    if (p->codec == QC_CODEC_DEFLATE) /* zstd has such a probe of its own */
        return room < len && qc_codec_hopeless(src, len) ? 0
                                                         : pack_deflate(&p->z, src, len, dst, room);
    size_t got = ZSTD_compressCCtx(p->zstd, dst, room, src, len, ZSTD_LEVEL);
    return ZSTD_isError(got) ? 0 : got;
}

size_t qc_codec_pack(enum qc_codec codec, const uint8_t *src, size_t len, uint8_t *dst, size_t room)
{
    struct qc_packer *p = qc_packer_new(codec);
    size_t got = p ? qc_packer_pack(p, src, len, dst, room) : 0;
    qc_packer_free(p);
    return got;
}
