/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A TLS stream over another stream.
 *
 * OpenSSL reads from and writes to two buffers through a BIO of our own; it never waits. So every
 * call of it is atomic between two yields, and one coroutine may receive while another sends, as
 * every stream promises.
 *
 * Sending: all small pieces of a vector are put together into records of 16 KiB, and a batch of
 * records goes out with one send of the stream below. Records that receiving gives rise to (alerts,
 * answers to key updates) join the same buffer. Whoever sends holds send_lock, so their order on
 * the wire is that in which they were encrypted.
 *
 * The end: a close_notify that arrives is the end of the stream; an end without one is an error, as
 * anybody on the way could have made it. Ours is sent where that needs no waiting.
 */
#include "io/tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "io/io.h"
#include "io/lock.h"
#include "io/tls_priv.h"

#define IN_SIZE ((size_t)(64 * KiB))
/* A key should not encrypt more than 2^24.5 full records (RFC 8446, 5.5). */
#define RECORDS_PER_KEY (UINT64_C(1) << 23)

/* --- The BIO: OpenSSL's side of the buffers --- */

static int bio_read(BIO *b, char *p, size_t len, size_t *n)
{
    struct tls_stream *t = BIO_get_data(b);
    size_t have = t->in_tail - t->in_head;

    BIO_clear_retry_flags(b);
    *n = have < len ? have : len;
    if (*n == 0) {
        BIO_set_retry_read(b); /* the end is for fill to see */
        return 0;
    }
    memcpy(p, t->in + t->in_head, *n);
    t->in_head += *n;
    return 1;
}

static int bio_write(BIO *b, const char *p, size_t len, size_t *n)
{
    struct tls_stream *t = BIO_get_data(b);

    BIO_clear_retry_flags(b);
    if (!t->out) {
        t->out = tls_out_get(t->creds);
        t->out_len = 0;
    }
    size_t room = t->out ? sizeof(t->out->data) - t->out_len : 0;
    *n = room < len ? room : len;
    if (*n == 0) {
        BIO_set_retry_write(b);
        return 0;
    }
    memcpy(t->out->data + t->out_len, p, *n);
    t->out_len += *n;
    return 1;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    return cmd == BIO_CTRL_FLUSH; /* done when it is asked for; nothing else is known */
}

static BIO_METHOD *bio_method(void)
{
    static BIO_METHOD *method; /* lives as long as the process */

    if (!method) {
        BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
        if (m) {
            BIO_meth_set_read_ex(m, bio_read);
            BIO_meth_set_write_ex(m, bio_write);
            BIO_meth_set_ctrl(m, bio_ctrl);
        }
        method = m;
    }
    return method;
}

/* --- Between the buffers and the stream below --- */

/* Send what there is in out. The caller holds send_lock. More may be appended meanwhile. */
static int flush_locked(struct tls_stream *t, int64_t deadline_ns)
{
    int r = 0;

    while (t->out && r == 0) {
        size_t len = t->out_len;
        struct iovec v = {.iov_base = t->out->data, .iov_len = len};

        r = t->dead ? -EPIPE : stream_sendv(t->below, &v, 1, deadline_ns);
        t->out_len -= len;
        if (r == 0 && t->out_len > 0) {
            memmove(t->out->data, t->out->data + len, t->out_len);
            continue;
        }
        tls_out_put(t->creds, t->out);
        t->out = NULL;
    }
    if (r < 0)
        t->failed = t->dead = true;
    return r;
}

int tls_flush(struct tls_stream *t, int64_t deadline_ns)
{
    if (!t->out)
        return 0;
    co_lock(&t->send_lock);
    int r = flush_locked(t, deadline_ns);
    co_unlock(&t->send_lock);
    return r;
}

int tls_fill(struct tls_stream *t, int64_t deadline_ns)
{
    if (t->in_head == t->in_tail)
        t->in_head = t->in_tail = 0;
    ssize_t n = stream_recv(t->below, t->in + t->in_tail, IN_SIZE - t->in_tail, deadline_ns);
    if (n <= 0)
        return n < 0 ? (int)n : -ECONNRESET;
    t->in_tail += (size_t)n;
    return 0;
}

/* --- Receiving --- */

/* What SSL_read did not give: 0 more is needed, 1 the end, or -errno. */
static int read_verdict(struct tls_stream *t)
{
    switch (SSL_get_error(t->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return 1;
    case SSL_ERROR_WANT_WRITE: /* no memory for an answer */
        return -ENOMEM;
    default:
        ERR_clear_error();
        t->failed = true; /* OpenSSL forbids to go on, in either direction */
        return -EPROTO;
    }
}

static ssize_t tls_recv(struct stream *s, void *buf, size_t len, bool whole, int64_t deadline_ns)
{
    struct tls_stream *t = tls_of(s);
    size_t got = 0;
    int r = 0;

    while (got < len) {
        size_t n;

        ERR_clear_error();
        if (SSL_read_ex(t->ssl, (uint8_t *)buf + got, len - got, &n) == 1) {
            got += n;
            continue;
        }
        r = read_verdict(t);
        int sent = tls_flush(t, deadline_ns); /* also an alert that says why */
        if (r == 0)
            r = sent;
        if (r != 0 || (got > 0 && !whole))
            break;
        r = tls_fill(t, deadline_ns);
        if (r < 0)
            break;
    }
    if (got > 0)
        return (ssize_t)got;
    return r < 0 ? r : 0;
}

/* --- Sending --- */

struct cursor { /* over a vector, which it uses up */
    struct iovec *iov;
    int n;
};

/* The next piece for one record: straight from the vector if that holds a whole one, or else put
 * together in `stage`. */
static size_t next_piece(struct cursor *c, uint8_t *stage, const uint8_t **piece)
{
    size_t filled = 0;

    *piece = stage;
    while (c->n > 0 && filled < TLS_RECORD_MAX) {
        struct iovec *v = c->iov;
        size_t n = min_u64(v->iov_len, TLS_RECORD_MAX - filled);

        if (n == TLS_RECORD_MAX || (filled == 0 && c->n == 1))
            *piece = v->iov_base;
        else
            memcpy(stage + filled, v->iov_base, n);
        v->iov_base = (uint8_t *)v->iov_base + n;
        v->iov_len -= n;
        filled += n;
        if (v->iov_len == 0) {
            c->iov++;
            c->n--;
        }
    }
    return filled;
}

static int encrypt(struct tls_stream *t, const uint8_t *p, size_t len)
{
    size_t n;

    if (t->failed)
        return -EPIPE;
    ERR_clear_error();
    if (++t->records == RECORDS_PER_KEY && SSL_version(t->ssl) == TLS1_3_VERSION) {
        SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
        t->records = 0;
    }
    if (SSL_write_ex(t->ssl, p, len, &n) == 1)
        return 0;
    int err = SSL_get_error(t->ssl, 0) == SSL_ERROR_WANT_WRITE ? -ENOMEM : -EPIPE;
    ERR_clear_error();
    t->failed = true; /* a record may be cut */
    return err;
}

static int send_locked(struct tls_stream *t, struct cursor *c, int64_t deadline_ns)
{
    for (;;) {
        const uint8_t *piece;

        if (t->out && sizeof(t->out->data) - t->out_len < 2 * (size_t)TLS_RECORD_ROOM) {
            int r = flush_locked(t, deadline_ns);
            if (r < 0)
                return r;
        }
        size_t n = next_piece(c, t->creds->stage, &piece);
        if (n == 0)
            return flush_locked(t, deadline_ns);
        int r = encrypt(t, piece, n);
        if (r < 0)
            return r;
    }
}

static int tls_sendv(struct stream *s, struct iovec *iov, int iov_len, int64_t deadline_ns)
{
    struct tls_stream *t = tls_of(s);
    struct cursor c = {iov, iov_len};

    co_lock(&t->send_lock);
    int r = send_locked(t, &c, deadline_ns);
    co_unlock(&t->send_lock);
    return r;
}

/* --- The rest of a stream --- */

static size_t tls_unread(struct stream *s)
{
    return stream_unread(tls_of(s)->below);
}

/* What was touched of `in`, and OpenSSL's two buffers: 100 KiB of a connection that may never speak
 * again. OpenSSL makes its own anew when it needs them. */
static void tls_rest(struct stream *s)
{
    struct tls_stream *t = tls_of(s);

    if (!t->open || t->failed || t->send_lock.held || t->in_head != t->in_tail)
        return;
    SSL_free_buffers(t->ssl);
    madvise(t->in, IN_SIZE, MADV_DONTNEED);
}

static void tls_reset(struct stream *s)
{
    stream_reset(tls_of(s)->below);
}

static void tls_peer_name(struct stream *s, char *buf, size_t len)
{
    stream_peer(tls_of(s)->below, buf, len);
}

/* Say goodbye if nobody is sending and the stream below takes it at once. */
static void say_goodbye(struct tls_stream *t)
{
    if (!t->open || t->failed || t->send_lock.held || t->out)
        return;
    ERR_clear_error();
    SSL_shutdown(t->ssl);
    t->failed = true;
    if (!t->out)
        return;
    stream_offer(t->below, t->out->data, t->out_len);
    tls_out_put(t->creds, t->out);
    t->out = NULL;
}

static void tls_shutdown(struct stream *s)
{
    struct tls_stream *t = tls_of(s);

    say_goodbye(t);
    stream_shutdown(t->below);
}

static void tls_free(struct stream *s)
{
    struct tls_stream *t = tls_of(s);

    if (t->below)
        say_goodbye(t);
    stream_free(t->below);
    SSL_free(t->ssl);
    if (t->out)
        tls_out_put(t->creds, t->out);
    tls_creds_unref(t->creds);
    OPENSSL_free(t->subject);
    mem_free(t->user);
    mem_free(t->in);
    mem_free(t);
}

static const struct stream_ops tls_ops = {
    .recv = tls_recv,
    .sendv = tls_sendv,
    .unread = tls_unread,
    .rest = tls_rest,
    .reset = tls_reset,
    .peer = tls_peer_name,
    .shutdown = tls_shutdown,
    .free = tls_free,
};

struct stream *tls_server_new(struct stream *below, struct tls_creds *creds)
{
    struct tls_stream *t = mem_new(struct tls_stream);
    BIO *bio = NULL;

    if (!t)
        return NULL;
    t->stream.ops = &tls_ops;
    t->creds = tls_creds_ref(creds);
    t->in = mem_alloc_aligned(IN_SIZE, 4096);
    t->ssl = SSL_new(creds->ctx);
    if (t->in && t->ssl && bio_method())
        bio = BIO_new(bio_method());
    if (!bio) {
        ERR_clear_error();
        tls_free(&t->stream);
        return NULL;
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_app_data(t->ssl, t);
    SSL_set_accept_state(t->ssl);
    t->below = below;
    return &t->stream;
}
