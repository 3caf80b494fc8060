/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One TLS connection in a test, over in-memory pipes and on the simulated clock.
 */
#ifndef TESTS_UNIT_IO_TLS_SESSION_H
#define TESTS_UNIT_IO_TLS_SESSION_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "io/io.h"
#include "io/lock.h"
#include "io/reactor.h"
#include "io/stream.h"
#include "io/tls.h"
#include "tests/lib/tls_client.h"
#include "tests/lib/tls_files.h"

#define SECOND_LATER (clock_ns() + NS_PER_S)

struct session {
    struct tls_creds *creds;
    struct stream *below[2]; /* [0] the server's, once taken over NULL */
    struct stream *server, *client;
    size_t pipe_size;
    struct tls_client_opts co;
    struct co_group group;
    struct err *error; /* of the server's handshake */
    bool accepted;
    const char *client_error;
};

/* session_creds: from a folder, its keys or its certificates. */
struct tls_creds *session_creds(const char *folder, bool psk, bool verify);
/* session_begin: both sides shake hands; the verdicts are in s. session_accept: the server's part
 * of it, a coroutine of s->group. session_end: s can then begin again. */
void session_begin(struct session *s);
void session_accept(void *arg);
void session_end(struct session *s);
/* session_must_work: both shook hands, and data goes both ways. */
void session_must_work(struct session *s);

/* session_run: fn in a coroutine of a fresh reactor. */
void session_run(void (*fn)(void *));
#define TLS_TEST(name)                                                                             \
    static void name##_body(void *arg);                                                            \
    static void name(void **state)                                                                 \
    {                                                                                              \
        session_run(name##_body);                                                                  \
    }                                                                                              \
    static void name##_body(void *arg)

#endif
