/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Choosing the format of an image.
 */
#include "cli/format.h"

#include <errno.h>
#include <string.h>

bool format_parse(const char *text, const char *option, enum image_format *out, struct err **errp)
{
    if (strcmp(text, "qcow2") == 0)
        *out = FORMAT_QCOW2;
    else if (strcmp(text, "raw") == 0)
        *out = FORMAT_RAW;
    else
        return err_set(errp, EINVAL, "%s: '%s' is not known; it is qcow2 or raw", option, text);
    return true;
}

bool format_settle(const char *path, const char *option, enum image_format *f, struct err **errp)
{
    size_t n = strlen(path);

    if (*f != FORMAT_UNSAID)
        return true;
    if (n < 6 || strcmp(path + n - 6, ".qcow2") != 0)
        return err_set(errp, EINVAL,
                       "what is the format of '%s'? Say %s qcow2 or %s raw: it is not guessed",
                       path, option, option);
    *f = FORMAT_QCOW2;
    return true;
}

const char *format_name(enum image_format f)
{
    return f == FORMAT_QCOW2 ? "qcow2" : "raw";
}
