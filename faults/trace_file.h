/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading a trace from its file, record by record.
 */
#ifndef FAULTS_TRACE_FILE_H
#define FAULTS_TRACE_FILE_H

#include "faults/trace.h"

struct trace_file;

/* trace_file_open: *seed is that of the header. NULL: *errp; EINVAL: it is no trace.
 * trace_file_next: 1: *out is the next record (of these names); 0: there is none; -1: *errp; EINVAL
 * names the byte from which on it is damaged, or that the sum of its last record differs.
 * trace_file_is_whole: after the last one: did whoever wrote it end in order? */
struct trace_file *trace_file_open(const char *path, uint64_t *seed, struct err **errp);
int trace_file_next(struct trace_file *f, const struct rules_names *names, struct trace_record *out,
                    struct err **errp);
bool trace_file_is_whole(const struct trace_file *f);
void trace_file_close(struct trace_file *f);

#endif
