/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options, watchdog and replay lines of the sweeps.
 */
#include "tests/lib/sweep.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"

#define HANG_S 20

static const char *program;
static char replay[512];
static struct timespec started;

static void usage(FILE *to, const char *purpose, const struct sweep_option *options)
{
    fprintf(to, "usage: %s [--OPTION VALUE]...\n\n%s\n\n", program, purpose);
    for (; options->name; options++)
        fprintf(to, "  --%-12s %s\n", options->name, options->help);
}

static const struct sweep_option *find_option(const struct sweep_option *options, const char *word)
{
    if (strncmp(word, "--", 2) != 0)
        return NULL;
    for (; options->name; options++) {
        if (!strcmp(options->name, word + 2))
            return options;
    }
    return NULL;
}

static void on_alarm(int sig)
{
    static const char head[] = "it does not come to an end; replay:\n  ";
    ssize_t n = write(STDERR_FILENO, head, sizeof(head) - 1);
    n = write(STDERR_FILENO, replay, strlen(replay));
    (void)n;
    _exit(1);
}

void sweep_options(int argc, char **argv, const char *purpose, const struct sweep_option *options)
{
    program = argv[0];
    clock_gettime(CLOCK_MONOTONIC, &started);
    signal(SIGALRM, on_alarm);
    for (int i = 1; i < argc; i += 2) {
        if (!strcmp(argv[i], "--help")) {
            usage(stdout, purpose, options);
            exit(0);
        }
        const struct sweep_option *o = find_option(options, argv[i]);
        struct err *e = NULL;
        if (!o || i + 1 == argc) {
            usage(stderr, purpose, options);
            exit(2);
        }
        if (o->text) {
            *o->text = argv[i + 1];
        } else if (!parse_u64(argv[i + 1], o->name, 0, UINT64_MAX, o->number, &e)) {
            fprintf(stderr, "%s: %s\n", program, err_msg(e));
            exit(2);
        }
    }
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
}

void sweep_quiet(void)
{
    log_set_sink(drop_line, NULL);
}

void sweep_step(const char *fmt, ...)
{
    va_list ap;
    size_t used = (size_t)snprintf(replay, sizeof(replay), "%s ", program);
    va_start(ap, fmt);
    used += (size_t)vsnprintf(replay + used, sizeof(replay) - used - 1, fmt, ap);
    va_end(ap);
    strcpy(replay + (used < sizeof(replay) - 2 ? used : sizeof(replay) - 2), "\n");
    alarm(HANG_S);
}

void sweep_fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nreplay:\n  %s", replay);
    fflush(NULL);
    _exit(1);
}

int sweep_end(const char *fmt, ...)
{
    struct timespec now;
    va_list ap;
    alarm(0);
    clock_gettime(CLOCK_MONOTONIC, &now);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf(", %.1f s\n",
           (double)(now.tv_sec - started.tv_sec) + (double)(now.tv_nsec - started.tv_nsec) / 1e9);
    return 0;
}
