/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blockdev-reopen: other options for nodes that are in use. All of them are checked first, then
 * changed one after another; should one fail, those before it are changed back.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "control/chain.h"
#include "control/blockdev.h"
#include "qcow2/qcow2.h"

static const struct qtype q_options_list = {
    .kind = Q_LIST, .name = "BlockdevOptionsList", .element = &q_blockdev_options};
static const struct qtype reopen_args = {.kind = Q_STRUCT,
                                         .name = "blockdev-reopen-arg",
                                         .member = Q_MEMBERS({"options", &q_options_list, false})};

struct reopen { /* one node */
    struct graph_node *n;
    json_t *options; /* borrowed */
    bool read_only, was_read_only;
    bool new_backing; /* it changes: to backing, or none */
    struct graph_node *backing, *old_backing;
    struct graph_edge *hold; /* of the old one, until all is done */
};

/* --- What may change --- */

static bool cannot_change(const char *key, struct err **errp)
{
    return err_set(errp, EINVAL, "Cannot change the option '%s'", key);
}

static bool is_free(const char *key)
{
    static const char *const keys[] = {"node-name", "read-only", "discard", "detect-zeroes",
                                       "backing"};

    for (unsigned i = 0; i < 5; i++) {
        if (strcmp(key, keys[i]) == 0)
            return true;
    }
    return false;
}

static const struct graph_edge *child_by_key(const struct graph_node *n, const char *key)
{
    const struct graph_edge *e = n->children;

    while (e && strcmp(e->name, key) != 0)
        e = e->next_child;
    return e;
}

/* A child must stay the one that it is: named, or described as it was. */
static bool check_child(const struct graph_edge *e, const char *key, const json_t *old,
                        const json_t *new, struct err **errp)
{
    if (json_is_string(new) ? strcmp(json_string_value(new), e->child->name) == 0
                            : json_equal((json_t *)old, (json_t *)new))
        return true;
    return cannot_change(key, errp);
}

static bool check_options(const struct reopen *r, struct err **errp)
{
    const json_t *old = r->n->options;
    const char *key;
    json_t *v;

    if (!old)
        return err_set(errp, ENOTSUP, "Node '%s' was not made by a client, and stays as it is",
                       r->n->name);
    if (strcmp(arg_str(r->options, "driver"), r->n->driver) != 0)
        return cannot_change("driver", errp);
    json_object_foreach(r->options, key, v)
    {
        const struct graph_edge *e = is_free(key) ? NULL : child_by_key(r->n, key);

        if (e && !check_child(e, key, arg_get(old, key), v, errp))
            return false;
        if (!e && !is_free(key) && !json_equal(arg_get(old, key), v))
            return cannot_change(key, errp);
    }
    json_object_foreach((json_t *)old, key, v)
    {
        if (!is_free(key) && !arg_has(r->options, key))
            return err_set(errp, EINVAL, "Option '%s' cannot be reset to its default value", key);
    }
    return true;
}

static bool check_backing(struct control *c, struct reopen *r, struct err **errp)
{
    const json_t *v = arg_get(r->options, "backing");

    r->old_backing = graph_backing(r->n);
    if (!v && !r->old_backing)
        return true;
    if (!v)
        return err_set(errp, EINVAL, "backing is missing for '%s'", r->n->name);
    if (json_is_object(v))
        return json_equal((json_t *)v, arg_get(r->n->options, "backing")) ||
               cannot_change("backing", errp);
    r->backing = json_is_null(v) ? NULL : blockdev_find(c, json_string_value(v), false, errp);
    if (!r->backing && !json_is_null(v))
        return false;
    r->new_backing = r->backing != r->old_backing;
    if (!r->new_backing)
        return true;
    if (r->backing && chain_has(r->backing, r->n))
        return err_set(errp, ELOOP, "Making '%s' a backing child of '%s' would create a cycle",
                       r->backing->name, r->n->name);
    if (r->old_backing &&
        (!graph_check_jobless(r->n, NULL) || !graph_check_jobless(r->old_backing, NULL)))
        return err_set(errp, EBUSY, "Cannot change 'backing' link from '%s' to '%s'", r->n->name,
                       r->old_backing->name);
    return r->backing ? graph_check_jobless(r->backing, errp) : true;
}

static bool check_writers(const struct reopen *r, struct err **errp)
{
    for (const struct graph_edge *e = r->n->users; e && r->read_only; e = e->next_user) {
        if (e->perm & (PERM_WRITE | PERM_WRITE_UNCHANGED))
            return err_set(errp, EPERM, "Read-only block node '%s' cannot support read-write users",
                           r->n->name);
    }
    return true;
}

static bool check(struct control *c, struct reopen *r, struct err **errp)
{
    const char *name = arg_str(r->options, "node-name");

    if (!name)
        return err_set(errp, EINVAL, "node-name not specified");
    r->n = graph_find(&c->graph, name);
    if (!r->n)
        return err_set(errp, ENOENT, "Failed to find node with node-name='%s'", name);
    r->was_read_only = r->n->read_only;
    r->read_only = arg_bool(r->options, "read-only", false);
    return check_backing(c, r, errp) && check_options(r, errp) && check_writers(r, errp);
}

/* --- Changing it --- */

static bool apply(struct control *c, struct reopen *r, struct err **errp)
{
    struct graph *g = &c->graph;

    if (r->new_backing && r->old_backing) {
        r->hold = graph_use(g, r->old_backing, "blockdev-reopen", 0, PERM_ALL, errp);
        if (!r->hold)
            return false;
    }
    if (r->new_backing && !chain_set_backing(g, r->n, r->backing, errp)) {
        r->new_backing = false;
        return false;
    }
    return graph_set_read_only(g, r->n, r->read_only, errp);
}

static void undo(struct control *c, struct reopen *r)
{
    graph_set_read_only(&c->graph, r->n, r->was_read_only, NULL);
    if (r->new_backing)
        chain_set_backing(&c->graph, r->n, r->old_backing, NULL);
}

static void finish(struct control *c, struct reopen *r, bool ok)
{
    json_t *o = ok ? json_deep_copy(r->options) : NULL;

    if (ok)
        blockdev_apply_common(r->options, r->n->node, !r->n->owned);
    if (o) {
        json_decref(r->n->options);
        r->n->options = o;
    }
    if (r->hold)
        graph_unuse(&c->graph, r->hold);
}

static bool run_reopen(struct call *call, struct err **errp)
{
    const json_t *list = arg_get(call->args, "options");
    size_t n = json_array_size(list), done = 0;
    AUTO_FREE struct reopen *v = mem_array(n + 1, sizeof(*v));
    bool ok = v || err_set(errp, ENOMEM, "out of memory");

    for (size_t i = 0; i < n && ok; i++) {
        v[i].options = json_array_get(list, i);
        ok = check(call->ctl, &v[i], errp);
    }
    if (!ok)
        return false;
    while (ok && done < n)
        ok = apply(call->ctl, &v[done++], errp);
    for (size_t i = done; i-- > 0 && !ok;)
        undo(call->ctl, &v[i]);
    for (size_t i = 0; i < done; i++)
        finish(call->ctl, &v[i], ok);
    return ok;
}

const struct command reopen_commands[] = {
    {"blockdev-reopen", &reopen_args, NULL, run_reopen, false},
    {0},
};
