/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where the commands of an exploration find their disks, and the recording of a workload.
 *
 * Marks have a socket of their own: a mark is answered when it stands in the recording, behind all
 * that was acknowledged before.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cli/cli.h"
#include "cli/explore.h"
#include "cli/uri_text.h"
#include "filters/overlay.h"
#include "io/io.h"
#include "io/reactor.h"
#include "io/socket.h"
#include "qcow2/qcow2.h"

#define MARK_DEADLINE (5 * NS_PER_S)

/* --- Marks --- */

static bool good_mark(const char *name)
{
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return false;
    return *name && strlen(name) <= EXPLORE_MARK_MAX;
}

/* A line, without its end; false: there was none. */
static bool receive_line(int fd, char *line, size_t room)
{
    int64_t deadline = clock_ns() + MARK_DEADLINE;
    size_t n = 0;

    while (n + 1 < room) {
        ssize_t got = io_recv(fd, line + n, room - 1 - n, deadline);
        char *end;

        if (got <= 0)
            return false;
        n += (size_t)got;
        line[n] = 0;
        end = strchr(line, '\n');
        if (end) {
            *end = 0;
            return true;
        }
    }
    return false;
}

static void take_mark(struct explore *x, int fd)
{
    char line[EXPLORE_MARK_MAX + 2] = "", *answer = "refused\n";
    struct recorded_entry e = {.what = RECORDED_MARK, .data = (uint8_t *)line};

    if (!receive_line(fd, line, sizeof(line)))
        return;
    e.len = strlen(line);
    if (good_mark(line) && recording_put(&x->recording, &e) == 0)
        answer = "ok\n";
    io_sendv(fd, &(struct iovec){answer, strlen(answer)}, 1, clock_ns() + MARK_DEADLINE);
}

static void listen_to_marks(void *arg)
{
    struct explore *x = arg;
    int fd;

    while (!x->recording.closed &&
           ((fd = io_accept(x->mark_fd, IO_NO_DEADLINE)) >= 0 || fd == -ECONNABORTED)) {
        if (fd >= 0) {
            take_mark(x, fd);
            close(fd);
        }
    }
    co_group_done(&x->marks);
}

int explore_mark(int argc, char **argv)
{
    const char *path = getenv("BREAKWATER_MARK");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct err *e = NULL;
    char answer[8] = "";
    ssize_t n;

    if (argc != 3)
        return cli_usage("explore", "mark needs one name");
    if (!good_mark(argv[2]))
        return cli_usage("explore", "a mark is 1 to %d bytes of text on one line",
                         EXPLORE_MARK_MAX);
    if (!path || strlen(path) >= sizeof(addr.sun_path)) {
        err_set(&e, EINVAL, "explore mark works only in the workload of an exploration");
        return cli_fail(CLI_FAILED, e);
    }
    strcpy(addr.sun_path, path);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    AUTO_FREE char *line = mem_printf("%s\n", argv[2]);
    if (fd < 0 || !line || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line)) {
        err_set_errno(&e, errno, "'%s'", path);
        return cli_fail(CLI_FAILED, e);
    }
    n = recv(fd, answer, sizeof(answer) - 1, MSG_WAITALL);
    if (n >= 3 && memcmp(answer, "ok\n", 3) == 0)
        return CLI_OK;
    err_set(&e, EIO, "the mark '%s' was not recorded", argv[2]);
    return cli_fail(CLI_FAILED, e);
}

/* --- The server --- */

static bool make_paths(struct explore *x, struct err **errp)
{
    const char *tmp = getenv("TMPDIR");
    AUTO_FREE char *dir = mem_printf("%s/breakwater-XXXXXX", tmp && *tmp ? tmp : "/tmp");

    if (!dir)
        return err_set(errp, ENOMEM, "out of memory");
    if (!mkdtemp(dir))
        return err_set_errno(errp, errno, "'%s'", dir);
    x->dir = steal(dir);
    x->socket = mem_printf("%s/nbd", x->dir);
    x->mark_socket = mem_printf("%s/mark", x->dir);
    return (x->socket && x->mark_socket) || err_set(errp, ENOMEM, "out of memory");
}

bool explore_listen(struct explore *x, struct err **errp)
{
    struct server_opts so = {.max_connections = 1000};
    int fd;

    if (!make_paths(x, errp))
        return false;
    x->server = server_new(&so, errp);
    if (!x->server || !socket_listen_unix(x->socket, 0600, &fd, errp) ||
        !server_listen(x->server, fd, errp))
        return false;
    return socket_listen_unix(x->mark_socket, 0600, &x->mark_fd, errp);
}

void explore_unlisten(struct explore *x)
{
    if (x->server)
        server_stop(x->server, false);
    server_free(x->server);
    if (x->mark_fd >= 0)
        close(x->mark_fd);
    if (x->socket)
        unlink(x->socket);
    if (x->mark_socket)
        unlink(x->mark_socket);
    if (x->dir)
        rmdir(x->dir);
    mem_free(x->socket);
    mem_free(x->mark_socket);
    mem_free(x->dir);
}

char *explore_uri(const struct explore *x, const char *export_name)
{
    return uri_unix(false, x->socket, export_name);
}

char *explore_fill_in(const struct explore *x, const char *text, const char *export_name)
{
    static const char place[] = "{uri}";
    AUTO_FREE char *uri = explore_uri(x, export_name);
    AUTO_FREE char *done = mem_strdup("");
    const char *at;

    while (uri && done && (at = strstr(text, place))) {
        char *more = mem_printf("%s%.*s%s", done, (int)(at - text), text, uri);

        mem_free(done);
        done = more;
        text = at + strlen(place);
    }
    return uri && done ? mem_printf("%s%s", done, text) : NULL;
}

void explore_environment_free(char **env)
{
    for (unsigned i = 0; env && env[i]; i++)
        mem_free(env[i]);
    mem_free(env);
}

char **explore_environment(const struct explore *x, const char *export_name, const char *mark)
{
    AUTO_FREE char *uri = explore_uri(x, export_name);
    char **env = mem_array(6, sizeof(*env));
    unsigned n = 0;
    bool ok = uri && env;

    if (ok) {
        ok = (env[n++] = mem_printf("uri=%s", uri));
        ok = ok && (env[n++] = mem_printf("unixsocket=%s", x->socket));
        if (mark) {
            ok = ok && (env[n++] = mem_printf("state=%s", export_name));
            ok = ok && (env[n++] = mem_printf("mark=%s", mark));
        } else {
            ok = ok && (env[n++] = mem_printf("BREAKWATER_MARK=%s", x->mark_socket));
        }
    }
    if (ok)
        return env;
    explore_environment_free(env);
    return NULL;
}

/* --- The workload --- */

/* [format] -> record -> overlay -> base. */
static struct node *recorded_disk(struct explore *x, struct err **errp)
{
    struct qc_open_opts qo = {.path = x->o->disk, .backing_dir = x->o->backing_dir};
    struct node *n = overlay_open(x->base, x->o->limit, errp), *over;

    if (!n)
        return NULL;
    node_ref(x->base); /* overlay_open took one over */
    n->growable = x->o->host;
    over = record_open(n, &x->recording, errp);
    if (!over) {
        node_unref(n);
        return NULL;
    }
    if (!x->o->host || x->o->format == FORMAT_RAW)
        return over;
    n = qc_open(over, &qo, errp);
    if (!n)
        node_unref(over);
    return n;
}

static bool run_workload(struct explore *x, struct err **errp)
{
    AUTO_FREE char *text = explore_fill_in(x, x->o->workload, "");
    char **env = explore_environment(x, "", NULL);
    struct command c = {.text = text,
                        .extra = (const char *const *)env,
                        .out_fd = STDERR_FILENO,
                        .timeout_ms = x->o->workload_timeout_ms};
    char how[64];
    bool ok = (text && env) || err_set(errp, ENOMEM, "out of memory");

    ok = ok && commands_run(&x->commands, &c, errp);
    /* What the server does from here on is not the workload's. */
    x->recording.closed = true;
    explore_environment_free(env);
    if (!ok || x->commands.stopped)
        return ok && err_set(errp, EINTR, "interrupted");
    if (x->recording.error == -ENOSPC)
        return err_set(errp, EFBIG, "the workload wrote more than --limit allows");
    if (x->recording.error)
        return err_set_errno(errp, -x->recording.error, "the workload could not be recorded");
    return (c.end == COMMAND_EXITED && c.code == 0) ||
           err_set(errp, EIO, "the workload failed: %s", command_text(&c, how, sizeof(how)));
}

bool explore_record(struct explore *x, struct err **errp)
{
    struct export_opts eo = {.name = ""};
    struct err *removal = NULL;
    bool ok;

    eo.top = recorded_disk(x, errp);
    if (!eo.top)
        return false;
    if (!server_add_export(x->server, &eo, errp)) {
        x->recording.closed = true;
        node_unref(eo.top);
        return false;
    }
    co_group_add(&x->marks);
    if (!co_start(listen_to_marks, x))
        co_group_done(&x->marks);
    ok = run_workload(x, errp);
    io_cancel_fd(x->mark_fd);
    co_group_wait(&x->marks);
    server_remove_export(x->server, "", &removal);
    err_free(removal); /* its flush is of no interest */
    return ok;
}
