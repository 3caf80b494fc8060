/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Logging to standard error, one line a message, with levels. Thread-safe; never fails.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* log_set_level: messages above this level are dropped (default: LOG_LEVEL_WARN). */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* log_set_sink: test hook; messages (without newline) go to fn instead. NULL restores stderr. */
typedef void log_sink(enum log_level level, const char *line, void *arg);
void log_set_sink(log_sink *fn, void *arg);

void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
/* The level test comes first so that a debug line on a hot path costs one load when off. */
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_get_level() >= LOG_LEVEL_DEBUG)                                                    \
            log_at(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                  \
    } while (0)

#endif
