/* SPDX-License-Identifier: BSD-3-Clause
 *
 * SHA-256 through OpenSSL's EVP interface.
 *
 * The algorithm is fetched once: the implicit fetch of the one-call functions takes locks and costs
 * a measurable part of hashing one block. Workers hash with a context of their own.
 */
#include "digest/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"

static pthread_once_t digest_once = PTHREAD_ONCE_INIT;
static EVP_MD *digest_md;
static struct digest zero_digest;
static bool digest_ready;

struct digest_stream {
    EVP_MD_CTX *ctx;
};

static bool digest_with(EVP_MD_CTX *ctx, const void *p, size_t len, struct digest *out)
{
    return EVP_DigestInit_ex2(ctx, digest_md, NULL) == 1 && EVP_DigestUpdate(ctx, p, len) == 1 &&
           EVP_DigestFinal_ex(ctx, out->v, NULL) == 1;
}

static void digest_setup(void)
{
    static const uint8_t zeros[BACKUP_BLOCK];
    digest_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    digest_ready = digest_md && digest_bytes(zeros, sizeof(zeros), &zero_digest);
}

bool digest_init(struct err **errp)
{
    pthread_once(&digest_once, digest_setup);
    return digest_ready || err_set(errp, ENOTSUP, "OpenSSL offers no SHA-256");
}

const struct digest *digest_zero(void)
{
    return &zero_digest;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return memcmp(a->v, b->v, DIGEST_LEN) == 0;
}

bool digest_bytes(const void *p, size_t len, struct digest *out)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && digest_with(ctx, p, len, out);
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool digest_blocks(uint8_t *buf, size_t len, struct digest *out, bool *zero)
{
    size_t n = div_round_up(len, BACKUP_BLOCK);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL;

    memset(buf + len, 0, n * BACKUP_BLOCK - len);
    for (size_t i = 0; ok && i < n; i++) {
        const uint8_t *block = buf + i * BACKUP_BLOCK;
        zero[i] = bytes_are_zero(block, BACKUP_BLOCK);
        if (zero[i])
            out[i] = zero_digest;
        else
            ok = digest_with(ctx, block, BACKUP_BLOCK, &out[i]);
    }
    EVP_MD_CTX_free(ctx);
    return ok;
}

struct digest_stream *digest_stream_new(void)
{
    struct digest_stream *s = mem_new(struct digest_stream);
    if (!s)
        return NULL;
    s->ctx = EVP_MD_CTX_new();
    if (!s->ctx || EVP_DigestInit_ex2(s->ctx, digest_md, NULL) != 1) {
        digest_stream_free(s);
        return NULL;
    }
    return s;
}

void digest_stream_free(struct digest_stream *s)
{
    if (!s)
        return;
    EVP_MD_CTX_free(s->ctx);
    mem_free(s);
}

bool digest_stream_add(struct digest_stream *s, const void *p, size_t len)
{
    return EVP_DigestUpdate(s->ctx, p, len) == 1;
}

bool digest_stream_end(struct digest_stream *s, struct digest *out)
{
    return EVP_DigestFinal_ex(s->ctx, out->v, NULL) == 1;
}

void hex_encode(const uint8_t *p, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *text, uint8_t *out, size_t len)
{
    if (strlen(text) != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int hi = hex_digit(text[2 * i]), lo = hex_digit(text[2 * i + 1]);
        if (hi < 0 || lo < 0)
            return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}
