/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater serve`: open the image, listen, serve until a signal, then drain, flush and close.
 *
 * Everything runs in coroutines of one reactor. The signals are blocked before any thread starts
 * and read from a descriptor, so nothing happens in signal handlers.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/notify.h"
#include "cli/serve_check.h"
#include "cli/serve_exports.h"
#include "cli/serve_opts.h"
#include "cli/serve_run.h"
#include "cli/serve_sandbox.h"
#include "cli/signals.h"
#include "control/control.h"
#include "io/io.h"
#include "io/lock.h"
#include "io/reactor.h"

struct serve {
    int argc;
    char **argv; /* for reading the configuration again */
    struct serve_opts opts;
    struct serve_exports exports;
    struct server *server;
    struct control *control; /* NULL: no control socket */
    struct tls_creds *creds; /* NULL: no TLS */
    int signal_fd, notify_fd;
    struct listening listening;
    struct serve_run run;
    bool has_views;
    bool pid_written;
    bool nobody; /* there is nobody to serve any more */
    bool stopping, stopped;
    bool reloading, reload_again;
    struct co_queue reloaded;
    int stop_result;
    struct err *error;
    int exit_code;
};

static bool load_creds(struct serve *sv, struct err **errp)
{
    const struct serve_tls *t = &sv->opts.tls;

    if (t->mode != SERVER_TLS_OFF)
        sv->creds = tls_creds_load(&t->creds, errp);
    return t->mode == SERVER_TLS_OFF || sv->creds;
}

/* What is wrong with new files must not end the service of the old. */
static void reload_creds(struct serve *sv)
{
    struct err *e = NULL;
    struct tls_creds *creds = tls_creds_load(&sv->opts.tls.creds, &e);

    if (!creds) {
        log_error("the old TLS credentials stay in use: %s", err_msg(e));
        err_free(e);
        return;
    }
    server_set_creds(sv->server, creds);
    tls_creds_unref(sv->creds);
    sv->creds = creds;
    log_info("new TLS credentials are in use");
}

/* The one client of --stdin, or of an inherited connection, has left. */
static void nobody_comes(void *arg)
{
    struct serve *sv = arg;

    log_info("nobody is left, and nobody can come");
    sv->nobody = true;
    io_cancel_fd(sv->signal_fd);
}

/* The command of --run is done. */
static void run_ended(void *arg)
{
    struct serve *sv = arg;

    if (sv->stopping)
        return; /* it was ended */
    sv->nobody = true;
    io_cancel_fd(sv->signal_fd);
}

/* A client has sent quit. */
static void on_quit(void *arg)
{
    nobody_comes(arg);
}

static bool start_control(struct serve *sv, struct err **errp)
{
    struct control_opts co = {0};

    if (!sv->opts.control)
        return true;
    sv->control = control_new(&co, errp);
    if (!sv->control)
        return false;
    control_on_quit(sv->control, on_quit, sv);
    return serve_exports_adopt(&sv->exports, sv->control, errp) &&
           control_listen_unix(sv->control, sv->opts.control, false, errp);
}

static void stop_control(struct serve *sv)
{
    struct err *e = NULL;

    if (sv->control && !control_stop(sv->control, &e)) {
        if (sv->error)
            err_free(e);
        else
            sv->error = e;
    }
    control_free(sv->control);
    sv->control = NULL;
}

static bool start_listening(struct serve *sv, struct err **errp)
{
    AUTO_FREE struct listen_export *names = NULL;
    unsigned n = 0;

    for (const struct serve_running *r = sv->exports.first; r; r = r->next)
        n++;
    names = mem_array(n + 1, sizeof(*names));
    if (!names)
        return err_set(errp, ENOMEM, "out of memory for URIs");
    n = 0;
    for (const struct serve_running *r = sv->exports.first; r; r = r->next) {
        bool tls = sv->opts.tls.mode == SERVER_TLS_REQUIRE || r->x->tls_only || r->x->authz.authz;
        names[n++] = (struct listen_export){r->x->name, tls};
    }
    return listen_all(sv->server, &sv->opts.listen, names, n, &sv->listening, errp);
}

/* Early enough: what confines the server may forbid to run programs. */
static bool start_run(struct serve *sv, struct err **errp)
{
    const struct serve_opts *o = &sv->opts;

    if (o->exit_with_parent && !serve_run_end_with_parent(errp))
        return false;
    return !o->run || serve_run_start(&sv->run, o->run, &sv->listening, sv->exports.first->x->name,
                                      run_ended, sv, errp);
}

static bool start(struct serve *sv, struct err **errp)
{
    struct serve_opts *o = &sv->opts;
    struct server_opts so = o->server;

    sv->has_views = serve_has_views(o);
    if (!serve_check_scratch(o, sv->has_views, errp) || !load_creds(sv, errp))
        return false;
    so.exit_when_deserted = true;
    so.tls = o->tls.mode;
    so.creds = sv->creds;
    sv->server = server_new(&so, errp);
    if (!sv->server)
        return false;
    sv->exports.server = sv->server;
    if (!serve_exports_open(&sv->exports, o, errp))
        return false;
    server_on_idle(sv->server, nobody_comes, sv);
    if (!start_listening(sv, errp) || !start_control(sv, errp))
        return false;
    if (o->pid_file && !pid_file_write(o->pid_file, errp))
        return false;
    sv->pid_written = o->pid_file;
    sv->notify_fd = notify_open();
    /* Once more as who we are then: views are made later. */
    if (!privileges_drop(&o->privileges, errp) || !start_run(sv, errp) ||
        !serve_check_scratch(o, sv->has_views, errp))
        return false;
    if (!serve_sandbox_enter(o, &sv->exports, &sv->listening, errp))
        return false;
    serve_exports_let_hang(&sv->exports, true);
    fflush(stdout);
    daemon_ready();
    notify_say(sv->notify_fd, NOTIFY_READY);
    return true;
}

/* --- SIGHUP --- */

/* An invalid file changes nothing. */
static void reload_config(struct serve *sv)
{
    struct serve_opts fresh;
    struct err *e = NULL;

    if (serve_parse_again(sv->argc, sv->argv, &fresh, &e)) {
        if (!said_equal(&fresh.said, &sv->opts.said))
            log_warn("%s: what has changed in [server] counts when the server is started again",
                     sv->opts.config);
        serve_exports_reload(&sv->exports, &fresh);
        log_info("%s is read again", sv->opts.config);
    } else {
        log_error("nothing is changed: %s", err_msg(e));
        err_free(e);
    }
    serve_opts_free(&fresh);
}

/* Exports that go wait for their clients: meanwhile other signals shall be heard. */
static void reload_run(void *arg)
{
    struct serve *sv = arg;

    notify_say(sv->notify_fd, NOTIFY_RELOADING);
    do {
        sv->reload_again = false;
        if (sv->creds)
            reload_creds(sv);
        if (sv->opts.config)
            reload_config(sv);
    } while (sv->reload_again);
    sv->reloading = false;
    notify_say(sv->notify_fd, NOTIFY_READY);
    co_queue_wake_all(&sv->reloaded);
}

static void reload(struct serve *sv)
{
    sv->reload_again = sv->reloading;
    if (sv->reloading)
        return;
    sv->reloading = true;
    if (co_start(reload_run, sv))
        return;
    log_error("nothing is changed: out of memory");
    sv->reloading = false;
}

/* --- The end --- */

static void stop_run(void *arg)
{
    struct serve *sv = arg;

    serve_run_stop(&sv->run);
    serve_exports_let_hang(&sv->exports, false);
    while (sv->reloading)
        co_queue_wait(&sv->reloaded);
    stop_control(sv);
    sv->stop_result = server_stop(sv->server, false);
    sv->stopped = true;
    io_cancel_fd(sv->signal_fd);
}

/* True: a signal, or there is nobody to serve. */
static bool wait_signal(struct serve *sv)
{
    struct signalfd_siginfo info;

    for (;;) {
        if (sv->stopped)
            return false;
        if (sv->nobody) {
            sv->nobody = false;
            return true;
        }
        int r = io_poll(sv->signal_fd, POLLIN, IO_NO_DEADLINE);
        if (r == -ECANCELED)
            continue;
        if (r < 0)
            return false;
        if (read(sv->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
            continue;
        log_info("%s", strsignal((int)info.ssi_signo));
        if (info.ssi_signo != SIGHUP || !(sv->creds || sv->opts.config))
            return true;
        if (!sv->stopping)
            reload(sv);
    }
}

/* The first signal drains, the second forces. */
static void serve_until_signal(struct serve *sv)
{
    if (!wait_signal(sv))
        return;
    sv->stopping = true;
    notify_say(sv->notify_fd, NOTIFY_STOPPING);
    sv->reload_again = false;
    listen_remove_files(&sv->listening);
    if (!co_start(stop_run, sv)) {
        stop_run(sv);
        return;
    }
    if (wait_signal(sv) && !sv->stopped) {
        log_warn("forced: requests in flight are abandoned and nothing is flushed");
        server_stop(sv->server, true);
        pid_file_remove(sv->opts.pid_file);
        _exit(CLI_FAILED);
    }
}

static void serve_main(void *arg)
{
    struct serve *sv = arg;

    if (start(sv, &sv->error)) {
        serve_until_signal(sv);
        serve_exports_finish(&sv->exports, sv->stop_result, &sv->error);
    } else if (sv->server) {
        serve_run_stop(&sv->run);
        stop_control(sv);
        server_stop(sv->server, false);
    }
    listen_end(&sv->listening);
    server_free(sv->server);
    tls_creds_unref(sv->creds);
    serve_exports_close(&sv->exports);
    /* Last: who waits for the file to go wants to use the image. */
    if (sv->pid_written)
        pid_file_remove(sv->opts.pid_file);
    sv->exit_code = sv->run.code;
}

static int run_reactor(struct serve *sv)
{
    struct reactor *r;
    struct err *e = NULL;

    if (!reactor_new(REACTOR_AUTO, &r, &e))
        return cli_fail(CLI_FAILED, e);
    log_info("I/O through %s", reactor_name(r));
    bool ran = reactor_run_co(r, serve_main, sv);
    reactor_free(r);
    if (!ran)
        err_set(&sv->error, ENOMEM, "out of memory");
    return sv->error ? cli_fail(CLI_FAILED, sv->error) : sv->exit_code;
}

/* usage: what to do about a wrong command line; returns the exit code. */
static int serve_as(enum serve_parse (*parse)(int, char **, struct serve_opts *, struct err **),
                    int (*usage)(const char *text), int argc, char **argv)
{

    struct serve sv = {.argc = argc, .argv = argv, .signal_fd = -1, .notify_fd = -1};
    struct err *e = NULL;
    int code = CLI_OK;

    switch (parse(argc, argv, &sv.opts, &e)) {
    case SERVE_DONE:
        break;
    case SERVE_WRONG:
        code = usage(err_msg(e));
        err_free(e);
        break;
    case SERVE_RUN:
        if (sv.opts.only_check) {
            code = serve_check(&sv.opts);
            break;
        }
        if (!listen_standard_streams(&sv.opts.listen, &e) || (sv.opts.fork && !daemon_fork(&e))) {
            code = cli_fail(CLI_FAILED, e);
            break;
        }
        sv.signal_fd = signals_open(sv.opts.tls.mode != SERVER_TLS_OFF || sv.opts.config);
        if (sv.signal_fd < 0) {
            err_set_errno(&e, errno, "signals");
            code = cli_fail(CLI_FAILED, e);
            break;
        }
        code = run_reactor(&sv);
        close(sv.signal_fd);
        if (sv.notify_fd >= 0)
            close(sv.notify_fd);
        break;
    }
    serve_opts_free(&sv.opts);
    return code;
}

static int serve_usage(const char *text)
{
    return cli_usage("serve", "%s", text);
}

static int serve_run(int argc, char **argv)
{
    return serve_as(serve_parse, serve_usage, argc, argv);
}

static int qemu_nbd_usage(const char *text)
{
    fprintf(stderr, "qemu-nbd: %s\nTry 'qemu-nbd --help'.\n", text);
    return CLI_USAGE;
}

/* qemu-nbd knows one exit code for all that can fail. */
static int qemu_nbd_run(int argc, char **argv)
{
    return serve_as(qemu_nbd_parse, qemu_nbd_usage, argc, argv) == CLI_OK ? 0 : 1;
}

const struct subcommand serve_command = {
    .name = "serve",
    .summary = "serve a disk image over NBD",
    .run = serve_run,
};

const struct subcommand qemu_nbd_command = {
    .name = "qemu-nbd",
    .summary = "serve a disk image over NBD, as qemu-nbd",
    .run = qemu_nbd_run,
};
