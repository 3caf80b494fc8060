/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A client that speaks raw bytes to a server in the same process, over in-memory pipes and on the
 * simulated clock. Nothing of the server's codec is used to build or judge messages, so that a
 * mistake there cannot cancel itself out.
 */
#ifndef TESTS_PROTO_PROTO_H
#define TESTS_PROTO_PROTO_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "block/node_bitmap.h"
#include "io/reactor.h"
#include "io/lock.h"
#include "io/stream.h"
#include "server/server.h"

#define DISK_SIZE (8 * MiB)

struct proto { /* a server with the export "disk", and what the test may turn */
    struct server *server;
    struct server_opts server_opts;
    struct export_opts export_opts;
    struct export_bitmap published[8];
    struct node *disk; /* mem, under the gate; filled by the test if it wants */
    struct node *gate_node;
    bool gate_closed; /* requests wait */
    struct co_queue gate;
    int fail;             /* errno that requests get, or 0 */
    unsigned n_ops[16];   /* requests that reached the disk, by enum req_op */
    uint32_t last_flags;  /* of the last request */
    uint32_t mask_status; /* extent flags that STATUS leaves out */
    unsigned in_gate, max_in_gate;
};

struct peer { /* one client connection */
    struct stream *s;
};

/* proto_run: a fresh reactor and server; fn runs in a coroutine; then the server is stopped and
 * everything must be gone. tweak (may be NULL) changes options before the server is made. */
void proto_run(void (*fn)(struct proto *p), void (*tweak)(struct proto *p));
#define PROTO_TEST_WITH(name, tweak)                                                               \
    static void name##_body(struct proto *p);                                                      \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        proto_run(name##_body, tweak);                                                             \
    }                                                                                              \
    static void name##_body(struct proto *p)
#define PROTO_TEST(name) PROTO_TEST_WITH(name, NULL)

/* proto_publish: for tweaks: give the disk a bitmap and let the export publish it. */
void proto_publish(struct proto *p, const char *name, uint32_t granularity);

void gate_open(struct proto *p);
/* proto_settle: let everything that can go on do so (a millisecond passes). */
void proto_settle(void);

struct peer peer_connect(struct proto *p);
void peer_close(struct peer *c);
void peer_send(struct peer *c, const void *buf, size_t len);
/* peer_recv: exactly len bytes; fails the test at an end or after 1000 s. */
void peer_recv(struct peer *c, void *buf, size_t len);
/* peer_expect_end: the server closes, with nothing sent before. */
void peer_expect_end(struct peer *c);
/* peer_ended: wait for the end, dropping what comes before; false after 1000 s. */
bool peer_ended(struct peer *c);

/* Handshake. */
void peer_hello(struct peer *c, uint32_t client_flags);
void peer_option(struct peer *c, uint32_t option, const void *data, uint32_t len);
/* peer_reply: one reply to option; its type; data (at most max bytes) and length if wanted. */
uint32_t peer_reply(struct peer *c, uint32_t option, void *data, size_t max, uint32_t *len);
/* peer_expect_error: one reply, of this type, whose text holds `text`. */
void peer_expect_error(struct peer *c, uint32_t option, uint32_t type, const char *text);
/* peer_go: NBD_OPT_GO (or INFO) without information requests. The type of the final reply; the
 * last information of type EXPORT goes to *size and *flags. */
uint32_t peer_go(struct peer *c, uint32_t option, const char *name, uint64_t *size,
                 uint16_t *flags);
/* peer_meta: LIST (9) or SET (10) with n queries; names of the contexts are joined by '\n' in out,
 * their ids go to ids. The type of the final reply. */
uint32_t peer_meta(struct peer *c, uint32_t option, const char *export, const char *const *query,
                   unsigned n, char *out, size_t out_len, uint32_t *ids);
/* peer_ready: connect and go to transmission on "disk". */
struct peer peer_ready(struct proto *p, bool structured);

/* Transmission. */
void peer_request(struct peer *c, uint16_t flags, uint16_t type, uint64_t cookie, uint64_t off,
                  uint32_t len);
/* peer_simple: a simple reply for cookie: its error. */
uint32_t peer_simple(struct peer *c, uint64_t cookie);
struct chunk {
    uint16_t flags, type;
    uint64_t cookie;
    uint32_t len;
    uint8_t *data; /* belongs to the test library; valid until the next chunk */
};
void peer_chunk(struct peer *c, struct chunk *out);
/* peer_chunk_error: the next chunk is a final error for cookie with a text; its number. */
uint32_t peer_chunk_error(struct peer *c, uint64_t cookie);

#endif
