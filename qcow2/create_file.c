/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making an image in a new file, and the data file that it names in another.
 *
 * The image is whole before the data file gets its name, and gets its own last: what fails before
 * leaves files that exist as they were.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "block/new_file.h"
#include "qcow2/qcow2_priv.h"

struct make {
    const char *path;
    struct qc_create_opts o;
    bool overwrite;
};

static bool fill_data(struct node *file, void *arg, struct err **errp)
{
    return qc_create_data(file, arg, errp);
}

static bool fill(struct node *file, void *arg, struct err **errp)
{
    struct make *m = arg;
    if (!qc_create(file, &m->o, errp))
        return false;
    if (!m->o.data_file)
        return true;
    const char *slash = m->o.data_file[0] == '/' ? NULL : strrchr(m->path, '/');
    int folder = slash ? (int)(slash + 1 - m->path) : 0;
    AUTO_FREE char *path = mem_printf("%.*s%s", folder, m->path, m->o.data_file);
    if (!path)
        return err_set(errp, ENOMEM, "out of memory");
    return new_file_make(path, m->overwrite, fill_data, &m->o, errp) ||
           err_prefix(errp, "the data file: ");
}

bool qc_create_file(const char *path, const struct qc_create_opts *opts, bool overwrite,
                    struct err **errp)
{
    struct make m = {.path = path, .o = *opts, .overwrite = overwrite};
    return new_file_make(path, overwrite, fill, &m, errp);
}
