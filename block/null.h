/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A leaf that keeps nothing: to measure what is above it.
 */
#ifndef BLOCK_NULL_H
#define BLOCK_NULL_H

#include <stdbool.h>
#include <stdint.h>

#include "block/node.h"

extern const struct driver null_driver;

/* null_open: size bytes. Writes succeed and are forgotten, reads bring zeros; read_zeroes: block
 * status says so, too. Each request takes latency_ns (0: it does not yield). */
struct node *null_open(uint64_t size, bool read_zeroes, int64_t latency_ns, bool read_only,
                       struct err **errp);

#endif
