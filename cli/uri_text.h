/* SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD URIs as text. Source: doc/uri.md of the NBD project.
 */
#ifndef CLI_URI_TEXT_H
#define CLI_URI_TEXT_H

#include <stdint.h>

/* uri_unix, uri_tcp: a new string (mem_free), or NULL without memory. host: NULL means localhost;
 * an IPv6 address is put in brackets. The port is left out when it is NBD's own. */
char *uri_unix(const char *socket_path, const char *export_name);
char *uri_tcp(const char *host, uint16_t port, const char *export_name);

#endif
