/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blkdebug's options and file names, as QEMU's programs take them.
 */
#ifndef FAULTS_OPTIONS_H
#define FAULTS_OPTIONS_H

#include "faults/rules.h"

struct fault_option { /* "inject-error.0.event", "read_aio" */
    const char *key, *value;
};

/* Limits that the filter shall have instead of its child's; 0: the child's. Bytes. */
struct fault_limits {
    uint64_t align, max_transfer;
    uint64_t opt_write_zero, max_write_zero;
    uint64_t opt_discard, max_discard;
};

/* rules_load_blkdebug: config (a rule file), align, max-transfer, opt-write-zero, max-write-zero,
 * opt-discard, max-discard, and rules: inject-error.N.KEY and set-state.N.KEY with N from 0, or
 * without N for a single rule. *limits is only read here; the filter checks it. On failure nothing
 * was added. Errors have blkdebug's texts where it has one. Does not yield. */
bool rules_load_blkdebug(struct rules *r, const struct fault_option *v, size_t n,
                         struct fault_limits *limits, struct err **errp);

/* blkdebug_split_name: "blkdebug:CONFIG:IMAGE" into a new string and the rest of name; CONFIG may
 * be empty. Any other name: *config is NULL, *image is name. */
bool blkdebug_split_name(const char *name, char **config, const char **image, struct err **errp);

#endif
