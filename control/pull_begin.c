/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How backup sessions begin: what each disk gets, then one moment for all of them, then exports.
 *
 * All that takes time or writes to images is done before the moment: the new bitmaps are in the
 * images already (in use, so that a crash makes them inconsistent) and only cleared in it.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "block/node_bitmap.h"
#include "control/action.h"
#include "control/blockdev.h"
#include "control/export_priv.h"
#include "control/pull_priv.h"
#include "filters/snapshot.h"
#include "server/server.h"

#define UNIT_MIN (64 * KiB)
#define UNIT_MAX (16 * MiB)
#define LEASE_S 600
#define DISKS_MAX 256
#define STEM "backup"

bool pull_is_of_stem(const struct bitmap *b, const char *stem)
{
    size_t n = strlen(stem);
    struct uuid u;

    return b->name && strncmp(b->name, stem, n) == 0 && b->name[n] == '@' &&
           uuid_parse(b->name + n + 1, &u);
}

/* --- What a disk gets --- */

static const char *why_not(const struct pull_disk *d, struct bitmap *old, struct node *n)
{
    if (old)
        return old->inconsistent ? "inconsistent" : !bitmap_recording(old) ? "not-recording" : NULL;
    for (const struct bitmap *b = node_bitmap_first(n); b; b = b->next) {
        if (pull_is_of_stem(b, d->stem))
            return "unknown-base";
    }
    return "absent";
}

static bool refuse_base(const struct bitmap *old, const char *name, struct err **errp)
{
    if (!old)
        return err_set(errp, ENOENT, "Bitmap '%s' could not be found", name);
    if (old->inconsistent)
        return err_set(errp, EINVAL, "Bitmap '%s' is inconsistent and cannot be used", name);
    return err_set(errp, EINVAL, "Bitmap '%s' has not recorded: it is disabled", name);
}

/* Decide between full and less. */
static bool grant(struct pull_disk *d, struct err **errp)
{
    AUTO_FREE char *name = d->base[0] ? mem_printf("%s@%s", d->stem, d->base) : NULL;
    struct node *n = d->node->node;
    const char *why;

    if (d->level == PULL_FULL || d->level == PULL_COPY)
        return true;
    if (!d->base[0] && d->level != PULL_AUTO)
        return err_set(errp, EINVAL, "must provide the base of node '%s' for level '%s'",
                       d->node->name, pull_level_name(d->level));
    if (!d->base[0]) {
        d->level = PULL_FULL;
        d->reason = "no-base";
        return true;
    }
    if (!name)
        return err_set(errp, ENOMEM, "out of memory for a backup");
    d->old = node_bitmap_find(n, name);
    why = why_not(d, d->old, n);
    if (!why) {
        if (d->level == PULL_AUTO)
            d->level = PULL_INCREMENTAL;
        return d->level == PULL_DIFFERENTIAL ? bitmap_check_idle(d->old, errp)
                                             : bitmap_check_writable(d->old, errp);
    }
    if (d->level != PULL_AUTO)
        return refuse_base(d->old, name, errp);
    d->old = NULL;
    d->level = PULL_FULL;
    d->reason = why;
    return true;
}

static bool parse_base(struct pull_disk *d, const char *text, struct err **errp)
{
    struct uuid u;

    if (!text)
        return true;
    if (!uuid_parse(text, &u))
        return err_set(errp, EINVAL, "Invalid base '%s': a UUID in lower case is expected", text);
    strcpy(d->base, text);
    return true;
}

static bool parse_sizes(struct pull_disk *d, const json_t *args, uint64_t scratch_limit,
                        struct err **errp)
{
    int64_t align = arg_int(args, "align", UNIT_MIN);
    int64_t limit = arg_int(args, "scratch-limit", (int64_t)scratch_limit);
    int64_t granularity = arg_int(args, "granularity", 0);

    if (align < 512 || !is_power_of_2((uint64_t)align) || align > (int64_t)UNIT_MAX)
        return err_set(errp, EINVAL, "'align' must be a power of 2 from 512 to %" PRIu64, UNIT_MAX);
    if (limit < (int64_t)MiB)
        return err_set(errp, EINVAL, "'scratch-limit' must be at least 1 MiB");
    if (arg_has(args, "granularity") && !bitmap_check_granularity((uint64_t)granularity, errp))
        return false;
    d->align = max_u64((uint64_t)align, UNIT_MIN);
    d->scratch_limit = (uint64_t)limit;
    d->granularity = (uint32_t)granularity;
    return true;
}

static enum pull_level level_of(const char *name)
{
    enum pull_level level = PULL_AUTO;

    while (name && strcmp(name, pull_level_name(level)) != 0)
        level++;
    return level;
}

/* A bitmap's name is its stem, an '@' and a UUID. */
static bool check_stem(const char *stem, struct err **errp)
{
    size_t len = strlen(stem);

    if (len > 0 && len + 1 + UUID_TEXT_LEN <= BITMAP_NAME_MAX)
        return true;
    return err_set(errp, EINVAL, "'bitmap' must have 1 to %d bytes",
                   BITMAP_NAME_MAX - 1 - UUID_TEXT_LEN);
}

/* As the old bitmap was, else with the image if it can. */
static bool choose_storing(struct pull_disk *d, const json_t *args)
{
    const struct node *n = d->node->node;
    bool otherwise = d->old ? d->old->persistent : n->drv->bitmap_ops && !n->read_only;

    d->may_store = arg_bool(args, "persistent", otherwise);
    return true;
}

static bool prepare_disk(struct pull *p, size_t i, const json_t *args, struct err **errp)
{
    struct pull_disk *d = &p->disk[i];
    const char *stem = arg_str(args, "bitmap");

    d->pull = p;
    d->scratch_fd = -1;
    d->node = blockdev_find(p->ctl, arg_str(args, "node"), true, errp);
    if (!d->node)
        return false;
    for (size_t k = 0; k < i; k++) {
        if (p->disk[k].node == d->node)
            return err_set(errp, EINVAL, "Node '%s' is named twice", d->node->name);
    }
    if (stem) {
        d->stem_text = mem_strdup(stem);
        if (!d->stem_text)
            return err_set(errp, ENOMEM, "out of memory for a backup");
    }
    d->stem = stem ? d->stem_text : STEM;
    d->level = level_of(arg_str(args, "level"));
    d->restricted = arg_bool(args, "restrict", false);
    d->discard = arg_bool(args, "discard", false);
    d->size = d->node->node->size;
    return check_stem(d->stem, errp) && parse_base(d, arg_str(args, "base"), errp) &&
           parse_sizes(d, args, server_scratch_limit(p->ctl->nbd->server), errp) &&
           grant(d, errp) && choose_storing(d, args);
}

/* The bitmap of the backup after this one. It records from now on, and is cleared at the moment. */
static bool add_next(struct pull_disk *d, struct err **errp)
{
    AUTO_FREE char *name = NULL;
    uint32_t granularity = d->old ? d->old->granularity : d->granularity;
    struct uuid u;

    uuid_new(&u);
    uuid_format(&u, d->uuid);
    if (d->level == PULL_DIFFERENTIAL || d->level == PULL_COPY)
        return true;
    name = mem_printf("%s@%s", d->stem, d->uuid);
    if (!name)
        return err_set(errp, ENOMEM, "out of memory for a bitmap");
    d->next = node_bitmap_add(d->node->node, name, granularity, d->may_store, errp);
    return d->next;
}

/* --- The moment --- */

static void on_broken(void *arg)
{
    struct pull_disk *d = arg;

    event_emit(d->pull->ctl, "BACKUP_VIEW_LOST",
               json_pack("{s:s,s:s}", "id", d->pull->id, "node", d->node->name));
}

static void on_filling(void *arg)
{
    struct pull_disk *d = arg;

    event_emit(d->pull->ctl, "BACKUP_SCRATCH_LOW",
               json_pack("{s:s,s:s,s:I,s:I}", "id", d->pull->id, "node", d->node->name, "used",
                         (json_int_t)pull_scratch(d), "limit", (json_int_t)d->scratch_limit));
}

/* What is clean will not be read; of what is dirty the client reads whole units. */
static bool restrict_view(struct pull_disk *d, struct err **errp)
{
    bool dirty;

    for (uint64_t off = 0, end; off < d->size; off = end) {
        end = bitmap_next(d->old, off, &dirty);
        if (!dirty && cbw_view_deny(d->point.view, off, end - off) < 0)
            return err_set(errp, ENOMEM, "out of memory for a backup");
    }
    return true;
}

static void undo_point(struct control *c, struct action *a)
{
    struct pull_disk *d = a->opaque;

    point_settle(&d->point, false);
    point_free(&d->point);
}

static bool take_point(struct control *c, struct action *a, struct err **errp)
{
    struct pull_disk *d = a->opaque;
    AUTO_FREE char *user = mem_printf("backup '%s'", d->pull->id);
    struct cbw_view_opts view = {
        .cluster = (uint32_t)d->align,
        .scratch_limit = d->scratch_limit,
        .scratch_fd = d->scratch_fd,
        .broken = on_broken,
        .filling = on_filling,
        .arg = d,
    };

    if (!user)
        return err_set(errp, ENOMEM, "out of memory for a backup");
    if (!point_take(c, &d->point, d->node, user, &view, d->old, errp))
        return false;
    d->scratch_fd = -1; /* the view's */
    if ((d->next && !bitmap_clear(d->next, errp)) ||
        (d->old && d->restricted && !restrict_view(d, errp))) {
        undo_point(c, a);
        return false;
    }
    return true;
}

static const struct action_kind moment = {
    .name = "backup-begin", .node_key = "node", .prepare = take_point, .undo = undo_point};

static bool take_all(struct pull *p, const json_t *list, struct err **errp)
{
    AUTO_FREE struct action *v = mem_array(p->n_disks, sizeof(*v));

    if (!v)
        return err_set(errp, ENOMEM, "out of memory for a backup");
    for (size_t i = 0; i < p->n_disks; i++)
        v[i] = (struct action){
            .kind = &moment, .data = json_array_get(list, i), .opaque = &p->disk[i]};
    return actions_run(p->ctl, v, p->n_disks, errp);
}

/* --- Exports: DISK@ID --- */

static const char *name_of_export(const struct control *c, const struct graph_node *n)
{
    for (const struct control_export *e = c->exports; e; e = e->next) {
        if (e->use && e->use->child == n)
            return e->name;
    }
    return n->name;
}

static char *make_id(const struct pull_disk *d)
{
    char *id = mem_printf("%s.%s", d->pull->id, d->node->name);

    for (char *at = id; at && *at; at++) {
        if (*at == '#')
            *at = '-';
    }
    return id;
}

static bool serve_view(struct pull_disk *d, struct graph_node *shown, struct err **errp)
{
    AUTO_FREE char *keeper = mem_printf("backup '%s'", d->pull->id);
    struct export_wish w = {
        .id = d->export_id,
        .name = d->export_name,
        .node_name = shown->name,
        .writable = d->discard,
        .frozen = d->old,
        .keeper = keeper,
    };

    return keeper ? export_add(d->pull->ctl, &w, errp)
                  : err_set(errp, ENOMEM, "out of memory for a backup");
}

static bool export_view(struct pull_disk *d, struct err **errp)
{
    struct control *c = d->pull->ctl;
    AUTO_FREE char *id = make_id(d);
    struct graph_node *shown = NULL;
    struct node *n;

    d->export_name = mem_printf("%s@%s", name_of_export(c, d->node), d->pull->id);
    if (!id || !d->export_name)
        return err_set(errp, ENOMEM, "out of memory for a backup");
    n = snapshot_show(d->point.view, errp);
    if (!n)
        return false;
    n->read_only = !d->discard;
    shown = graph_reserve(&c->graph, NULL, "snapshot-access", n->read_only, errp);
    if (!shown) {
        node_unref(n);
        return false;
    }
    graph_opened(shown, n);
    d->export_id = steal(id);
    if (serve_view(d, shown, errp))
        return true;
    mem_free(d->export_id);
    d->export_id = NULL;
    if (!shown->users)
        graph_drop(&c->graph, shown);
    return false;
}

/* --- All of it --- */

static bool check_id(struct control *c, const char *id, struct err **errp)
{
    bool good = isalpha((unsigned char)*id) && strlen(id) <= 63;

    for (const char *at = id; good && *at; at++)
        good = isalnum((unsigned char)*at) || strchr("-._", *at);
    if (!good)
        return err_set(errp, EINVAL, "Invalid backup id '%s'", id);
    if (!pull_find(c, id, NULL))
        return true;
    return err_set(errp, EEXIST, "Backup '%s' exists already, or has lately ended", id);
}

static bool begin_all(struct pull *p, const json_t *list, struct err **errp)
{
    size_t i;
    json_t *item;

    json_array_foreach(list, i, item)
    {
        struct pull_disk *d = &p->disk[i];

        if (!prepare_disk(p, i, item, errp) ||
            !server_open_scratch(p->ctl->nbd->server, &d->scratch_fd, errp))
            return false;
    }
    for (i = 0; i < p->n_disks; i++) {
        if (!add_next(&p->disk[i], errp))
            return false;
    }
    if (!take_all(p, list, errp))
        return false;
    for (i = 0; i < p->n_disks; i++) {
        struct pull_disk *d = &p->disk[i];

        d->dirty = d->old ? bitmap_dirty_bytes(d->old) : d->size;
        d->granularity = d->old ? d->old->granularity : d->next ? d->next->granularity : 0;
        if (!export_view(d, errp))
            return false;
    }
    return true;
}

static void undo_all(struct pull *p)
{
    for (size_t i = 0; i < p->n_disks; i++)
        pull_disk_unexport(&p->disk[i]);
    for (size_t i = 0; i < p->n_disks; i++) {
        struct pull_disk *d = &p->disk[i];

        pull_disk_settle(d, false);
        if (d->next && !node_bitmap_remove(d->node->node, d->next->name, NULL))
            log_error("%s: a bitmap could not be removed", d->node->node->name);
    }
}

struct pull *pull_begin(struct control *c, const json_t *args, struct err **errp)
{
    const json_t *list = arg_get(args, "disks");
    const char *id = arg_str(args, "id");
    int64_t lease_s = arg_int(args, "lease", LEASE_S);
    struct pull *p;
    bool ok;

    if (!c->nbd) {
        err_set(errp, EINVAL, "NBD server not running");
        return NULL;
    }
    if (!check_id(c, id, errp))
        return NULL;
    if (lease_s < 1 || lease_s > PULL_LEASE_MAX_S) {
        err_set(errp, EINVAL, "'lease' must be from 1 to %d seconds", PULL_LEASE_MAX_S);
        return NULL;
    }
    if (json_array_size(list) == 0 || json_array_size(list) > DISKS_MAX) {
        err_set(errp, EINVAL, "A backup has 1 to %d disks", DISKS_MAX);
        return NULL;
    }
    p = mem_new(struct pull);
    if (p) {
        p->ctl = c;
        p->id = mem_strdup(id);
        p->n_disks = json_array_size(list);
        p->disk = mem_array(p->n_disks, sizeof(*p->disk));
        for (size_t i = 0; p->disk && i < p->n_disks; i++)
            p->disk[i] = (struct pull_disk){.pull = p, .scratch_fd = -1};
    }
    ok = p && p->id && p->disk;
    if (!ok)
        err_set(errp, ENOMEM, "out of memory for a backup");
    ok = ok && begin_all(p, list, errp) && pull_renew(p, lease_s, errp);
    if (ok) {
        pull_remember(p);
        return p;
    }
    if (p && p->disk)
        undo_all(p);
    else if (p)
        p->n_disks = 0;
    if (p)
        pull_free(p);
    return NULL;
}
