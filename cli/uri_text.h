/* SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD URIs as text. Source: doc/uri.md of the NBD project.
 */
#ifndef CLI_URI_TEXT_H
#define CLI_URI_TEXT_H

#include <stdbool.h>
#include <stdint.h>

/* uri_unix, uri_tcp, uri_vsock: a new string (mem_free), or NULL without memory. tls: the client
 * must use it. socket_path: "@name" is in the abstract namespace. host: NULL means localhost; an
 * IPv6 address is put in brackets. The port is left out when it is NBD's own. */
char *uri_unix(bool tls, const char *socket_path, const char *export_name);
char *uri_vsock(bool tls, uint32_t cid, uint32_t port, const char *export_name);
char *uri_tcp(bool tls, const char *host, uint16_t port, const char *export_name);

#endif
