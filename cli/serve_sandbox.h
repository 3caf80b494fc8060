/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sandbox as serve needs it.
 */
#ifndef CLI_SERVE_SANDBOX_H
#define CLI_SERVE_SANDBOX_H

#include "cli/serve_exports.h"
#include "cli/serve_opts.h"

/* serve_sandbox_enter: once all is open and nobody is served yet, with nothing in flight. False: it
 * was asked for (--sandbox=on) and is not possible. If it was not asked for, what is not possible
 * is logged. */
bool serve_sandbox_enter(const struct serve_opts *o, const struct serve_exports *e,
                         const struct listening *l, struct err **errp);

#endif
