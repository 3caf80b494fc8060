/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What can be found wrong with serve's options without taking an image away from who uses it.
 */
#ifndef CLI_SERVE_CHECK_H
#define CLI_SERVE_CHECK_H

#include "cli/serve_opts.h"

/* serve_check: --check. Prints the exports, or what is wrong; returns the exit code. */
int serve_check(const struct serve_opts *o);
/* serve_has_views: may an export of o have frozen views? */
bool serve_has_views(const struct serve_opts *o);
/* serve_check_scratch: if there may be views, can their folder be written to? Said at the start,
 * not when the first view is opened in the night. */
bool serve_check_scratch(const struct serve_opts *o, bool has_views, struct err **errp);

#endif
