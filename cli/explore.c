/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater explore`: record a workload, and check what every power cut could have left.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "block/file.h"
#include "block/mem_disk.h"
#include "cli/cli.h"
#include "cli/explore.h"
#include "cli/signals.h"
#include "cli/work.h"
#include "cli/write_log.h"
#include "io/io.h"
#include "io/reactor.h"
#include "qcow2/qcow2.h"

struct session {
    struct explore_opts o;
    struct explore x;
    int signal_fd;
    bool done;
    struct co_group watcher;
    struct err *error;
};

int64_t explore_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

void explore_failure_free(struct explore_failure *f)
{
    mem_free(f->mark);
    mem_free(f->what);
    mem_free(f->result);
    mem_free(f->output);
    mem_free(f->kept);
    *f = (struct explore_failure){0};
}

/* --- What is said --- */

void explore_progress(struct explore *x)
{
    int64_t now = explore_now();

    if (x->o->quiet || x->o->json || x->o->state != UINT64_MAX ||
        now - x->shown_ns < NS_PER_S / 5 || !isatty(STDERR_FILENO))
        return;
    x->shown_ns = now;
    fprintf(stderr, "\r%" PRIu64 " states of %" PRIu64 " moments, %" PRIu64 " failed\033[K",
            x->tested, x->moments + 1, x->failing);
}

static void end_progress(const struct explore *x)
{
    if (x->shown_ns)
        fprintf(stderr, "\r\033[K");
}

static void print_indented(const char *text)
{
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");

        printf("    ");
        for (size_t i = 0; i < n; i++)
            putchar((unsigned char)p[i] < ' ' && p[i] != '\t' ? '?' : p[i]);
        putchar('\n');
        p += n + (p[n] == '\n');
    }
}

/* As a shell reads it. */
static void print_quoted(const char *text)
{
    if (*text && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                              "_-./:=+@%,") == strlen(text)) {
        fputs(text, stdout);
        return;
    }
    putchar('\'');
    for (const char *p = text; *p; p++) {
        if (*p == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*p);
    }
    putchar('\'');
}

static void print_option(const char *name, const char *value)
{
    printf(" --%s ", name);
    print_quoted(value);
}

static void print_replay(const struct explore *x)
{
    const struct explore_opts *o = x->o;
    const char *log = o->record ? o->record : o->replay;

    if (!log) {
        printf("with --record FILE this state could be looked at again\n");
        return;
    }
    printf("again: breakwater explore");
    if (o->disk)
        print_option("disk", o->disk);
    else
        printf(" --size %" PRIu64, o->size);
    if (o->disk)
        printf(" --format %s", format_name(o->format));
    if (o->host)
        printf(" --layer host");
    if (o->backing_dir)
        print_option("backing-dir", o->backing_dir);
    print_option("replay", log);
    if (o->since)
        print_option("since", o->since);
    print_option("check", o->check);
    printf(" --states %u --atomic %u --seed %" PRIu64 " --state %" PRIu64 "\n", o->states,
           o->atomic, o->seed, x->first.state);
}

static void print_failure(const struct explore *x)
{
    const struct explore_failure *f = &x->first;

    printf("state %" PRIu64 " failed: %s\n  left: %s\n", f->state, f->result, f->what);
    if (*f->mark)
        printf("  mark: %s\n", f->mark);
    if (f->output && *f->output) {
        printf("  the check said:\n");
        print_indented(f->output);
    }
    if (f->kept)
        printf("  kept as %s\n", f->kept);
    print_replay(x);
}

static double seconds(const struct explore *x)
{
    return (double)(x->ended_ns - x->begun_ns + 1) / (double)NS_PER_S;
}

static json_t *failure_json(const struct explore_failure *f)
{
    json_t *j = json_object();

    json_object_set_new(j, "state", json_integer((json_int_t)f->state));
    json_object_set_new(j, "left", work_string(f->what));
    json_object_set_new(j, "mark", work_string(f->mark));
    json_object_set_new(j, "result", work_string(f->result));
    json_object_set_new(j, "output", work_string(f->output ? f->output : ""));
    if (f->kept)
        json_object_set_new(j, "kept", work_string(f->kept));
    return j;
}

static bool report_json(const struct explore *x)
{
    json_t *j = json_object();

    json_object_set_new(j, "entries", json_integer((json_int_t)x->recording.n));
    json_object_set_new(j, "moments", json_integer((json_int_t)x->moments));
    json_object_set_new(j, "states", json_integer((json_int_t)x->tested));
    json_object_set_new(j, "failing", json_integer((json_int_t)x->failing));
    json_object_set_new(j, "interrupted", json_boolean(x->interrupted));
    json_object_set_new(j, "seconds", json_real(seconds(x)));
    if (x->failing)
        json_object_set_new(j, "first", failure_json(&x->first));
    return work_json(j);
}

bool explore_report(const struct explore *x)
{
    end_progress(x);
    if (x->o->json)
        return report_json(x);
    if (x->failing && !x->o->quiet)
        print_failure(x);
    if (!x->o->quiet)
        printf("%" PRIu64 " states of %" PRIu64 " moments, %" PRIu64 " failed; %.0f a second%s\n",
               x->tested, x->moments, x->failing, (double)x->tested / seconds(x),
               x->interrupted ? "; interrupted" : "");
    return fflush(stdout) == 0 && !ferror(stdout);
}

/* --- What is done --- */

static struct node *open_image(const struct explore_opts *o, struct err **errp)
{
    struct file_opts fo = {.path = o->disk, .read_only = true};
    struct qc_open_opts qo = {.path = o->disk, .backing_dir = o->backing_dir, .read_only = true};
    struct node *file = file_open(&fo, errp), *n;

    if (!file || o->host || o->format == FORMAT_RAW)
        return file;
    n = qc_open(file, &qo, errp);
    if (!n)
        node_unref(file);
    return n;
}

static bool open_base(struct session *s, struct err **errp)
{
    s->x.base = s->o.disk ? open_image(&s->o, errp) : mem_open(s->o.size, errp);
    if (!s->x.base)
        return false;
    return s->o.host || s->x.base->size % 512 == 0 ||
           err_set(errp, EINVAL, "'%s' has %" PRIu64 " bytes, which is no multiple of 512",
                   s->o.disk, s->x.base->size);
}

static bool get_recording(struct session *s, struct err **errp)
{
    struct explore *x = &s->x;

    if (s->o.replay)
        return write_log_load(s->o.replay, x->base->size, s->o.host, &x->recording, errp);
    return explore_record(x, errp) &&
           (!s->o.record || write_log_save(s->o.record, &x->recording, x->base->size, errp));
}

static void watch_signals(void *arg)
{
    struct session *s = arg;
    struct signalfd_siginfo info;

    if (io_poll(s->signal_fd, POLLIN, IO_NO_DEADLINE) >= 0 && !s->done &&
        read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        commands_stop(&s->x.commands);
    co_group_done(&s->watcher);
}

static bool work_it(struct session *s, struct err **errp)
{
    struct explore *x = &s->x;

    if (!open_base(s, errp) || !explore_listen(x, errp) || !get_recording(s, errp))
        return false;
    if (!s->o.check)
        return true;
    if (!explore_states(x, errp)) {
        /* Hours of checks are not thrown away because the user has no time for the rest. */
        x->interrupted = x->commands.stopped && err_code(*errp) == EINTR;
        if (x->interrupted)
            explore_report(x);
        return false;
    }
    return explore_report(x) || err_set_errno(errp, errno, "standard output");
}

static void session_main(void *arg)
{
    struct session *s = arg;
    struct explore *x = &s->x;

    co_group_add(&s->watcher);
    if (!co_start(watch_signals, s))
        co_group_done(&s->watcher);
    work_it(s, &s->error);
    end_progress(x);
    explore_unlisten(x);
    node_unref(x->base);
    recording_free(&x->recording);
    s->done = true;
    io_cancel_fd(s->signal_fd);
    co_group_wait(&s->watcher);
}

/* An interrupted exploration that has found a failing state has answered what it was asked. */
static int exit_code(struct session *s)
{
    bool failing = s->x.failing > 0;

    if (!s->error)
        return failing ? CLI_STATE_FAILED : CLI_OK;
    return cli_fail(failing && s->x.interrupted ? CLI_STATE_FAILED : CLI_FAILED, s->error);
}

static int run(struct session *s)
{
    struct reactor *r;
    int code;

    s->signal_fd = signals_open(false);
    if (s->signal_fd < 0) {
        err_set_errno(&s->error, errno, "signals");
        return cli_fail(CLI_FAILED, s->error);
    }
    if (!reactor_new(REACTOR_AUTO, &r, &s->error))
        return cli_fail(CLI_FAILED, s->error);
    if (!reactor_run_co(r, session_main, s))
        err_set(&s->error, ENOMEM, "out of memory");
    reactor_free(r);
    close(s->signal_fd);
    code = exit_code(s);
    explore_failure_free(&s->x.first);
    return code;
}

static int explore_main(int argc, char **argv)
{
    struct session s = {.signal_fd = -1};
    struct err *e = NULL;
    int parsed, code;

    if (argc > 1 && strcmp(argv[1], "mark") == 0)
        return explore_mark(argc, argv);
    parsed = explore_parse(argc, argv, &s.o, &e);
    if (parsed == 0)
        return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
    if (parsed < 0) {
        code = cli_usage("explore", "%s", err_msg(e));
        err_free(e);
        return code;
    }
    s.x.o = &s.o;
    s.x.mark_fd = -1;
    s.x.recording.limit = s.o.limit;
    return run(&s);
}

const struct subcommand explore_command = {
    .name = "explore",
    .summary = "check what power cuts could leave of a workload",
    .run = explore_main,
};
