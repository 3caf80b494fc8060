/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: TLS.
 */
#include <errno.h>

#include "cli/serve_opts_priv.h"

enum take serve_take_tls(int opt, const char *arg, struct serve_opts *o, struct err **errp)
{
    struct serve_tls *t = &o->tls;

    switch (opt) {
    case OPT_TLS:
        return take_if(serve_tls_mode(t, arg, errp));
    case OPT_TLS_CERTIFICATES:
        t->certificates = arg;
        return TAKE_OK;
    case OPT_TLS_PSK:
        t->psk = arg;
        return TAKE_OK;
    case OPT_TLS_VERIFY_PEER:
        t->verify_peer = true;
        return TAKE_OK;
    case OPT_OBJECT:
        return take_if(serve_tls_object(t, arg, errp));
    case OPT_TLS_CREDS:
        t->creds_id = arg;
        return TAKE_OK;
    case OPT_TLS_HOSTNAME:
        return take_if(err_set(errp, EINVAL,
                               "--tls-hostname is for clients, which check the name of a server"));
    }
    return TAKE_OTHER;
}
