/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which format an image has: what the user says, or a name that ends in .qcow2. Never its content:
 * whoever may write to a raw disk could make it look like anything.
 */
#ifndef CLI_FORMAT_H
#define CLI_FORMAT_H

#include <stdbool.h>

#include "base/err.h"

enum image_format { FORMAT_UNSAID, FORMAT_QCOW2, FORMAT_RAW };

/* format_parse: option: for the message. */
bool format_parse(const char *text, const char *option, enum image_format *out, struct err **errp);
/* format_settle: replace FORMAT_UNSAID by what the name says; fails if it says nothing. option: the
 * one that could have said it. */
bool format_settle(const char *path, const char *option, enum image_format *f, struct err **errp);
const char *format_name(enum image_format f);

#endif
