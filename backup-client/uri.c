/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Splits an NBD URI (doc/uri.md of the NBD project) just far enough to find the export's name and
 * to leave out the credentials.
 */
#include "backup-client/uri.h"

#include <errno.h>
#include <string.h>

#include "digest/digest.h"
#include "backup-client/manifest.h"
#include "base/cleanup.h"
#include "base/mem.h"

static bool percent_decode(const char *from, size_t len, char *to)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)from[i];
        if (from[i] == '%') {
            char two[3] = {0};
            if (len - i < 3)
                return false;
            memcpy(two, from + i + 1, 2);
            if (!hex_decode(two, &byte, 1) || byte == 0)
                return false;
            i += 2;
        }
        *to++ = (char)byte;
    }
    *to = '\0';
    return true;
}

bool nbd_uri_parse(const char *text, struct nbd_uri *out, struct err **errp)
{
    memset(out, 0, sizeof(*out));
    const char *colon = strstr(text, "://");
    if (!colon || strncmp(text, "nbd", 3) != 0)
        return err_set(errp, EINVAL,
                       "'%s' is not an NBD URI (nbd://HOST/EXPORT or "
                       "nbd+unix:///EXPORT?socket=PATH)",
                       text);

    const char *authority = colon + 3;
    const char *path = authority + strcspn(authority, "/?#");
    const char *at = memchr(authority, '@', (size_t)(path - authority));
    const char *host = at ? at + 1 : authority;
    const char *name = *path == '/' ? path + 1 : path;
    size_t name_len = strcspn(name, "?#");

    if (name_len > 3 * NBD_NAME_MAX)
        return err_set(errp, EINVAL, "the URI's export name is longer than %d bytes", NBD_NAME_MAX);
    AUTO_FREE char *decoded = mem_alloc(name_len + 1);
    AUTO_FREE char *shown = mem_printf("%.*s%s", (int)(authority - text), text, host);
    if (!decoded || !shown)
        return err_set(errp, ENOMEM, "out of memory");
    if (!percent_decode(name, name_len, decoded))
        return err_set(errp, EINVAL, "'%s': bad %%-escape in the export name", text);
    if (strlen(decoded) > NBD_NAME_MAX)
        return err_set(errp, EINVAL, "the URI's export name is longer than %d bytes", NBD_NAME_MAX);
    /* A manifest is to hold both: learn now, not after the copying, that it cannot. */
    if (!text_is_utf8(decoded))
        return err_set(errp, EINVAL, "'%s': the export name is not UTF-8", text);
    if (!text_is_utf8(text))
        return err_set(errp, EINVAL, "the URI is not UTF-8; write such bytes as %%-escapes");
    if (strlen(shown) > NBD_URI_MAX)
        return err_set(errp, EINVAL, "the URI is longer than %d bytes", NBD_URI_MAX);
    out->export_name = steal(decoded);
    out->shown = steal(shown);
    return true;
}

void nbd_uri_free(struct nbd_uri *u)
{
    mem_free(u->export_name);
    mem_free(u->shown);
    memset(u, 0, sizeof(*u));
}
