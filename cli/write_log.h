/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Recordings as files: the log of the Linux kernel's dm-log-writes, so that its tools read ours and
 * ours reads its. Source: Documentation/admin-guide/device-mapper/log-writes.rst of Linux, and the
 * layout that it names: a superblock, then entries, everything little-endian, padded to sectors.
 */
#ifndef CLI_WRITE_LOG_H
#define CLI_WRITE_LOG_H

#include "base/err.h"
#include "faults/recording.h"

/* write_log_save: a new file, or the old one replaced. disk_size is noted in it. EINVAL: something
 * in the recording is not made of whole sectors. Blocks. */
bool write_log_save(const char *path, const struct recording *r, uint64_t disk_size,
                    struct err **errp);
/* write_log_load: into an empty recording, for a disk of disk_size bytes, or one that grows.
 * EINVAL: it is no such log, is cut short, or was made with another disk; EFBIG: it holds more than
 * r->limit bytes of data. Blocks. */
bool write_log_load(const char *path, uint64_t disk_size, bool growable, struct recording *r,
                    struct err **errp);

#endif
