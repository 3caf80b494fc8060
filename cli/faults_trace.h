/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading traces of faults.
 */
#ifndef CLI_FAULTS_TRACE_H
#define CLI_FAULTS_TRACE_H

#include <stdbool.h>

/* faults_trace: print a trace, one record a line. The exit code. */
int faults_trace(const char *path, bool json);

#endif
