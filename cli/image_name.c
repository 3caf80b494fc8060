/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How images are named on the command line: a path, or blkdebug:RULES:PATH. Whatever else qemu-img
 * takes (json:, nbd: and other protocols) is refused by name: a file of such a name would be read,
 * or worse made, where something else was meant.
 */
#include <errno.h>
#include <string.h>

#include "block/file.h"
#include "cli/image.h"
#include "filters/filters.h"

bool image_name_split(const char **name, char **rules, struct err **errp)
{
    if (!blkdebug_split_name(*name, rules, name, errp))
        return false;
    const char *path = *name;
    size_t n = strcspn(path, ":/");
    return path[n] != ':' ||
           err_set(errp, ENOTSUP,
                   "'%s' names the protocol '%.*s': images are files here (./%s for a file of "
                   "this name)",
                   path, (int)n, path, path);
}

/* rules: takes file over, also on failure. */
static struct node *add_rules(struct node *file, const char *path, struct err **errp)
{
    struct rules *rules = rules_new(fault_names());
    struct node *n = NULL;
    if (!rules)
        err_set(errp, ENOMEM, "out of memory for fault rules");
    else if (!*path || rules_load_file(rules, path, errp))
        n = fault_open(file, rules, errp);
    if (!n) {
        rules_free(rules);
        node_unref(file);
    }
    return n;
}

struct node *image_file_open(const struct file_opts *fo, const char *rules, struct err **errp)
{
    struct node *file = file_open(fo, errp);
    return file && rules ? add_rules(file, rules, errp) : file;
}
