/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: the export that an image becomes; and whether all that was said of the exports
 * fits together.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"

enum take serve_take_export(int opt, const char *arg, struct serve_export *x, struct err **errp)
{
    switch (opt) {
    case OPT_FILE:
        x->image = arg;
        return TAKE_OK;
    case 'x':
        x->name = arg;
        return TAKE_OK;
    case 'D':
        x->description = arg;
        return TAKE_OK;
    case 'e':
        return take_if(serve_parse_uint(arg, "--shared", 0, 100000, &x->max_connections, errp));
    case OPT_TLS_ONLY:
        x->tls_only = true;
        return TAKE_OK;
    case OPT_TLS_ALLOW:
        return take_if(serve_authz_allow(&x->authz, arg, errp));
    case OPT_TLS_AUTHZ:
        x->authz.object_id = arg;
        return TAKE_OK;
    }
    return TAKE_OTHER;
}

bool serve_take_for_export(int opt, const char *arg, struct serve_export *x, struct err **errp)
{
    static enum take (*const groups[])(int, const char *, struct serve_export *, struct err **) = {
        serve_take_export,
        serve_take_image,
        serve_take_faults,
        serve_take_changes,
    };
    const char *copy;
    enum take t = TAKE_OTHER;

    if (!said_add(&x->said, opt, arg, &copy, errp))
        return false;
    for (size_t i = 0; t == TAKE_OTHER && i < ARRAY_LEN(groups); i++)
        t = groups[i](opt, copy, x, errp);
    if (t == TAKE_OTHER) /* a fault in the table */
        return err_set(errp, EINVAL, "option %d has no meaning", opt);
    return t == TAKE_OK;
}

/* --- Settling --- */

static bool check_image(const struct serve_export *x, struct err **errp)
{
    if (x->detect_zeroes == DETECT_ZEROES_UNMAP && x->ignore_discard)
        return err_set(errp, EINVAL, "--detect-zeroes=unmap needs --discard=unmap");
    if (x->has_snapshot && x->format != FORMAT_QCOW2)
        return err_set(errp, EINVAL, "-l: a raw image has no snapshots");
    if (x->has_snapshot && x->n_bitmaps)
        return err_set(errp, EINVAL, "-l and -B exclude each other: nothing changes in a snapshot");
    if (x->temporary && x->n_bitmaps)
        return err_set(errp, EINVAL,
                       "-s and -B exclude each other: bitmaps tell of changes that stay");
    if (x->temporary && (x->read_only && !x->has_snapshot))
        return err_set(errp, EINVAL,
                       "-s and -r exclude each other: there is nothing to throw away");
    return true;
}

/* One export is the default one, with the empty name. Of several, each is known by its section in a
 * file, or as its image is called: none of them is meant by a client that names none. */
static void settle_name(struct serve_export *x, const struct serve_opts *o)
{
    const char *slash = strrchr(x->image, '/');

    if (x->name)
        return;
    if (x->id)
        x->name = x->id;
    else if (o->n_exports == 1 && !o->config)
        x->name = "";
    else
        x->name = slash ? slash + 1 : x->image;
}

static bool settle_export(struct serve_export *x, const struct serve_opts *o, struct err **errp)
{
    if (!x->image)
        return err_set(errp, EINVAL, "the image is missing: there is no 'file = PATH'");
    if (!serve_settle_image_opts(x, errp) || !serve_settle_image(x, errp) ||
        !format_settle(x->image, "-f", &x->format, errp) || !check_image(x, errp))
        return false;
    if (x->temporary)
        x->read_only = false; /* as -l would have it */
    settle_name(x, o);
    if (x->with_checkpoints && x->without_checkpoints)
        return err_set(errp, EINVAL, "--checkpoints and --no-checkpoints exclude each other");
    x->checkpoints = x->with_checkpoints || (x->n_bitmaps > 0 && !x->without_checkpoints);
    if (strlen(x->name) > 4096 || (x->description && strlen(x->description) > 4096))
        return err_set(errp, EINVAL, "--export-name and --description have at most 4096 bytes");
    if (x->tls_only && o->tls.mode == SERVER_TLS_OFF)
        return err_set(errp, EINVAL, "--tls-only needs TLS credentials");
    x->faults_may_come = o->control;
    return serve_check_faults(x, errp) && serve_authz_settle(&x->authz, &o->tls, errp);
}

static const char *export_place(const struct serve_export *x)
{
    return x->where ? x->where : x->image;
}

static bool same_file(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* What two exports cannot share. Images are not compared: their locks know better. */
static bool check_pair(const struct serve_export *a, const struct serve_export *b,
                       struct err **errp)
{
    if (strcmp(a->name, b->name) == 0)
        return err_set(errp, EEXIST, "there are two exports '%s', of '%s' and of '%s'", a->name,
                       a->image, b->image);
    if (same_file(a->fault_trace, b->fault_trace))
        return err_set(errp, EEXIST, "--fault-trace: two exports cannot both write '%s'",
                       a->fault_trace);
    return true;
}

bool serve_settle_exports(struct serve_opts *o, struct err **errp)
{
    for (unsigned i = 0; i < o->n_exports; i++) {
        struct serve_export *x = o->exports[i];

        if (!settle_export(x, o, errp))
            return o->n_exports == 1 && !x->where
                       ? false
                       : err_prefix(errp, "%s: ", export_place(x) ? export_place(x) : "");
        for (unsigned k = 0; k < i; k++) {
            if (!check_pair(o->exports[k], x, errp))
                return err_prefix(errp, "%s: ", export_place(x));
        }
    }
    return true;
}

/* --- Life --- */

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
    mem_free(x->id);
    mem_free(x->where);
    said_free(&x->said);
    mem_free(x);
}

struct serve_export *serve_export_add(struct serve_opts *o, const struct said *said,
                                      struct err **errp)
{
    struct serve_export **list, *x;

    if (o->n_exports == SERVE_EXPORTS_MAX) {
        err_set(errp, E2BIG, "at most %d exports are possible", SERVE_EXPORTS_MAX);
        return NULL;
    }
    list = mem_realloc(o->exports, (o->n_exports + 1) * sizeof(struct serve_export *));
    if (list)
        o->exports = list;
    x = list ? mem_new(struct serve_export) : NULL;
    if (!x) {
        err_set(errp, ENOMEM, "out of memory for an export");
        return NULL;
    }
    o->exports[o->n_exports++] = x;
    for (unsigned i = 0; said && i < said->n; i++) {
        if (!serve_take_for_export(said->v[i].code, said->v[i].arg, x, errp))
            return NULL;
    }
    return x;
}

void serve_opts_free(struct serve_opts *o)
{
    for (unsigned i = 0; i < o->n_exports; i++)
        serve_export_free(o->exports[i]);
    mem_free(o->exports);
    activation_free(&o->listen.activation);
    serve_tls_free(&o->tls);
    said_free(&o->said);
}
