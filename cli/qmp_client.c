/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The blocking client: one socket, one buffer, one message at a time.
 */
#include "cli/qmp_client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "control/json_stream.h"

struct qmp_client {
    int fd;
    struct json_stream in;
    char buf[16384];
    size_t head, tail;
    qmp_event_fn *event_fn;
    void *event_arg;
};

static bool dial(struct qmp_client *q, const char *path, struct err **errp)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(addr.sun_path))
        return err_set(errp, ENAMETOOLONG, "socket path '%s' is longer than %zu bytes", path,
                       sizeof(addr.sun_path) - 1);
    strcpy(addr.sun_path, path);
    q->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (q->fd < 0 || connect(q->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return err_set_errno(errp, errno, "control socket '%s'", path);
    return true;
}

json_t *qmp_next(struct qmp_client *q, struct err **errp)
{
    for (;;) {
        json_t *value;
        bool found;
        ssize_t n;

        q->head +=
            json_stream_feed(&q->in, q->buf + q->head, q->tail - q->head, &found, &value, errp);
        if (found)
            return value;
        do {
            n = read(q->fd, q->buf, sizeof(q->buf));
        } while (n < 0 && errno == EINTR);
        if (n < 0)
            err_set_errno(errp, errno, "control socket");
        if (n <= 0)
            return NULL;
        q->head = 0;
        q->tail = (size_t)n;
    }
}

/* The next that is no event. */
static json_t *next_answer(struct qmp_client *q, struct err **errp)
{
    struct err *e = NULL;
    json_t *v;

    while ((v = qmp_next(q, &e)) && json_object_get(v, "event")) {
        if (q->event_fn)
            q->event_fn(q->event_arg, v);
        json_decref(v);
    }
    if (!v && !e)
        err_set(&e, ECONNRESET, "control socket: the server hung up");
    err_move(errp, e);
    return v;
}

static bool send_text(struct qmp_client *q, const char *text, struct err **errp)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t n = send(q->fd, text, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set_errno(errp, errno, "control socket");
        text += n;
        len -= (size_t)n;
    }
    return true;
}

static bool take_answer(json_t *answer, json_t **result, struct err **errp)
{
    const json_t *error = json_object_get(answer, "error");
    const char *class = json_string_value(json_object_get(error, "class"));
    const char *desc = json_string_value(json_object_get(error, "desc"));

    if (error && class && strcmp(class, "GenericError") != 0)
        return err_set(errp, QMP_ANSWERED, "%s: %s", class, desc ? desc : "?");
    if (error)
        return err_set(errp, QMP_ANSWERED, "%s", desc ? desc : "?");
    *result = json_incref(json_object_get(answer, "return"));
    return *result || err_set(errp, EPROTO, "control socket: this is not QMP");
}

bool qmp_command(struct qmp_client *q, const char *name, const json_t *args, json_t **result,
                 struct err **errp)
{
    json_t *message = json_pack("{s:s}", "execute", name), *answer;
    AUTO_FREE char *line = NULL;
    char *text;
    bool ok;

    if (message && args)
        json_object_set(message, "arguments", (json_t *)args);
    text = message ? json_dumps(message, JSON_COMPACT) : NULL;
    json_decref(message);
    line = text ? mem_printf("%s\n", text) : NULL;
    free(text);
    if (!line)
        return err_set(errp, ENOMEM, "out of memory for a command");
    ok = send_text(q, line, errp); /* in one piece: after quit there may be no second */
    answer = ok ? next_answer(q, errp) : NULL;
    ok = answer && take_answer(answer, result, errp);
    json_decref(answer);
    return ok;
}

struct qmp_client *qmp_connect(const char *path, struct err **errp)
{
    struct qmp_client *q = mem_new(struct qmp_client);
    json_t *hello = NULL, *done = NULL;
    bool ok = false;

    if (!q) {
        err_set(errp, ENOMEM, "out of memory");
        return NULL;
    }
    q->fd = -1;
    if (dial(q, path, errp) && (hello = next_answer(q, errp))) {
        if (!json_object_get(hello, "QMP"))
            err_set(errp, EPROTO, "'%s' does not greet like a control socket", path);
        else
            ok = qmp_command(q, "qmp_capabilities", NULL, &done, errp);
    }
    json_decref(hello);
    json_decref(done);
    if (ok)
        return q;
    qmp_disconnect(q);
    return NULL;
}

void qmp_disconnect(struct qmp_client *q)
{
    if (!q)
        return;
    if (q->fd >= 0)
        close(q->fd);
    json_stream_clear(&q->in);
    mem_free(q);
}

void qmp_on_event(struct qmp_client *q, qmp_event_fn *fn, void *arg)
{
    q->event_fn = fn;
    q->event_arg = arg;
}
