/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The raw-byte client: see proto.h.
 */
#include "tests/proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "block/mem_disk.h"

#define PATIENCE_NS (1000 * NS_PER_S)

static uint8_t chunk_data[80 * 1024 * 1024];

/* --- The gate: a filter that lets a test hold, fail and count requests. --- */

struct gate_state {
    struct proto *p;
};

static int gate_submit(struct node *n, struct req *r)
{
    struct proto *p = ((struct gate_state *)n->state)->p;

    p->n_ops[r->op]++;
    p->last_flags = r->flags;
    p->in_gate++;
    if (p->in_gate > p->max_in_gate)
        p->max_in_gate = p->in_gate;
    while (p->gate_closed)
        co_queue_wait(&p->gate);
    p->in_gate--;
    if (p->fail)
        return -p->fail;
    int ret = node_submit(n->child[0], r);
    for (size_t i = 0; r->op == REQ_STATUS && i < r->ext->n; i++)
        r->ext->v[i].flags &= ~p->mask_status;
    return ret;
}

static const struct driver gate_driver = {
    .name = "gate",
    .state_size = sizeof(struct gate_state),
    .is_filter = true,
    .submit = gate_submit,
    .fua_ops = 1 << REQ_WRITE | 1 << REQ_ZERO | 1 << REQ_DISCARD,
};

void gate_open(struct proto *p)
{
    p->gate_closed = false;
    co_queue_wake_all(&p->gate);
}

static struct node *gate_new(struct proto *p)
{
    p->disk = mem_open(DISK_SIZE, NULL);
    assert_non_null(p->disk);
    struct node *n = node_new(&gate_driver, "gate", NULL);
    assert_non_null(n);
    ((struct gate_state *)n->state)->p = p;
    assert_true(node_attach(n, p->disk, NULL));
    return n;
}

void proto_publish(struct proto *p, const char *name, uint32_t granularity)
{
    struct bitmap *b = node_bitmap_add(p->gate_node, name, granularity, false, NULL);

    assert_non_null(b);
    assert_in_range(p->export_opts.n_bitmaps, 0, 7);
    p->published[p->export_opts.n_bitmaps++].name = b->name;
}

/* --- Running. --- */

struct run {
    struct proto p;
    void (*fn)(struct proto *p);
    void (*tweak)(struct proto *p);
};

static void run_body(void *arg)
{
    struct run *r = arg;
    struct proto *p = &r->p;
    struct err *e = NULL;

    p->export_opts.name = "disk";
    p->export_opts.description = "a disk";
    p->export_opts.bitmaps = p->published;
    p->export_opts.top = p->gate_node = gate_new(p);
    if (r->tweak)
        r->tweak(p);
    p->server = server_new(&p->server_opts, &e);
    if (!p->server || !server_add_export(p->server, &p->export_opts, &e))
        fail_msg("%s", err_msg(e));
    r->fn(p);
    gate_open(p);
    assert_int_equal(server_stop(p->server, false), 0);
    assert_int_equal(server_connections(p->server), 0);
    server_free(p->server);
}

void proto_run(void (*fn)(struct proto *p), void (*tweak)(struct proto *p))
{
    struct reactor *reactor;
    struct run *r = calloc(1, sizeof(*r));

    r->fn = fn;
    r->tweak = tweak;
    assert_true(reactor_new(REACTOR_SIM, &reactor, NULL));
    assert_true(reactor_run_co(reactor, run_body, r));
    assert_int_equal(co_alive(), 0);
    reactor_free(reactor);
    free(r);
}

void proto_settle(void)
{
    co_sleep_until(clock_ns() + NS_PER_MS);
}

/* --- Bytes. --- */

struct peer peer_connect(struct proto *p)
{
    struct stream *ends[2];
    struct err *e = NULL;

    assert_true(stream_pipe(64 * 1024, ends));
    if (!server_serve(p->server, ends[0], &e))
        fail_msg("%s", err_msg(e));
    return (struct peer){ends[1]};
}

void peer_close(struct peer *c)
{
    stream_shutdown(c->s);
    stream_free(c->s);
    c->s = NULL;
}

void peer_send(struct peer *c, const void *buf, size_t len)
{
    struct iovec v = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};

    if (len > 0)
        assert_int_equal(stream_sendv(c->s, &v, 1, clock_ns() + PATIENCE_NS), 0);
}

void peer_recv(struct peer *c, void *buf, size_t len)
{
    if (len > 0)
        assert_int_equal(stream_recv_all(c->s, buf, len, clock_ns() + PATIENCE_NS), 0);
}

void peer_expect_end(struct peer *c)
{
    char byte;
    assert_int_equal(stream_recv(c->s, &byte, 1, clock_ns() + PATIENCE_NS), 0);
}

bool peer_ended(struct peer *c)
{
    static char drop[65536];
    ssize_t n;

    do {
        n = stream_recv(c->s, drop, sizeof(drop), clock_ns() + PATIENCE_NS);
    } while (n > 0);
    return n == 0;
}

/* --- Handshake. --- */

void peer_hello(struct peer *c, uint32_t client_flags)
{
    uint8_t b[18];

    peer_recv(c, b, 18);
    assert_memory_equal(b, "NBDMAGICIHAVEOPT\0\3", 18);
    put_be32(b, client_flags);
    peer_send(c, b, 4);
}

void peer_option(struct peer *c, uint32_t option, const void *data, uint32_t len)
{
    uint8_t b[16] = "IHAVEOPT";

    put_be32(b + 8, option);
    put_be32(b + 12, len);
    peer_send(c, b, 16);
    peer_send(c, data, len);
}

uint32_t peer_reply(struct peer *c, uint32_t option, void *data, size_t max, uint32_t *len)
{
    static const uint8_t magic[8] = {0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9};
    static uint8_t scratch[1 << 20];
    uint8_t b[20];

    peer_recv(c, b, 20);
    assert_memory_equal(b, magic, 8);
    assert_int_equal(get_be32(b + 8), option);
    uint32_t n = get_be32(b + 16);
    assert_true(n <= sizeof(scratch));
    peer_recv(c, scratch, n);
    if (data)
        memcpy(data, scratch, n < max ? n : max);
    if (len)
        *len = n;
    return get_be32(b + 12);
}

void peer_expect_error(struct peer *c, uint32_t option, uint32_t type, const char *text)
{
    char msg[4097] = "";
    uint32_t len;

    assert_int_equal(peer_reply(c, option, msg, 4096, &len), type);
    assert_true(len > 0 && len <= 4096);
    msg[len] = '\0';
    if (!strstr(msg, text))
        fail_msg("'%s' is not in '%s'", text, msg);
}

uint32_t peer_go(struct peer *c, uint32_t option, const char *name, uint64_t *size, uint16_t *flags)
{
    uint8_t b[8192];
    size_t n = strlen(name);

    put_be32(b, (uint32_t)n);
    memcpy(b + 4, name, n);
    put_be16(b + 4 + n, 0);
    peer_option(c, option, b, (uint32_t)(n + 6));
    for (;;) {
        uint8_t info[8192];
        uint32_t type = peer_reply(c, option, info, sizeof(info), NULL);

        if (type != 3)
            return type;
        if (get_be16(info) == 0) {
            if (size)
                *size = get_be64(info + 2);
            if (flags)
                *flags = get_be16(info + 10);
        }
    }
}

uint32_t peer_meta(struct peer *c, uint32_t option, const char *export, const char *const *query,
                   unsigned n, char *out, size_t out_len, uint32_t *ids)
{
    static uint8_t b[65536];
    uint8_t *p = b;

    put_be32(p, (uint32_t)strlen(export));
    memcpy(p + 4, export, strlen(export));
    p += 4 + strlen(export);
    put_be32(p, n);
    p += 4;
    for (unsigned i = 0; i < n; i++) {
        put_be32(p, (uint32_t)strlen(query[i]));
        memcpy(p + 4, query[i], strlen(query[i]));
        p += 4 + strlen(query[i]);
    }
    peer_option(c, option, b, (uint32_t)(p - b));
    *out = '\0';
    for (size_t at = 0;;) {
        char ctx[5000];
        uint32_t len, type = peer_reply(c, option, ctx, sizeof(ctx), &len);

        if (type != 4)
            return type;
        if (ids)
            *ids++ = get_be32(ctx);
        at += (size_t)snprintf(out + at, out_len - at, "%.*s\n", (int)len - 4, ctx + 4);
    }
}

struct peer peer_ready(struct proto *p, bool structured)
{
    struct peer c = peer_connect(p);

    peer_hello(&c, 3);
    if (structured) {
        peer_option(&c, 8, NULL, 0);
        assert_int_equal(peer_reply(&c, 8, NULL, 0, NULL), 1);
    }
    assert_int_equal(peer_go(&c, 7, "disk", NULL, NULL), 1);
    return c;
}

/* --- Transmission. --- */

void peer_request(struct peer *c, uint16_t flags, uint16_t type, uint64_t cookie, uint64_t off,
                  uint32_t len)
{
    uint8_t b[28];

    put_be32(b, 0x25609513);
    put_be16(b + 4, flags);
    put_be16(b + 6, type);
    put_be64(b + 8, cookie);
    put_be64(b + 16, off);
    put_be32(b + 24, len);
    peer_send(c, b, 28);
}

uint32_t peer_simple(struct peer *c, uint64_t cookie)
{
    uint8_t b[16];

    peer_recv(c, b, 16);
    assert_int_equal(get_be32(b), 0x67446698);
    assert_int_equal(get_be64(b + 8), cookie);
    return get_be32(b + 4);
}

void peer_chunk(struct peer *c, struct chunk *out)
{
    uint8_t b[20];

    peer_recv(c, b, 20);
    assert_int_equal(get_be32(b), 0x668e33ef);
    out->flags = get_be16(b + 4);
    out->type = get_be16(b + 6);
    out->cookie = get_be64(b + 8);
    out->len = get_be32(b + 16);
    out->data = chunk_data;
    assert_true(out->len <= sizeof(chunk_data));
    peer_recv(c, chunk_data, out->len);
}

uint32_t peer_chunk_error(struct peer *c, uint64_t cookie)
{
    struct chunk k;

    peer_chunk(c, &k);
    assert_int_equal(k.cookie, cookie);
    assert_int_equal(k.type, 0x8001);
    assert_int_equal(k.flags, 1);
    assert_true(k.len > 6);
    assert_int_equal(get_be16(k.data + 4), k.len - 6);
    return get_be32(k.data);
}
