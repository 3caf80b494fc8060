/* SPDX-License-Identifier: BSD-3-Clause
 *
 * By which name a node could be opened again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/file.h"
#include "control/blockdev.h"

const struct graph_node *blockdev_storage(const struct graph_node *n)
{
    while (n && n->node->drv != &file_driver) {
        const struct graph_edge *e = n->children;

        while (e && e->role == ROLE_BACKING)
            e = e->next_child;
        n = e ? e->child : NULL;
    }
    return n;
}

/* All options of a node, with those of its children in place of their names. */
static json_t *full_options(const struct graph_node *n)
{
    json_t *o = n->options ? json_copy(n->options) : json_pack("{s:s}", "driver", n->driver);

    if (strcmp(n->driver, "file") == 0 && !n->options)
        json_object_set_new(o, "filename", json_string(n->node->name));
    json_object_del(o, "node-name");
    for (const struct graph_edge *e = n->children; e; e = e->next_child) {
        if (e->role != ROLE_BACKING)
            json_object_set_new(o, e->name, full_options(e->child));
    }
    return o;
}

/* Does the file's name say all? */
static bool is_plain(const struct graph_node *n, const struct graph_node *storage)
{
    bool plain = strcmp(n->driver, "file") == 0 || strcmp(n->driver, "qcow2") == 0 ||
                 (strcmp(n->driver, "raw") == 0 && !arg_has(n->options, "offset") &&
                  !arg_has(n->options, "size"));

    return plain && storage && (n == storage || n->children->child == storage);
}

char *blockdev_filename(const struct graph_node *n)
{
    const struct graph_node *storage = blockdev_storage(n);
    json_t *options;
    char *text, *name = NULL;

    if (is_plain(n, storage))
        return mem_strdup(storage->node->name);
    options = full_options(n);
    text = json_dumps(options, 0);
    json_decref(options);
    if (text)
        name = mem_printf("json:%s", text);
    free(text);
    return name;
}

bool blockdev_backing_name(const struct graph_node *n, char **name, const char **format,
                           struct err **errp)
{
    const struct graph_node *u = graph_unfiltered((struct graph_node *)n);
    const struct graph_node *storage = blockdev_storage(u);
    char *real;

    if (!is_plain(u, storage))
        return err_set(errp, ENOTSUP,
                       "Node '%s' is no plain image file, so that an image cannot name it as its "
                       "backing file",
                       n->name);
    real = realpath(storage->node->name, NULL);
    if (!real)
        return err_set_errno(errp, errno, "Cannot find '%s'", storage->node->name);
    *name = mem_strdup(real);
    *format = strcmp(u->driver, "qcow2") == 0 ? "qcow2" : "raw";
    free(real);
    return *name || err_set(errp, ENOMEM, "out of memory");
}
