/* SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD URIs as text.
 */
#include "cli/uri_text.h"

#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"

#define NBD_PORT 10809

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~/@", c));
}

static char *encode(const char *s)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = mem_alloc(3 * strlen(s) + 1);
    char *p = out;

    if (!out)
        return NULL;
    for (; *s; s++) {
        if (unreserved(*s)) {
            *p++ = *s;
        } else {
            *p++ = '%';
            *p++ = hex[(unsigned char)*s >> 4];
            *p++ = hex[*s & 15];
        }
    }
    *p = '\0';
    return out;
}

char *uri_unix(bool tls, const char *socket_path, const char *export_name)
{
    bool abstract = socket_path[0] == '@';
    AUTO_FREE char *path = encode(socket_path + abstract);
    AUTO_FREE char *name = encode(export_name);

    if (!path || !name)
        return NULL;
    return mem_printf("nbd%s+unix:///%s?socket=%s%s", tls ? "s" : "", name, abstract ? "%00" : "",
                      path);
}

char *uri_vsock(bool tls, uint32_t cid, uint32_t port, const char *export_name)
{
    AUTO_FREE char *name = encode(export_name);

    return name ? mem_printf("nbd%s+vsock://%u:%u/%s", tls ? "s" : "", cid, port, name) : NULL;
}

char *uri_tcp(bool tls, const char *host, uint16_t port, const char *export_name)
{
    AUTO_FREE char *name = encode(export_name);
    AUTO_FREE char *port_text = port == NBD_PORT ? mem_strdup("") : mem_printf(":%u", port);
    const char *h = host && strcmp(host, "*") != 0 ? host : "localhost";
    bool brackets = strchr(h, ':') != NULL;

    if (!name || !port_text)
        return NULL;
    return mem_printf("nbd%s://%s%s%s%s/%s", tls ? "s" : "", brackets ? "[" : "", h,
                      brackets ? "]" : "", port_text, name);
}
