/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Several disks one behind the other, read as one.
 */
#ifndef BLOCK_CONCAT_H
#define BLOCK_CONCAT_H

#include "block/node.h"

extern const struct driver concat_driver;

/* concat_new: a read-only node that holds what the n >= 1 parts hold, each rounded up to sectors of
 * 512 bytes with zeros. Takes over the reference to each part on success only. */
struct node *concat_new(struct node *const *part, unsigned n, struct err **errp);

#endif
