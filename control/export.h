/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The NBD server of a control object, and its exports.
 */
#ifndef CONTROL_EXPORT_H
#define CONTROL_EXPORT_H

#include "control/control_priv.h"

/* exports_stop: remove all exports and stop the server, if there is one. The first error of a last
 * flush goes to *errp. Yields. */
bool exports_stop(struct control *c, struct err **errp);

#endif
