/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The control socket: QMP over streams, and the objects it rules: nodes, exports, jobs.
 *
 * One struct control lives on one reactor. Its commands run one at a time, whoever sent them, so
 * that no command sees the graph of another half done; those that only look do not wait for others.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/stream.h"

struct control;
struct json_t;
struct node;
struct server;

/* Error codes (err_code) beyond errno's that choose the class of a QMP error. */
enum qmp_error_class {
    QMP_COMMAND_NOT_FOUND = 100001,
    QMP_DEVICE_NOT_ACTIVE,
    QMP_DEVICE_NOT_FOUND,
};

struct control_opts {
    const char *const *allow_paths; /* files may be opened only below these; borrowed */
    unsigned n_allow_paths;         /* 0: anywhere */
    unsigned max_sessions;          /* clients at a time; 0: 64 */
};

/* control_new: with no node. NULL and *errp on failure. */
struct control *control_new(const struct control_opts *opts, struct err **errp);
/* control_free: after control_stop. Yields. */
void control_free(struct control *c);

/* control_listen: accept clients on a listening descriptor (taken over, closed at the end).
 * pretty: answers are indented. */
bool control_listen(struct control *c, int fd, bool pretty, struct err **errp);
/* control_listen_unix: the same on a socket file, made with mode 0600 and removed at the end. */
bool control_listen_unix(struct control *c, const char *path, bool pretty, struct err **errp);
/* control_listen_tcp: on a host's port, for clients that show a certificate which the credentials
 * of that id vouch for, and nobody else. EINVAL: they are not of that kind. */
bool control_listen_tcp(struct control *c, const char *host, uint16_t port, const char *creds_id,
                        bool pretty, struct err **errp);
/* control_serve: talk QMP on a connected stream (taken over, also on failure). */
bool control_serve(struct control *c, struct stream *stream, bool pretty, struct err **errp);

/* control_run: one command, as if a client had sent it. args: borrowed, may be NULL. result: NULL,
 * or where a new reference to what it returned goes. from_text: values may be strings of a command
 * line. Yields. */
bool control_run(struct control *c, const char *command, struct json_t *args, bool from_text,
                 struct json_t **result, struct err **errp);

/* What somebody else has built and serves, to be shown to clients. */
struct control_adoption {
    const char *node_name; /* for the top node; those below it are numbered */
    struct node *top;
    struct server *server; /* borrowed; clients may add exports to it */
    const char *export_id, *export_name;
    bool writable, resizable; /* the export */
};
/* control_adopt: any number of exports of one server. All of it stays its owner's: clients cannot
 * remove the export or stop the server, and control_stop lets go of both. Yields. */
bool control_adopt(struct control *c, const struct control_adoption *a, struct err **errp);
/* control_disown: let go of an export and its graph, which the owner may then close. EBUSY: a
 * client has made use of the graph. Yields. */
bool control_disown(struct control *c, const char *export_id, struct err **errp);

/* control_on_quit: fn(arg) when a client has sent quit, before it is answered. */
void control_on_quit(struct control *c, void (*fn)(void *), void *arg);
/* control_stop: no more commands. Exports are removed and nodes closed, then clients are cut off
 * once their last answer was sent (or a second has passed). False: some last flush failed. Yields.
 */
bool control_stop(struct control *c, struct err **errp);

#endif
