/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The bitmaps of -B: those that the image stores go on recording; others are made, in the image
 * where it can store them.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/node_bitmap.h"
#include "cli/serve_graph.h"
#include "qcow2/qcow2.h"

/* After a crash the disk must be served again without anybody's help, and no change may be missing
 * from the bitmap: so it goes on with everything dirty. */
static bool renew(const struct bitmap_arg *a, struct bitmap *b, const struct node *owner,
                  struct err **errp)
{
    if (!bitmap_renew(b, errp)) {
        err_prefix(errp,
                   "bitmap '%s' of '%s' is inconsistent: the image was not closed cleanly while it "
                   "was in use. Remove it with 'breakwater image bitmap --remove -f qcow2 %s %s', "
                   "and take a full backup: ",
                   a->name, owner->name, owner->name, a->name);
        return false;
    }
    log_warn("bitmap '%s' of '%s' is inconsistent: the image was not closed cleanly while it was "
             "in use. It goes on with everything dirty: the next backup by it is a full one",
             a->name, owner->name);
    return true;
}

static bool check_found(const struct serve_export *x, const struct bitmap_arg *a, struct bitmap *b,
                        const struct node *owner, struct err **errp)
{
    if (b->inconsistent && !renew(a, b, owner, errp))
        return false;
    if (a->granularity && a->granularity != b->granularity)
        return err_set(errp, EEXIST,
                       "bitmap '%s' of '%s' has granularity %" PRIu32 ", not %" PRIu32, a->name,
                       owner->name, b->granularity, a->granularity);
    if (!b->enabled && !x->read_only)
        log_warn("bitmap '%s' is disabled: what is written is not recorded in it", a->name);
    return true;
}

static bool make(const struct serve_export *x, const struct serve_graph *g,
                 const struct bitmap_arg *a, struct err **errp)
{
    struct qc_info info = {0};

    /* With an offset the export is not the disk that the image's bitmaps are for. */
    if (g->format && !x->read_only && x->offset == 0)
        qc_get_info(g->format, &info);
    if (info.version >= 3) {
        log_info("bitmap '%s' is new, and stored in '%s'", a->name, x->image);
        return node_bitmap_add(g->format, a->name, a->granularity, true, errp);
    }
    if (!x->read_only)
        log_warn("bitmap '%s' is kept in memory only: it ends with the server", a->name);
    return node_bitmap_add(g->top, a->name, a->granularity, false, errp);
}

bool serve_bitmaps_add(const struct serve_export *x, struct serve_graph *g, struct err **errp)
{
    g->bitmaps = mem_array(x->n_bitmaps, sizeof(*g->bitmaps));
    if (!g->bitmaps)
        return err_set(errp, ENOMEM, "out of memory for bitmaps");
    for (unsigned i = 0; i < x->n_bitmaps; i++) {
        const struct bitmap_arg *a = &x->bitmaps[i];
        struct node *owner;
        struct bitmap *b = node_bitmap_search(g->top, a->name, &owner);

        if (!b && x->bitmaps_stored)
            return err_set(errp, ENOENT, "bitmap '%s' is not found in '%s'", a->name, x->image);
        if (!(b ? check_found(x, a, b, owner, errp) : make(x, g, a, errp)))
            return false;
        g->bitmaps[i].name = a->name;
    }
    g->n_bitmaps = x->n_bitmaps;
    return true;
}
