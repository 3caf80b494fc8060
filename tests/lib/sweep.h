/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the sweeps share: options, a watchdog, and the line that replays a failure.
 */
#ifndef TESTS_LIB_SWEEP_H
#define TESTS_LIB_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

struct sweep_option {
    const char *name; /* as in --name VALUE */
    uint64_t *number; /* one of the two: */
    const char **text;
    const char *help;
};

/* sweep_options: parse the command line; options end with a NULL name. Exits on --help (0) and on
 * an error (2). */
void sweep_options(int argc, char **argv, const char *purpose, const struct sweep_option *options);

/* sweep_quiet: drop all log messages (what is injected would fill the screen). */
void sweep_quiet(void);
/* sweep_step: a run begins that this command replays. It must end within the time that a hang is
 * told from slowness by (20 s), or the program prints the command and exits with 1. */
void sweep_step(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* sweep_fail: print what went wrong and how to replay it; exits with 1, for what is left of the run
 * cannot be cleaned up after a hang. */
void sweep_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* sweep_end: print the sum line and return the exit code, 0. */
int sweep_end(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
