/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `breakwater daemon`: nodes and exports under the control of QMP; under the name
 * qemu-storage-daemon a drop-in for it.
 *
 * Options are carried out in order, each as the QMP command that does the same.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse.h"
#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/qsd_opts.h"
#include "cli/signals.h"
#include "control/control.h"
#include "control/schema.h"
#include "io/io.h"
#include "io/reactor.h"

struct qsd {
    struct qsd_opts opts;
    struct control *control;
    json_t *chardevs; /* id -> options */
    int signal_fd;
    bool quit, stopped, pid_written;
    struct err *error;
};

static bool run_command(struct qsd *q, const char *command, const char *text, const char *implied,
                        struct err **errp)
{
    json_t *args = dotted_parse(text, implied, errp);
    bool ok = args && control_run(q->control, command, args, *text != '{', NULL, errp);

    json_decref(args);
    return ok;
}

/* On the command line an address is flat: addr.type=unix,addr.path=... */
static bool start_nbd_server(struct qsd *q, const char *text, struct err **errp)
{
    json_t *args = dotted_parse(text, NULL, errp), *addr;
    bool ok = false;

    if (!args)
        return false;
    addr = json_object_get(args, "addr");
    if (json_is_object(addr) && !json_object_get(addr, "data")) {
        json_t *data = json_deep_copy(addr);

        json_object_del(data, "type");
        addr = json_pack("{s:O*,s:o}", "type", json_object_get(addr, "type"), "data", data);
        if (!addr || json_object_set_new(args, "addr", addr) < 0) {
            err_set(errp, ENOMEM, "out of memory");
            goto out;
        }
    }
    ok = control_run(q->control, "nbd-server-start", args, *text != '{', NULL, errp);
out:
    json_decref(args);
    return ok;
}

/* bitmap=NAME is an older way to write bitmaps.0=NAME; name=... is checked by the command. */
static bool add_export(struct qsd *q, const char *text, struct err **errp)
{
    json_t *args = dotted_parse(text, "type", errp), *bitmap;
    bool ok;

    if (!args)
        return false;
    bitmap = json_object_get(args, "bitmap");
    if (bitmap && !json_object_get(args, "bitmaps")) {
        json_object_set_new(args, "bitmaps", json_pack("[O]", bitmap));
        json_object_del(args, "bitmap");
    }
    ok = control_run(q->control, "block-export-add", args, *text != '{', NULL, errp);
    json_decref(args);
    return ok;
}

static bool add_chardev(struct qsd *q, const char *text, struct err **errp)
{
    json_t *args = dotted_parse(text, "backend", errp);
    const char *backend, *id;
    bool ok = false;

    if (!args)
        return false;
    backend = arg_str(args, "backend");
    id = arg_str(args, "id");
    if (!backend || strcmp(backend, "socket") != 0)
        err_set(errp, ENOTSUP, "chardev '%s' is not there; only 'socket' is",
                backend ? backend : "(none)");
    else if (!id || !*id)
        err_set(errp, EINVAL, "Parameter 'id' is missing");
    else if (json_object_get(q->chardevs, id))
        err_set(errp, EEXIST, "Chardev with id '%s' already exists", id);
    else if (arg_has(args, "port") && !arg_has(args, "tls-creds"))
        err_set(errp, EACCES,
                "chardev '%s': a control socket over TCP needs TLS with client certificates: "
                "tls-creds=ID of an --object tls-creds-x509",
                id);
    else if (!arg_str(args, "path") && !arg_str(args, "port"))
        err_set(errp, EINVAL, "Parameter 'path' is missing");
    else
        ok = true;
    if (ok && json_object_set(q->chardevs, id, args) < 0)
        ok = err_set(errp, ENOMEM, "out of memory");
    json_decref(args);
    return ok;
}

/* flag: of a chardev or monitor, on or off. */
static bool get_flag(const json_t *args, const char *name, bool otherwise, bool *out,
                     struct err **errp)
{
    const char *text = arg_str(args, name);

    *out = otherwise;
    return !text || parse_bool(text, name, out, errp);
}

static bool check_keys(const json_t *args, const char *const *known, struct err **errp)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)args, key, v)
    {
        const char *const *k = known;

        while (*k && strcmp(*k, key) != 0)
            k++;
        if (!*k)
            return err_set(errp, EINVAL, "Parameter '%s' is unexpected", key);
        if (!json_is_string(v))
            return err_set(errp, EINVAL, "Invalid parameter type for '%s', expected: string", key);
    }
    return true;
}

static bool listen_on(struct qsd *q, const json_t *chardev, bool pretty, struct err **errp)
{
    static const char *const known[] = {"backend", "id",   "path",      "host", "port",
                                        "server",  "wait", "tls-creds", NULL};
    const char *creds = arg_str(chardev, "tls-creds"), *host = arg_str(chardev, "host");
    bool server, wait;
    uint64_t port;

    if (!check_keys(chardev, known, errp) || !get_flag(chardev, "server", false, &server, errp) ||
        !get_flag(chardev, "wait", true, &wait, errp))
        return false;
    if (!server)
        return err_set(errp, ENOTSUP, "chardev '%s': a control socket must be a server: server=on",
                       arg_str(chardev, "id"));
    if (creds && arg_has(chardev, "path"))
        return err_set(errp, EINVAL, "chardev '%s': TLS is for TCP only", arg_str(chardev, "id"));
    if (creds)
        return parse_u64(arg_str(chardev, "port"), "port", 0, 65535, &port, errp) &&
               control_listen_tcp(q->control, host, (uint16_t)port, creds, pretty, errp);
    return control_listen_unix(q->control, arg_str(chardev, "path"), pretty, errp);
}

static bool add_monitor(struct qsd *q, const char *text, struct err **errp)
{
    static const char *const known[] = {"chardev", "id", "mode", "pretty", NULL};
    json_t *args = dotted_parse(text, "chardev", errp);
    const char *id = arg_str(args, "chardev"), *mode = arg_str(args, "mode");
    const json_t *chardev = id ? json_object_get(q->chardevs, id) : NULL;
    bool ok = args && check_keys(args, known, errp), pretty;

    if (ok && mode && strcmp(mode, "control") != 0)
        ok = err_set(errp, EINVAL, "Parameter 'mode' does not accept value '%s'", mode);
    if (ok && !id)
        ok = err_set(errp, EINVAL, "Parameter 'chardev' is missing");
    if (ok && !chardev)
        ok = err_set(errp, ENOENT, "chardev \"%s\" not found", id);
    ok =
        ok && get_flag(args, "pretty", false, &pretty, errp) && listen_on(q, chardev, pretty, errp);
    json_decref(args);
    return ok;
}

static bool take_step(struct qsd *q, const struct qsd_step *s, struct err **errp)
{
    static const char *const names[] = {"blockdev", "object",  "nbd-server",
                                        "export",   "chardev", "monitor"};
    bool ok = false;

    switch (s->kind) {
    case QSD_BLOCKDEV:
        ok = run_command(q, "blockdev-add", s->text, "driver", errp);
        break;
    case QSD_OBJECT:
        ok = run_command(q, "object-add", s->text, "qom-type", errp);
        break;
    case QSD_NBD_SERVER:
        ok = start_nbd_server(q, s->text, errp);
        break;
    case QSD_EXPORT:
        ok = add_export(q, s->text, errp);
        break;
    case QSD_CHARDEV:
        ok = add_chardev(q, s->text, errp);
        break;
    case QSD_MONITOR:
        ok = add_monitor(q, s->text, errp);
        break;
    }
    return ok || err_prefix(errp, "--%s %s: ", names[s->kind], s->text);
}

/* Monitors come last: their clients are to find all that the other options make. */
static bool take_steps(struct qsd *q, bool monitors, struct err **errp)
{
    for (unsigned i = 0; i < q->opts.n_steps; i++) {
        const struct qsd_step *s = &q->opts.steps[i];

        if ((s->kind == QSD_MONITOR) == monitors && !take_step(q, s, errp))
            return false;
    }
    return true;
}

static void on_quit(void *arg)
{
    struct qsd *q = arg;

    q->quit = true;
    io_cancel_fd(q->signal_fd);
}

static bool start(struct qsd *q, struct err **errp)
{
    struct control_opts co = {.allow_paths = q->opts.allow_paths,
                              .n_allow_paths = q->opts.n_allow_paths};

    q->chardevs = json_object();
    q->control = q->chardevs ? control_new(&co, errp) : NULL;
    if (!q->control)
        return q->chardevs ? false : err_set(errp, ENOMEM, "out of memory");
    control_on_quit(q->control, on_quit, q);
    if (!take_steps(q, false, errp) || !take_steps(q, true, errp))
        return false;
    if (q->opts.pid_file && !pid_file_write(q->opts.pid_file, errp))
        return false;
    q->pid_written = q->opts.pid_file;
    daemon_ready();
    return true;
}

/* wait_signal: true when one has come; false: quit, or all is stopped. */
static bool wait_signal(struct qsd *q, const bool *other)
{
    struct signalfd_siginfo info;

    while (!*other) {
        if (io_poll(q->signal_fd, POLLIN, IO_NO_DEADLINE) < 0)
            continue;
        if (read(q->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            log_info("%s", strsignal((int)info.ssi_signo));
            return true;
        }
    }
    return false;
}

static void stop_run(void *arg)
{
    struct qsd *q = arg;

    control_stop(q->control, q->error ? NULL : &q->error);
    q->stopped = true;
    io_cancel_fd(q->signal_fd);
}

/* A second signal does not wait for requests that never end. */
static void stop(struct qsd *q)
{
    if (!co_start(stop_run, q)) {
        stop_run(q);
        return;
    }
    if (wait_signal(q, &q->stopped)) {
        log_warn("forced: requests in flight are abandoned and nothing is flushed");
        if (q->pid_written)
            pid_file_remove(q->opts.pid_file);
        _exit(CLI_FAILED);
    }
}

static void qsd_main(void *arg)
{
    struct qsd *q = arg;

    if (start(q, &q->error))
        wait_signal(q, &q->quit);
    if (q->control)
        stop(q);
    control_free(q->control);
    json_decref(q->chardevs);
    if (q->pid_written)
        pid_file_remove(q->opts.pid_file);
}

static int run_reactor(struct qsd *q)
{
    struct reactor *r;
    struct err *e = NULL;

    if (!reactor_new(REACTOR_AUTO, &r, &e))
        return cli_fail(CLI_USAGE, e);
    bool ran = reactor_run_co(r, qsd_main, q);
    reactor_free(r);
    if (!ran)
        err_set(&q->error, ENOMEM, "out of memory");
    return q->error ? cli_fail(CLI_USAGE, q->error) : CLI_OK;
}

static int qsd_run(int argc, char **argv)
{
    struct qsd q = {.signal_fd = -1};
    struct err *e = NULL;
    int code = CLI_OK;

    switch (qsd_parse(argc, argv, &q.opts, &e)) {
    case QSD_DONE:
        break;
    case QSD_WRONG:
        code = cli_usage("daemon", "%s", err_msg(e));
        err_free(e);
        break;
    case QSD_RUN:
        if (q.opts.fork && !daemon_fork(&e)) {
            code = cli_fail(CLI_FAILED, e);
            break;
        }
        q.signal_fd = signals_open(false);
        if (q.signal_fd < 0) {
            err_set_errno(&e, errno, "signals");
            code = cli_fail(CLI_FAILED, e);
            break;
        }
        code = run_reactor(&q);
        close(q.signal_fd);
        break;
    }
    qsd_opts_free(&q.opts);
    return code;
}

const struct subcommand daemon_command = {
    .name = "daemon",
    .summary = "serve block nodes under QMP, as qemu-storage-daemon",
    .run = qsd_run,
};
