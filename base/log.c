/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Log lines are built in a fixed buffer and written by one write(2), so that lines of several
 * threads do not mix and logging works without memory. Overlong lines are cut.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static _Atomic int current_level = LOG_LEVEL_WARN;
static log_sink *sink;
static void *sink_arg;

void log_set_level(enum log_level level)
{
    current_level = (int)level;
}

enum log_level log_get_level(void)
{
    return (enum log_level)current_level;
}

void log_set_sink(log_sink *fn, void *arg)
{
    sink = fn;
    sink_arg = arg;
}

static void write_line(const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, line, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nowhere left to complain */
        line += n;
        len -= (size_t)n;
    }
}

void log_at(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if ((int)level > current_level)
        return;

    int saved_errno = errno;
    char line[LINE_MAX_BYTES];
    int head = 0;
    if (!sink)
        head = snprintf(line, sizeof(line), "breakwater: %s: ", names[level]);
    va_list ap;
    va_start(ap, fmt);
    int body = vsnprintf(line + head, sizeof(line) - 1 - (size_t)head, fmt, ap);
    va_end(ap);
    if (body < 0)
        body = 0;
    size_t len = strnlen(line, sizeof(line) - 2);
    if (sink) {
        sink(level, line, sink_arg);
    } else {
        line[len] = '\n';
        write_line(line, len + 1);
    }
    errno = saved_errno;
}
