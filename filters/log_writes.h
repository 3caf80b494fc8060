/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A log of all writes, in the format of Linux's dm-log-writes.
 */
#ifndef FILTERS_LOG_WRITES_H
#define FILTERS_LOG_WRITES_H

#include "block/node.h"

extern const struct driver log_writes_driver;

/* log_writes_open: what changes child goes to log as well, from its start on, in the order in which
 * it ended. sector_size: bytes, a power of two from 512 to 1 MiB; requests are aligned to it. The
 * superblock is written with each flush, and every update_interval (> 0) entries. Takes over both
 * references on success only. Yields. */
struct node *log_writes_open(struct node *child, struct node *log, uint64_t sector_size,
                             uint64_t update_interval, struct err **errp);

#endif
