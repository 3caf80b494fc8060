/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which files a client may have opened. Where roots are given, the real path (all links resolved)
 * must lie below one of them, and that real path is what is opened: so a link that is changed
 * between the check and the opening leads nowhere else, and what an image names as relative to
 * itself is relative to where it really is.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "control/blockdev.h"
#include "faults/fault.h"
#include "filters/filters.h"

static bool is_below(const char *path, const char *root)
{
    size_t n = strlen(root);

    if (strcmp(root, "/") == 0)
        return true;
    return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* The real path of something that may have to be made: of its folder, and its own name. */
static char *real_path(const char *path)
{
    char real[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    if (realpath(path, real))
        return mem_strdup(real);
    if (errno != ENOENT || *name == '\0' || strcmp(name, "..") == 0 || strcmp(name, ".") == 0)
        return NULL;
    AUTO_FREE char *folder = slash ? mem_strndup(path, (size_t)(name - path)) : mem_strdup(".");
    if (!folder || !realpath(folder, real))
        return NULL;
    return mem_printf("%s/%s", strcmp(real, "/") == 0 ? "" : real, name);
}

char *path_allow(const struct control *c, const char *path, struct err **errp)
{
    char *copy;

    if (c->n_allow_path == 0) {
        copy = mem_strdup(path);
        if (!copy)
            err_set(errp, ENOMEM, "out of memory");
        return copy;
    }
    copy = real_path(path);
    for (unsigned i = 0; copy && i < c->n_allow_path; i++) {
        if (is_below(copy, c->allow_path[i]))
            return copy;
    }
    mem_free(copy);
    err_set(errp, EACCES,
            "Could not open '%s': it is not below a folder that was allowed with --allow-path",
            path);
    return NULL;
}

static char *allow_script(const void *arg, const char *path, struct err **errp)
{
    return path_allow(arg, path, errp);
}

struct rules *path_rules_new(const struct control *c)
{
    struct rules *r = rules_new(fault_names());

    if (r)
        rules_on_script(r, allow_script, c);
    return r;
}
