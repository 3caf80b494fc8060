/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The raw-byte client within TLS, and servers for it.
 */
#ifndef TESTS_PROTO_PROTO_TLS_H
#define TESTS_PROTO_PROTO_TLS_H

#include "tests/proto/proto.h"

#include "io/io.h"
#include "io/tls.h"
#include "server/authz.h"
#include "tests/lib/tls_client.h"
#include "tests/lib/tls_files.h"

/* with_tls: a server of the first authority, or with its keys. tls_on, tls_required: tweaks that
 * do the same with certificates and without verification. tls_drop: at the end of each test. */
void with_tls(struct proto *p, enum server_tls mode, bool psk, bool verify);
void tls_on(struct proto *p);
void tls_required(struct proto *p);
int tls_drop(void **state);
extern struct authz *tls_authz; /* tls_drop lets go of it */
#define TLS_ROW(name) cmocka_unit_test_teardown(name, tls_drop)

struct tls_peer_client {
    struct peer plain, tls;
};
/* hello: connect and greet. starttls: up to the answer. go_over: the same and TLS, which must work;
 * co: NULL: anonymous. */
struct peer hello(struct proto *p);
void starttls(struct peer *c);
struct tls_peer_client go_over(struct peer plain, const struct tls_client_opts *co);
void tls_close(struct tls_peer_client *c);
/* must_serve: GO to "disk", and a flush. */
void must_serve(struct peer *c);

#endif
