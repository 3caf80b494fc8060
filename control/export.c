/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Exports: which node is served under which name, from its start until its last client has gone.
 *
 * An export is taken away in a coroutine of its own, as its clients may have requests under way for
 * any time: the command that asked for it does not wait longer than a moment, and
 * BLOCK_EXPORT_DELETED tells the end.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/blockdev.h"
#include "control/export_priv.h"
#include "control/fault_watch.h"
#include "filters/filters.h"
#include "server/server.h"

#define MOMENT_NS (200 * NS_PER_MS)

struct control_export *export_find(struct control *c, const char *id)
{
    for (struct control_export *e = c->exports; e; e = e->next) {
        if (strcmp(e->id, id) == 0)
            return e;
    }
    return NULL;
}

static void free_memory(struct control_export *e)
{
    mem_free(e->id);
    mem_free(e->name);
    mem_free(e->keeper);
    mem_free(e);
}

static void unlink_export(struct control_export *e)
{
    struct control_export **at = &e->ctl->exports;

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
}

/* The names of bitmaps, with the nodes that were named with them. */
static struct export_bitmap *bitmap_list(struct control *c, const json_t *list, struct err **errp)
{
    struct export_bitmap *v = mem_array(json_array_size(list) + 2, sizeof(*v));
    size_t i;
    json_t *item;

    if (!v)
        err_set(errp, ENOMEM, "out of memory for an export");
    json_array_foreach(list, i, item)
    {
        if (v && json_is_object(item)) {
            struct graph_node *n = blockdev_find(c, arg_str(item, "node"), true, errp);

            v[i] =
                (struct export_bitmap){.name = arg_str(item, "name"), .node = n ? n->node : NULL};
            if (!n) {
                mem_free(v);
                v = NULL;
            }
        } else if (v) {
            v[i].name = json_string_value(item);
        }
    }
    return v;
}

static bool serve(struct control_export *e, struct graph_node *n, const struct export_wish *w,
                  struct err **errp)
{
    AUTO_FREE struct export_bitmap *bitmaps = bitmap_list(e->ctl, w->bitmaps, errp);
    struct export_opts eo = {
        .name = e->name,
        .description = w->description,
        .bitmaps = bitmaps,
        .n_bitmaps = (unsigned)json_array_size(w->bitmaps),
        .read_only = !w->writable,
    };

    if (!bitmaps)
        return false;
    if (w->frozen)
        bitmaps[eo.n_bitmaps++].frozen = w->frozen;
    eo.top = export_top(e, n, &eo.rules, errp);
    if (!eo.top)
        return false;
    if (fault_cache(fault_find(eo.top)))
        eo.crash = (struct export_crash){export_crash_open, e};
    if (server_add_export(e->ctl->nbd->server, &eo, errp))
        return true;
    node_unref(eo.top);
    return false;
}

/* Another node has taken the place of the one that is exported. */
static void move(struct graph_edge *use, struct node *to)
{
    const struct control_export *e = use->arg;

    if (e->fault)
        node_unref(node_set_child(e->fault, 0, to));
    else
        server_move_export(e->ctl->nbd->server, e->name, to);
}

static bool check_wish(struct control *c, const struct export_wish *w, struct graph_node **n,
                       struct err **errp)
{
    if (!graph_name_ok(w->id))
        return err_set(errp, EINVAL, "Invalid block export id");
    if (export_find(c, w->id))
        return err_set(errp, EEXIST, "Block export id '%s' is already in use", w->id);
    *n = blockdev_find(c, w->node_name, w->legacy, errp);
    if (!*n)
        return false;
    if (w->writable && (*n)->read_only)
        return err_set(errp, EPERM, "Cannot export read-only node as writable");
    if (!c->nbd)
        return err_set(errp, EINVAL, "NBD server not running");
    for (const struct control_export *e = c->exports; e; e = e->next) {
        if (strcmp(e->name, w->name) == 0)
            return err_set(errp, EEXIST, "NBD server already has export named '%s'", w->name);
    }
    return true;
}

bool export_add(struct control *c, const struct export_wish *w, struct err **errp)
{
    struct graph_node *n = NULL;
    struct control_export *e;
    AUTO_FREE char *user = NULL;

    if (!check_wish(c, w, &n, errp))
        return false;
    e = mem_new(struct control_export);
    user = mem_printf("block export '%s'", w->id);
    if (e) {
        e->ctl = c;
        e->id = mem_strdup(w->id);
        e->name = mem_strdup(w->name);
        e->keeper = w->keeper ? mem_strdup(w->keeper) : NULL;
    }
    if (!e || !user || !e->id || !e->name || (w->keeper && !e->keeper)) {
        err_set(errp, ENOMEM, "out of memory for an export");
        goto fail;
    }
    /* A client is told the size once, so that it must stay. */
    e->use = graph_use(&c->graph, n, user, PERM_CONSISTENT_READ | (w->writable ? PERM_WRITE : 0),
                       PERM_ALL & ~PERM_RESIZE, errp);
    if (!e->use)
        goto fail;
    e->use->move = move;
    e->use->arg = e;
    if (!serve(e, n, w, errp)) {
        graph_unuse(&c->graph, e->use);
        goto fail;
    }
    e->next = c->exports;
    c->exports = e;
    faults_may_hang(c, true);
    return true;
fail:
    if (e)
        free_memory(e);
    return false;
}

/* Takes no lock, as a command may wait for it: nothing here looks at the graph across a yield. */
static void remove_run(void *arg)
{
    struct control_export *e = arg;
    struct control *c = e->ctl;
    struct graph_edge *use = e->use;
    struct err *problem = NULL;

    throttle_lift_below(use->child, true);
    if (e->fault)
        fault_let_hang(e->fault, false);
    if (!server_remove_export(c->nbd->server, e->name, &problem)) {
        log_error("%s", err_msg(problem));
        if (!c->first_error)
            c->first_error = steal(problem);
        err_free(problem);
    }
    throttle_lift_below(use->child, false);
    e->use = NULL;
    graph_unuse(&c->graph, use);
    unlink_export(e);
    event_emit(c, "BLOCK_EXPORT_DELETED", json_pack("{s:s}", "id", e->id));
    free_memory(e);
    co_queue_wake_all(&c->changed);
}

static bool is_there(const struct control *c, const struct control_export *wanted)
{
    const struct control_export *e = c->exports;

    while (e && e != wanted)
        e = e->next;
    return e != NULL;
}

struct moment {
    struct control *ctl;
    bool over;
};

static void moment_end(void *arg)
{
    struct moment *m = arg;

    m->over = true;
    co_queue_wake_all(&m->ctl->changed);
}

/* Begin to take e away, and wait until it is gone, but if `briefly` for no more than a moment. */
static bool remove_and_wait(struct control_export *e, bool briefly, struct err **errp)
{
    struct control *c = e->ctl;
    struct moment m = {.ctl = c};
    struct timer t = {0};

    if (!e->shutting_down) {
        e->shutting_down = true;
        e->use->move = NULL; /* it ends where it is */
        if (!co_start(remove_run, e)) {
            e->shutting_down = false;
            e->use->move = move;
            return err_set(errp, ENOMEM, "out of memory");
        }
    }
    if (briefly && !timer_set(&t, clock_ns() + MOMENT_NS, moment_end, &m))
        return true;
    while (is_there(c, e) && !m.over)
        co_queue_wait(&c->changed);
    timer_cancel(&t);
    return true;
}

bool export_remove(struct control *c, const char *id, struct err **errp)
{
    struct control_export *e = export_find(c, id);

    return !e || remove_and_wait(e, false, errp);
}

bool export_del(struct control *c, const char *id, bool hard, struct err **errp)
{
    struct control_export *e = export_find(c, id);

    if (!e)
        return err_set(errp, ENOENT, "Export '%s' is not found", id);
    if (e->borrowed)
        return err_set(errp, EPERM,
                       "Export '%s' is what this server was started for; end the "
                       "server instead",
                       id);
    if (e->keeper)
        return err_set(errp, EPERM, "Export '%s' belongs to %s: end that", id, e->keeper);
    if (e->shutting_down)
        return err_set(errp, EBUSY, "Export '%s' is already shutting down", id);
    if (!hard && server_export_clients(c->nbd->server, e->name) > 0)
        return err_set(errp, EBUSY, "export '%s' still in use", id);
    return remove_and_wait(e, true, errp);
}

static void let_go(struct control_export *e)
{
    struct control *c = e->ctl;
    struct graph_edge *use = e->use;

    unlink_export(e);
    free_memory(e);
    graph_unuse(&c->graph, use);
}

bool exports_stop(struct control *c, struct err **errp)
{
    int ret = 0;

    if (!c->nbd)
        return true;
    while (c->exports) {
        if (c->exports->borrowed)
            let_go(c->exports);
        else if (!remove_and_wait(c->exports, false, errp))
            return false;
    }
    if (!c->nbd->borrowed) {
        ret = server_stop(c->nbd->server, false);
        server_free(c->nbd->server);
    }
    if (c->nbd->path)
        unlink(c->nbd->path);
    mem_free(c->nbd->path);
    mem_free(c->nbd);
    c->nbd = NULL;
    return ret == 0 || err_set_errno(errp, -ret, "the NBD server");
}
