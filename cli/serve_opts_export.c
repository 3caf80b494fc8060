/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: the export that an image becomes; and whether all that was said of one export
 * fits together.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"

enum take serve_take_export(int opt, const char *arg, struct serve_export *x, struct err **errp)
{
    switch (opt) {
    case 'x':
        x->name = arg;
        return TAKE_OK;
    case 'D':
        x->description = arg;
        return TAKE_OK;
    case 'e':
        return take_if(serve_parse_uint(arg, "--shared", 0, 100000, &x->max_connections, errp));
    case OPT_TLS_ALLOW:
        return take_if(serve_authz_allow(&x->authz, arg, errp));
    case OPT_TLS_AUTHZ:
        x->authz.object_id = arg;
        return TAKE_OK;
    }
    return TAKE_OTHER;
}

static bool check_image(const struct serve_export *x, struct err **errp)
{
    if (x->detect_zeroes == DETECT_ZEROES_UNMAP && x->ignore_discard)
        return err_set(errp, EINVAL, "--detect-zeroes=unmap needs --discard=unmap");
    if (x->has_snapshot && x->format != FORMAT_QCOW2)
        return err_set(errp, EINVAL, "-l: a raw image has no snapshots");
    if (x->has_snapshot && x->n_bitmaps)
        return err_set(errp, EINVAL, "-l and -B exclude each other: nothing changes in a snapshot");
    return true;
}

bool serve_settle_export(struct serve_export *x, const struct serve_opts *o, struct err **errp)
{
    if (!serve_settle_image(x, errp) || !format_settle(x->image, "-f", &x->format, errp) ||
        !check_image(x, errp))
        return false;
    if (x->with_checkpoints && x->without_checkpoints)
        return err_set(errp, EINVAL, "--checkpoints and --no-checkpoints exclude each other");
    x->checkpoints = x->with_checkpoints || (x->n_bitmaps > 0 && !x->without_checkpoints);
    if (strlen(x->name) > 4096 || (x->description && strlen(x->description) > 4096))
        return err_set(errp, EINVAL, "--export-name and --description have at most 4096 bytes");
    x->faults_may_come = o->control;
    return serve_check_faults(x, errp) && serve_authz_settle(&x->authz, &o->tls, errp);
}

struct serve_export *serve_export_new(struct err **errp)
{
    struct serve_export *x = mem_new(struct serve_export);

    if (x)
        x->name = "";
    else
        err_set(errp, ENOMEM, "out of memory for an export");
    return x;
}

void serve_export_free(struct serve_export *x)
{
    if (!x)
        return;
    for (unsigned i = 0; i < x->n_bitmaps; i++)
        mem_free(x->bitmaps[i].name);
    mem_free(x->bitmaps);
    serve_authz_free(&x->authz);
    mem_free(x->fault);
    mem_free(x->snapshot_text);
    mem_free(x->image_text);
    mem_free(x->blkdebug_config);
    if (x->blkdebug)
        blkdebug_args_free(x->blkdebug);
    mem_free(x->blkdebug);
    mem_free(x);
}
