/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Exports, and what a name from the wire means: an export, or EXPORT@CHECKPOINT.
 */
#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "block/node_bitmap.h"
#include "faults/live.h"
#include "server/server_priv.h"

static struct export *export_find(const struct server *s, struct wire_str name)
{
    for (struct export *e = s->exports; e; e = e->next) {
        if (strlen(e->name) == name.len && memcmp(e->name, name.p, name.len) == 0)
            return e;
    }
    return NULL;
}

static bool find_crash(struct export *e, struct wire_str name, struct target *out,
                       struct err **errp)
{
    struct crash_view *v = crash_view_open(e, name, errp);

    if (!v)
        return false;
    *out = (struct target){.exp = e, .crash = v};
    return true;
}

static bool find_frozen(struct export *e, struct wire_str name, enum target_mode mode,
                        struct target *out, struct err **errp)
{
    struct checkpoint *k;
    bool make = name.len > 0 && name.p[0] == '+';

    if (crash_view_named(e, name))
        return find_crash(e, name, out, errp);
    if (make)
        name = (struct wire_str){name.p + 1, name.len - 1};
    if (!e->checkpoints)
        return err_set(errp, ENOENT,
                       "export '%s' has no checkpoints; the server was started without them",
                       e->name);
    if (!checkpoint_check_name(name, errp))
        return false;
    if (mode == TARGET_OPEN) {
        k = checkpoint_open(e, name, make, errp);
        if (!k)
            return false;
    } else {
        k = checkpoint_find(e, name);
        if (!checkpoint_may_open(e, k, name, make, errp))
            return false;
        if (k && !checkpoint_check_readable(k, errp))
            return false;
        if (k)
            k->users++;
    }
    *out = (struct target){.exp = e, .ckpt = k, .frozen = true};
    return true;
}

static void export_unuse(struct export *e)
{
    if (--e->users == 0 && e->removed)
        co_queue_wake_all(&e->srv->changed);
}

bool target_find(struct conn *c, struct wire_str name, enum target_mode mode, struct target *out,
                 struct err **errp)
{
    struct server *s = c->srv;
    char text[WIRE_PRINTABLE_SIZE];

    *out = (struct target){0};
    if (s->stopping)
        return err_set(errp, ESHUTDOWN, "the server is shutting down");
    struct export *exact = export_find(s, name);
    if (exact) {
        if (!tls_admits(c, exact, errp))
            return false;
        out->exp = exact;
        exact->users++;
        return true;
    }
    /* The shortest prefix that is an export: both names may hold an '@'. */
    for (size_t i = 0; i < name.len; i++) {
        struct export *e;

        if (name.p[i] != '@')
            continue;
        e = export_find(s, (struct wire_str){name.p, i});
        if (!e)
            continue;
        if (!tls_admits(c, e, errp))
            return false;
        e->users++; /* also while a view is made */
        if (find_frozen(e, (struct wire_str){name.p + i + 1, name.len - i - 1}, mode, out, errp))
            return true;
        export_unuse(e);
        return false;
    }
    return err_set(errp, ENOENT, "there is no export '%s'", wire_printable(text, name));
}

void target_release(struct target *t)
{
    if (t->ckpt)
        checkpoint_release(t->ckpt);
    if (t->crash)
        crash_view_release(t->crash);
    if (t->exp)
        export_unuse(t->exp);
    *t = (struct target){0};
}

struct node *target_node(const struct target *t)
{
    if (t->crash)
        return crash_view_node(t->crash);
    return t->ckpt ? t->ckpt->view : t->exp->top;
}

bool target_read_only(const struct target *t)
{
    if (t->crash)
        return crash_view_node(t->crash)->read_only;
    return t->frozen || t->exp->read_only;
}

uint16_t target_flags(const struct target *t, const struct conn *c)
{
    uint16_t flags =
        NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_CACHE;

    /* Multi-conn holds: all connections share one node, so a flush on one covers them all. Where
     * the second would be refused it is not offered, as clients count on it then. */
    if (t->exp->max_connections != 1)
        flags |= NBD_FLAG_CAN_MULTI_CONN;

    if (target_read_only(t))
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    if (t->exp->resizable && !target_read_only(t))
        flags |= NBD_FLAG_SEND_RESIZE;
    if (c->structured)
        flags |= NBD_FLAG_SEND_DF;
    if (c->extended)
        flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    return flags;
}

void export_resized(struct export *e)
{
    for (struct conn *c = e->srv->conns; c; c = c->next) {
        if (c->node == e->top)
            c->size = e->top->size;
    }
}

/* One bitmap of o, as its docstring says; held busy. *at: its node (borrowed). */
static struct bitmap *publish(const struct export_opts *o, const struct export_bitmap *want,
                              struct node **at, struct err **errp)
{
    struct node *owner = want->node;

    if (want->frozen) {
        want->frozen->busy++;
        return want->frozen;
    }
    struct bitmap *b = owner ? node_bitmap_find(owner, want->name)
                             : node_bitmap_search(o->top, want->name, &owner);

    if (!b) {
        err_set(errp, ENOENT, "Bitmap '%s' is not found", want->name);
        return NULL;
    }
    if (!bitmap_check_idle(b, errp))
        return NULL;
    /* What it says would change under a client that was promised that nothing does. */
    if (o->read_only && !owner->read_only && bitmap_recording(b)) {
        err_set(errp, EINVAL, "Enabled bitmap '%s' incompatible with readonly export", b->name);
        return NULL;
    }
    b->busy++;
    *at = owner;
    return b;
}

/* Drops the bitmaps' nodes: yields if nobody else has one any more. */
static void unpublish_all(struct export *e)
{
    for (unsigned i = 0; i < e->n_maps; i++) {
        e->maps[i]->busy--;
        node_unref(e->map_node[i]);
    }
    mem_free(e->maps);
    mem_free(e->map_node);
    e->maps = NULL;
    e->map_node = NULL;
    e->n_maps = 0;
}

static bool publish_all(struct export *e, const struct export_opts *o, struct err **errp)
{
    e->maps = mem_array(o->n_bitmaps + 1, sizeof(*e->maps));
    e->map_node = mem_array(o->n_bitmaps + 1, sizeof(*e->map_node));
    if (!e->maps || !e->map_node) {
        unpublish_all(e);
        return err_set(errp, ENOMEM, "out of memory for an export");
    }
    while (e->n_maps < o->n_bitmaps) {
        struct node *owner = o->bitmaps[e->n_maps].node;
        struct bitmap *b = publish(o, &o->bitmaps[e->n_maps], &owner, errp);

        if (!b) {
            unpublish_all(e);
            return false;
        }
        e->map_node[e->n_maps] = owner ? node_ref(owner) : NULL; /* whoever froze it keeps it */
        e->maps[e->n_maps++] = b;
    }
    return true;
}

static bool export_check(const struct server *s, const struct export_opts *o, struct err **errp)
{
    char text[WIRE_PRINTABLE_SIZE];
    struct wire_str name = {o->name, strlen(o->name)};

    if (name.len > NBD_NAME_MAX)
        return err_set(errp, EINVAL, "export name of %zu bytes; at most %u are allowed", name.len,
                       NBD_NAME_MAX);
    if (o->description && strlen(o->description) > NBD_NAME_MAX)
        return err_set(errp, EINVAL, "export description of %zu bytes; at most %u are allowed",
                       strlen(o->description), NBD_NAME_MAX);
    if (export_find(s, name))
        return err_set(errp, EEXIST, "export '%s' exists already", wire_printable(text, name));
    if (o->checkpoints && !o->cbw)
        return err_set(errp, EINVAL, "checkpoints of export '%s' need a copy-before-write node",
                       wire_printable(text, name));
    return true;
}

unsigned server_export_clients(const struct server *s, const char *name)
{
    const struct export *e = export_find(s, (struct wire_str){name, strlen(name)});

    return e ? e->n_connections : 0;
}

bool server_move_export(struct server *s, const char *name, struct node *top)
{
    struct export *e = export_find(s, (struct wire_str){name, strlen(name)});
    struct node *old = e ? e->top : NULL;

    if (!e)
        return false;
    assert(!e->checkpoints && top->size == old->size);
    e->top = node_ref(top);
    for (struct conn *c = s->conns; c; c = c->next) {
        if (c->node == old && c->target.exp == e)
            c->node = top;
    }
    node_unref(old);
    return true;
}

bool server_change_export(struct server *s, const char *name, const char *description,
                          unsigned max_connections, struct err **errp)
{
    struct export *e = export_find(s, (struct wire_str){name, strlen(name)});
    char *copy = description ? mem_strdup(description) : NULL;

    if (!e || (description && !copy)) {
        mem_free(copy);
        return e ? err_set(errp, ENOMEM, "out of memory for an export")
                 : err_set(errp, ENOENT, "there is no export '%s'", name);
    }
    mem_free(e->description);
    e->description = copy;
    e->max_connections = max_connections;
    return true;
}

bool server_remove_export(struct server *s, const char *name, struct err **errp)
{
    struct export *e = export_find(s, (struct wire_str){name, strlen(name)});
    struct export **at = &s->exports;
    int ret;

    if (!e)
        return err_set(errp, ENOENT, "there is no export '%s'", name);
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    e->removed = true;
    for (struct conn *c = s->conns; c; c = c->next) {
        if (c->target.exp == e || c->meta_target.exp == e)
            conn_drain(c, false);
    }
    while (e->users > 0)
        co_queue_wait(&s->changed);
    checkpoint_drop_all(e);
    ret = e->read_only ? 0 : node_flush(e->top);
    export_free(e);
    return ret == 0 || err_set_errno(errp, -ret, "export '%s': the last flush failed", name);
}

static void export_free_memory(struct export *e)
{
    if (!e)
        return;
    unpublish_all(e);
    authz_unref(e->authz);
    rules_free(e->rules);
    mem_free(e->name);
    mem_free(e->description);
    mem_free(e);
}

bool export_new(struct server *s, const struct export_opts *o, struct err **errp)
{
    if (!export_check(s, o, errp))
        return false;
    struct export *e = mem_new(struct export);
    if (e)
        e->name = mem_strdup(o->name);
    if (e && o->description)
        e->description = mem_strdup(o->description);
    bool ok = e && e->name && (!o->description || e->description);
    if (!ok)
        err_set(errp, ENOMEM, "out of memory for an export");
    if (!ok || !publish_all(e, o, errp)) {
        export_free_memory(e);
        return false;
    }
    e->srv = s;
    e->top = o->top;
    e->rules = o->rules ? rules_ref(o->rules) : NULL;
    if (e->rules)
        rules_serve_layer(e->rules, FAULT_WIRE);
    e->since_ns = clock_ns();
    e->crash = o->crash;
    e->cbw = o->cbw;
    e->read_only = o->read_only || o->top->read_only;
    e->ignore_discard = o->ignore_discard;
    e->resizable = o->resizable;
    e->allocation_depth = o->allocation_depth;
    e->checkpoints = o->checkpoints;
    e->max_connections = o->max_connections;
    e->tls_only = o->tls_only || o->authz;
    e->authz = o->authz ? authz_ref(o->authz) : NULL;
    struct export **at = &s->exports;
    while (*at)
        at = &(*at)->next;
    *at = e;
    checkpoints_load(e);
    return true;
}

void export_free(struct export *e)
{
    checkpoint_drop_all(e);
    crash_view_drop_all(e);
    unpublish_all(e);
    node_unref(e->top);
    export_free_memory(e);
}
