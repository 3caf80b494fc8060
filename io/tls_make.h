/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Certificates and keys for trying TLS: an authority, a server, a client, and a file of pre-shared
 * keys, under the names that QEMU, libnbd and nbdkit look for.
 */
#ifndef IO_TLS_MAKE_H
#define IO_TLS_MAKE_H

#include <stdbool.h>

#include "base/err.h"

struct tls_make_opts {
    const char *const *hosts; /* names or IP addresses of the server */
    unsigned n_hosts;
    const char *const *users; /* each gets a pre-shared key of its own */
    unsigned n_users;
    const char *client; /* common name in the client's certificate */
    unsigned days;      /* how long the certificates are valid */
};

/* tls_make: writes ca-cert.pem, ca-key.pem, server-cert.pem, server-key.pem, client-cert.pem,
 * client-key.pem and keys.psk into dir, which it makes if need be; what is secret with mode 0600.
 * If any of them is there already, EEXIST and nothing is written. Does not yield. */
bool tls_make(const char *dir, const struct tls_make_opts *o, struct err **errp);

#endif
