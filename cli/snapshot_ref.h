/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Naming an internal snapshot on the command line, as qemu-nbd and qemu-img do.
 */
#ifndef CLI_SNAPSHOT_REF_H
#define CLI_SNAPSHOT_REF_H

#include "base/err.h"
#include "qcow2/snapshot.h"

/* snapshot_ref_parse: "snapshot.id=ID,snapshot.name=NAME", either alone, or an id or name. *ref
 * points into text, or into *owned (free it), which is NULL if there is nothing to free. */
bool snapshot_ref_parse(const char *text, const char *option, struct qc_snapshot_ref *ref,
                        char **owned, struct err **errp);

#endif
