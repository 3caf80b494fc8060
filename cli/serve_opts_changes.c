/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: bitmaps, checkpoints and what frozen views keep.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/parse.h"
#include "bitmap/bitmap.h"
#include "cli/serve_opts_priv.h"

#define MAX_BITMAPS 64
#define LONGEST_MS (UINT64_C(100) * 365 * 24 * 3600 * 1000)

bool serve_add_bitmap(struct serve_export *x, const char *name, uint32_t granularity,
                      struct err **errp)
{
    if (x->n_bitmaps == MAX_BITMAPS)
        return err_set(errp, E2BIG, "--bitmap: at most %d are possible", MAX_BITMAPS);
    if (!*name || strlen(name) > BITMAP_NAME_MAX)
        return err_set(errp, EINVAL, "--bitmap: a name of 1 to %d bytes must come first",
                       BITMAP_NAME_MAX);
    for (unsigned i = 0; i < x->n_bitmaps; i++) {
        if (strcmp(x->bitmaps[i].name, name) == 0)
            return err_set(errp, EEXIST, "--bitmap: '%s' is given twice", name);
    }
    if (!x->bitmaps)
        x->bitmaps = mem_array(MAX_BITMAPS, sizeof(*x->bitmaps));
    char *copy = x->bitmaps ? mem_strdup(name) : NULL;
    if (!copy)
        return err_set(errp, ENOMEM, "out of memory for bitmaps");
    x->bitmaps[x->n_bitmaps].name = copy;
    x->bitmaps[x->n_bitmaps++].granularity = granularity;
    return true;
}

static bool parse_granularity(const struct kv_list *l, uint64_t *granularity, struct err **errp)
{
    for (size_t i = 1; i < l->n; i++) {
        if (strcmp(l->v[i].key, "granularity") != 0)
            return err_set(errp, EINVAL, "--bitmap: '%s' is not known; there is granularity=N",
                           *l->v[i].key ? l->v[i].key : l->v[i].value);
        if (!parse_size(l->v[i].value, "--bitmap granularity", granularity, errp))
            return false;
        if (!bitmap_check_granularity(*granularity, errp))
            return err_prefix(errp, "--bitmap granularity=%s: ", l->v[i].value);
    }
    return true;
}

static bool take_bitmap(struct serve_export *x, const char *text, struct err **errp)
{
    struct kv_list l;
    uint64_t granularity = 0;

    if (!kv_parse(text, "--bitmap", &l, errp))
        return false;
    const char *name = l.n > 0 && !*l.v[0].key ? l.v[0].value : "";
    bool ok = parse_granularity(&l, &granularity, errp) &&
              serve_add_bitmap(x, name, (uint32_t)granularity, errp);
    kv_free(&l);
    return ok;
}

static bool take_scratch_limit(const char *arg, struct server_opts *s, struct err **errp)
{
    if (!parse_size(arg, "--scratch-limit", &s->scratch_limit, errp))
        return false;
    return s->scratch_limit >= MiB ||
           err_set(errp, EINVAL, "--scratch-limit: '%s' is below 1M", arg);
}

static bool take_view_grace(const char *arg, struct server_opts *s, struct err **errp)
{
    if (!parse_duration_ms(arg, "--view-grace", &s->view_grace_ms, errp))
        return false;
    /* 0 would be the server's default; a millisecond is as good as none. */
    s->view_grace_ms = max_u64(1, min_u64(s->view_grace_ms, LONGEST_MS));
    return true;
}

enum take serve_take_changes(int opt, const char *arg, struct serve_export *x, struct err **errp)
{
    switch (opt) {
    case 'B':
        return take_if(take_bitmap(x, arg, errp));
    case OPT_CHECKPOINTS:
        x->with_checkpoints = true;
        return TAKE_OK;
    case OPT_NO_CHECKPOINTS:
        x->without_checkpoints = true;
        return TAKE_OK;
    }
    return TAKE_OTHER;
}

enum take serve_take_views(int opt, const char *arg, struct serve_opts *o, struct err **errp)
{
    struct server_opts *s = &o->server;

    switch (opt) {
    case OPT_SCRATCH_DIR:
        s->scratch_dir = arg;
        return TAKE_OK;
    case OPT_SCRATCH_LIMIT:
        return take_if(take_scratch_limit(arg, s, errp));
    case OPT_MAX_CHECKPOINTS:
        return take_if(
            serve_parse_uint(arg, "--max-checkpoints", 2, 65536, &s->max_checkpoints, errp));
    case OPT_VIEW_GRACE:
        return take_if(take_view_grace(arg, s, errp));
    }
    return TAKE_OTHER;
}
