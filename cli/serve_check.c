/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checks before anything is served: see serve_check.h.
 */
#include "cli/serve_check.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/cli.h"

bool serve_has_views(const struct serve_opts *o)
{
    bool views = false;

    for (unsigned i = 0; i < o->n_exports; i++)
        views |= o->exports[i]->checkpoints;
    return views;
}

bool serve_check_scratch(const struct serve_opts *o, bool has_views, struct err **errp)
{
    const char *dir = o->server.scratch_dir;
    AUTO_FREE char *inside = dir ? mem_printf("%s/.", dir) : NULL;

    if (!has_views || !dir)
        return true;
    if (!inside)
        return err_set(errp, ENOMEM, "out of memory");
    return access(inside, W_OK | X_OK) == 0 ||
           err_set_errno(errp, errno, "--scratch-dir '%s'", dir);
}

static bool check_creds(const struct serve_tls *t, struct err **errp)
{
    struct tls_creds *creds;

    if (t->mode == SERVER_TLS_OFF)
        return true;
    creds = tls_creds_load(&t->creds, errp);
    tls_creds_unref(creds);
    return creds;
}

static bool check_image(const struct serve_export *x, struct err **errp)
{
    int wanted = x->read_only || x->temporary ? R_OK : R_OK | W_OK;

    return access(x->image, wanted) == 0 ||
           err_set_errno(errp, errno, "%s%s'%s'", x->where ? x->where : "", x->where ? ": " : "",
                         x->image);
}

int serve_check(const struct serve_opts *o)
{
    struct err *e = NULL;
    bool ok = serve_check_scratch(o, serve_has_views(o), &e) && check_creds(&o->tls, &e);

    for (unsigned i = 0; ok && i < o->n_exports; i++)
        ok = check_image(o->exports[i], &e);
    if (!ok)
        return cli_fail(CLI_FAILED, e);
    for (unsigned i = 0; i < o->n_exports; i++)
        printf("export '%s': %s\n", o->exports[i]->name, o->exports[i]->image);
    return CLI_OK;
}
