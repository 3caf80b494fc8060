/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The exports that a running serve has opened: see serve_exports.h.
 *
 * Read again, a configuration is compared option by option with what is served: an export of which
 * nothing else is said stays untouched, with its clients. One that changed is closed before it is
 * opened as the file says, since both would want the lock of the image; if that fails, it is opened
 * again as it was. Only what clients meet when they come, and who may stay would not change by, is
 * changed in place. A rule for TLS is not: who may not come any more shall not stay.
 */
#include "cli/serve_exports.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/node_bitmap.h"

#define NODE_NAME_MAX 31 /* QEMU's */

/* --- One export --- */

static bool publish(struct serve_exports *e, struct serve_running *r, struct err **errp)
{
    const struct serve_export *x = r->x;
    const struct serve_graph *g = &r->graph;
    struct export_opts eo = {
        .name = x->name,
        .description = x->description,
        .top = g->top,
        .bitmaps = g->bitmaps,
        .n_bitmaps = g->n_bitmaps,
        .cbw = g->cbw,
        .rules = g->rules,
        .read_only = x->read_only,
        .checkpoints = x->checkpoints,
        .tls_only = x->tls_only,
        .authz = x->authz.authz,
        .resizable = x->resizable,
        .allocation_depth = x->allocation_depth,
        .ignore_discard = x->ignore_discard,
        .max_connections = x->max_connections,
    };

    if (g->cache)
        eo.crash = (struct export_crash){serve_graph_crash, &r->graph};
    return server_add_export(e->server, &eo, errp);
}

/* A name that QMP takes for a node and an export: that of the export where it is one, but a single
 * image is always "disk".
 */
static char *control_id(const struct serve_exports *e, const struct serve_export *x)
{
#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    static const char letters[] = LETTERS, all[] = LETTERS "0123456789-._";
    const char *name = x->name;
    unsigned n = 0;

    if (!x->id && !e->first->next)
        return mem_strdup("disk");
    if (*name && strspn(name, letters) > 0 && strlen(name) <= NODE_NAME_MAX &&
        strspn(name, all) == strlen(name))
        return mem_strdup(name);
    for (const struct serve_running *r = e->first; r; r = r->next)
        n++;
    return mem_printf("export%u", n);
}

static bool adopt(struct serve_exports *e, struct serve_running *r, struct err **errp)
{
    const struct serve_export *x = r->x;

    r->control_id = control_id(e, x);
    if (!r->control_id)
        return err_set(errp, ENOMEM, "out of memory for a control socket");
    return control_adopt(e->control,
                         &(struct control_adoption){
                             .node_name = r->control_id,
                             .top = r->graph.top,
                             .server = e->server,
                             .export_id = r->control_id,
                             .export_name = x->name,
                             .writable = !x->read_only && !r->graph.top->read_only,
                             .resizable = x->resizable,
                         },
                         errp);
}

static void running_free(struct serve_running *r)
{
    serve_graph_close(&r->graph);
    serve_export_free(r->x);
    serve_export_free(r->now);
    mem_free(r->control_id);
    mem_free(r);
}

static void store_bitmaps(struct serve_running *r, struct err **errp)
{
    node_bitmap_store_chain(r->top, errp);
    node_unref(r->top);
    r->top = NULL;
}

/* x is taken over, also on failure. */
static bool running_open(struct serve_exports *e, struct serve_export *x, struct err **errp)
{
    struct serve_running *r = mem_new(struct serve_running), **at = &e->first;

    if (!r) {
        serve_export_free(x);
        return err_set(errp, ENOMEM, "out of memory for an export");
    }
    r->x = x;
    if (!serve_graph_open(x, &r->graph, errp)) {
        running_free(r);
        return false;
    }
    if (!publish(e, r, errp)) {
        node_unref(r->graph.top);
        running_free(r);
        return false;
    }
    r->top = node_ref(r->graph.top);
    while (*at)
        at = &(*at)->next;
    *at = r;
    if (e->may_hang)
        serve_graph_let_hang(&r->graph, true);
    return true;
}

static void unlink_running(struct serve_exports *e, struct serve_running *r)
{
    struct serve_running **at = &e->first;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
}

/* Let its clients finish, flush it and close it. False: it stays, as somebody has use for it. */
static bool running_close(struct serve_exports *e, struct serve_running *r,
                          struct serve_export **x_out, struct err **errp)
{
    AUTO_ERR struct err *problem = NULL;
    AUTO_FREE char *name = mem_strdup(r->x->name);
    bool cut = serve_graph_is_cut(&r->graph);

    if (r->control_id && !control_disown(e->control, r->control_id, errp))
        return false;
    serve_graph_let_hang(&r->graph, false);
    if (!server_remove_export(e->server, r->x->name, &problem) && !cut)
        log_error("%s", err_msg(problem));
    err_free(steal(problem));
    store_bitmaps(r, &problem);
    if (problem)
        log_error("export '%s': %s", name ? name : "", err_msg(problem));
    unlink_running(e, r);
    if (x_out)
        *x_out = steal(r->x);
    running_free(r);
    return true;
}

/* --- All of them --- */

bool serve_exports_open(struct serve_exports *e, struct serve_opts *o, struct err **errp)
{
    bool ok = true;

    for (unsigned i = 0; i < o->n_exports; i++) {
        if (ok)
            ok = running_open(e, o->exports[i], errp);
        else
            serve_export_free(o->exports[i]);
    }
    o->n_exports = 0;
    return ok;
}

bool serve_exports_adopt(struct serve_exports *e, struct control *c, struct err **errp)
{
    e->control = c;
    for (struct serve_running *r = e->first; r; r = r->next) {
        if (!adopt(e, r, errp))
            return false;
    }
    return true;
}

void serve_exports_let_hang(struct serve_exports *e, bool may)
{
    e->may_hang = may;
    for (struct serve_running *r = e->first; r; r = r->next)
        serve_graph_let_hang(&r->graph, may);
}

/* server_stop tells one error; whose it is, and whether it is one, a second flush says: none
 * succeeds after one has failed. */
static void check_flush(const struct serve_running *r, struct err **errp)
{
    int ret = r->top->read_only || serve_graph_is_cut(&r->graph) ? 0 : node_flush(r->top);

    if (ret < 0)
        err_set_errno(errp, -ret, "'%s': the last flush failed", r->x->image);
}

void serve_exports_finish(struct serve_exports *e, int flushed, struct err **errp)
{
    for (struct serve_running *r = e->first; r; r = r->next) {
        struct err *problem = NULL;

        if (flushed < 0)
            check_flush(r, &problem);
        store_bitmaps(r, problem ? NULL : &problem);
        if (problem && *errp) {
            log_error("%s", err_msg(problem));
            err_free(problem);
        } else if (problem) {
            *errp = problem;
        }
    }
}

void serve_exports_close(struct serve_exports *e)
{
    while (e->first) {
        struct serve_running *r = e->first;

        e->first = r->next;
        node_unref(r->top);
        running_free(r);
    }
}

/* --- Reading the configuration again --- */

static struct serve_running *find_running(const struct serve_exports *e, const char *name)
{
    for (struct serve_running *r = e->first; r; r = r->next) {
        if (strcmp(r->x->name, name) == 0)
            return r;
    }
    return NULL;
}

static struct serve_export *find_wanted(const struct serve_opts *o, const char *name)
{
    for (unsigned i = 0; i < o->n_exports; i++) {
        if (o->exports[i] && strcmp(o->exports[i]->name, name) == 0)
            return o->exports[i];
    }
    return NULL;
}

static void log_problem(const char *name, const char *what, struct err *problem)
{
    log_error("export '%s': %s: %s", name, what, err_msg(problem));
    if (err_code(problem) == EACCES)
        log_error("in the sandbox, images are opened in the folders that were used at the start, "
                  "and below those of --allow-path");
    err_free(problem);
}

static void close_unwanted(struct serve_exports *e, const struct serve_opts *o)
{
    struct serve_running *next;

    for (struct serve_running *r = e->first; r; r = next) {
        AUTO_FREE char *name = mem_strdup(r->x->name);
        struct err *problem = NULL;

        next = r->next;
        if (find_wanted(o, r->x->name))
            continue;
        if (!running_close(e, r, NULL, &problem))
            log_problem(r->x->name, "it cannot be removed", problem);
        else
            log_info("export '%s' is removed", name ? name : "");
    }
}

/* x is taken over. */
static bool open_wanted(struct serve_exports *e, struct serve_export *x, struct err **errp)
{
    AUTO_FREE char *name = mem_strdup(x->name);
    struct serve_running *r;

    if (!name) {
        serve_export_free(x);
        return err_set(errp, ENOMEM, "out of memory for an export");
    }
    if (!running_open(e, x, errp))
        return false;
    r = find_running(e, name);
    if (!e->control || adopt(e, r, errp))
        return true;
    mem_free(steal(r->control_id));
    running_close(e, r, NULL, NULL);
    return false;
}

/* x is taken over. */
static void change(struct serve_exports *e, struct serve_running *r, struct serve_export *x)
{
    AUTO_FREE char *name = mem_strdup(x->name);
    struct serve_export *before;
    struct err *problem = NULL;

    if (!name || !running_close(e, r, &before, &problem)) {
        log_problem(x->name, "it cannot be changed", problem);
        serve_export_free(x);
        return;
    }
    if (open_wanted(e, x, &problem)) {
        log_info("export '%s' is changed", name);
        serve_export_free(before);
        return;
    }
    log_problem(name, "it cannot be changed, and is served as it was", problem);
    problem = NULL;
    if (!open_wanted(e, before, &problem))
        log_problem(name, "it is not served any more", problem);
}

/* Its description and its limit of clients. x is taken over. */
static void adjust(struct serve_exports *e, struct serve_running *r, struct serve_export *x)
{
    struct err *problem = NULL;

    if (!server_change_export(e->server, x->name, x->description, x->max_connections, &problem)) {
        log_problem(x->name, "it cannot be changed", problem);
        serve_export_free(x);
        return;
    }
    log_info("export '%s' has other properties now", x->name);
    serve_export_free(r->now);
    r->now = x;
}

static void bring(struct serve_exports *e, struct serve_export *x)
{
    static const int light[] = {'D', 'e', 0};
    struct serve_running *r = find_running(e, x->name);
    AUTO_FREE char *name = mem_strdup(x->name);
    struct err *problem = NULL;

    if (r && said_equal(r->now ? &r->now->said : &r->x->said, &x->said)) {
        serve_export_free(x);
    } else if (r && said_equal_but(&r->x->said, &x->said, light)) {
        adjust(e, r, x);
    } else if (r) {
        change(e, r, x);
    } else if (open_wanted(e, x, &problem)) {
        log_info("export '%s' is new", name ? name : "");
    } else {
        log_problem(name ? name : "", "it cannot be served", problem);
    }
}

void serve_exports_reload(struct serve_exports *e, struct serve_opts *o)
{
    close_unwanted(e, o);
    for (unsigned i = 0; i < o->n_exports; i++)
        bring(e, o->exports[i]);
    o->n_exports = 0;
}
