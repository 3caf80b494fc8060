/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Making an image in a new file.
 */
#include "block/new_file.h"
#include "qcow2/qcow2_priv.h"

static bool fill(struct node *file, void *arg, struct err **errp)
{
    return qc_create(file, arg, errp);
}

bool qc_create_file(const char *path, const struct qc_create_opts *opts, bool overwrite,
                    struct err **errp)
{
    struct qc_create_opts copy = *opts;
    return new_file_make(path, overwrite, fill, &copy, errp);
}
