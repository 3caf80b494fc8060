/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A leaf in memory: sparse, zero-filled, growable on request.
 */
#ifndef BLOCK_MEM_DISK_H
#define BLOCK_MEM_DISK_H

#include "block/node.h"

extern const struct driver mem_driver;

/* mem_open: a disk of size bytes that reads as zeros. Memory is taken as it is written. */
struct node *mem_open(uint64_t size, struct err **errp);

#endif
