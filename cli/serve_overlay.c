/* SPDX-License-Identifier: BSD-3-Clause
 *
 * -s: what clients write goes to a temporary qcow2 image over the one that is served, which stays
 * as it is. The file has no name once it is open: whatever ends the server, its space is given
 * back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "block/file.h"
#include "cli/serve_graph.h"
#include "qcow2/qcow2.h"

/* An empty file; its name is gone. */
static struct node *open_temporary(struct err **errp)
{
    const char *dir = getenv("TMPDIR");
    AUTO_FREE char *path = mem_printf("%s/breakwater-XXXXXX", dir && *dir ? dir : "/var/tmp");
    struct file_opts fo = {.path = path, .no_flush = true, .no_lock = true};
    struct node *n;

    if (!path) {
        err_set(errp, ENOMEM, "out of memory for a temporary image");
        return NULL;
    }
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        err_set_errno(errp, errno, "-s: a temporary image '%s'", path);
        return NULL;
    }
    close(fd);
    n = file_open(&fo, errp);
    unlink(path);
    return n;
}

bool serve_overlay_add(const struct serve_export *x, struct serve_graph *g, struct err **errp)
{
    struct node *file = open_temporary(errp), *n = NULL;
    struct qc_create_opts create = {
        .size = round_up(g->top->size, 512),
        .backing_name = x->image,
        .backing_format = x->format == FORMAT_QCOW2 ? "qcow2" : "raw",
    };
    struct qc_open_opts open = {.path = "the temporary image", .backing = g->top};

    if (!file)
        return false;
    if (qc_create(file, &create, errp))
        n = qc_open(file, &open, errp);
    if (!n) {
        node_unref(file);
        return err_prefix(errp, "-s: ");
    }
    node_unref(g->top); /* the overlay has taken a reference of its own */
    g->top = n;
    return true;
}
