/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What programs do to an image as a whole, for tool_steps.c to disturb.
 */
#ifndef TESTS_FAULTS_TOOLS_H
#define TESTS_FAULTS_TOOLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define TOOL_WRITTEN 4096 /* a tool that writes to the disk does so before this byte */

enum tool_kind {
    TOOL_LOOKS,   /* writes nothing */
    TOOL_WRITES,  /* keeps what the disk holds */
    TOOL_REPAIRS, /* the same; when it fails there may be more to repair */
    TOOL_ALTERS,  /* leaves a sound image */
    TOOL_MAKES,   /* on an empty file */
};

struct sim_disk;

struct tool_run {
    const struct tool *tool;
    struct sim_disk *disk;
    uint64_t mem_nth; /* > 0: the allocation to refuse, counted from the tool's start */
    bool mem_sticky;
    /* Out. */
    bool ok, mem_fired;
    struct err *e;
    uint64_t digest; /* of all that a tool that looks has found out */
};

struct tool {
    const char *name;
    enum tool_kind kind;
    bool (*fn)(struct tool_run *r); /* in a coroutine */
};

extern const struct tool tools[]; /* the last one has no name */

#endif
