/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of this room share.
 *
 *   control.c   listeners, start and end       session.c   one client: receive, answer, events
 *   message.c   a message: checks, dispatch    command.c   the table of commands
 *   schema.c    types of arguments             introspect.c  query-qmp-schema
 *   cmd_*.c     the commands, by noun          types_*.c   the types of their arguments
 *   blockdev.c  blockdev-add                   drv_*.c     its drivers
 */
#ifndef CONTROL_CONTROL_PRIV_H
#define CONTROL_CONTROL_PRIV_H

#include <jansson.h>

#include "block/graph.h"
#include "block/job.h"
#include "control/command.h"
#include "control/control.h"
#include "control/json_stream.h"
#include "control/schema.h"
#include "io/lock.h"
#include "io/reactor.h"

/* A client that lets this much pile up is cut off (events), or not listened to (answers). */
#define SESSION_EVENT_BYTES ((size_t)1 << 20)
#define SESSION_ANSWER_BYTES ((size_t)256 << 10)

struct out_buf {
    char *text;
    size_t len, cap;
};

struct session { /* one client */
    struct control *ctl;
    struct session *next;
    uint64_t id;
    struct stream *stream;
    bool tls; /* a handshake comes first */
    struct json_stream in;
    bool pretty;
    bool negotiated;
    bool wants_faults;       /* has subscribed to them */
    bool closing;            /* nothing more is read */
    bool broken;             /* nothing more is sent */
    struct out_buf out;      /* to be sent */
    struct co_queue more;    /* the sender waits here for something to send */
    struct co_queue drained; /* and others for what was there to be sent */
    bool sender_alive, sending;
};

struct listener {
    struct control *ctl;
    struct listener *next;
    int fd;
    char *path;              /* to be removed; NULL: none */
    struct tls_creds *creds; /* a reference; NULL: no TLS */
    bool pretty;
};

struct nbd_host;
struct control_object;

struct control {
    struct graph graph;
    struct jobs jobs;
    struct co_mutex busy; /* held by a command that changes things */
    struct session *sessions;
    struct listener *listeners;
    unsigned n_sessions, n_listeners, max_sessions;
    uint64_t last_session;
    struct co_queue changed; /* a session, listener or export ended */
    struct err *first_error; /* of a flush that nobody could be told of; for the exit code */
    bool stopping;
    char **allow_path; /* real paths */
    unsigned n_allow_path;
    void (*quit_fn)(void *arg);
    void *quit_arg;
    struct nbd_host *nbd; /* NULL: nbd-server-start was not called */
    struct control_export *exports;
    struct pull *pulls; /* backup sessions, newest first; those that have ended, too */
    struct control_object *objects;
    struct fault_watch *fault_watches;
    unsigned n_waits; /* clients that wait for a breakpoint; they use a node */
};

/* --- message.c --- */
/* message_handle: one message of a client, a new reference or NULL (then e, freed, says why it is
 * none). Queues the answer. Yields. */
void message_handle(struct session *s, json_t *message, struct err *e);
/* qmp_version: the object "version" of greeting and query-version. */
json_t *qmp_version(void);

/* --- session.c --- */
/* session_start: stream is taken over, also on failure. creds: talk TLS on it, and only to a client
 * that has a certificate; NULL: plain. */
bool session_start(struct control *c, struct stream *stream, struct tls_creds *creds, bool pretty,
                   struct err **errp);
/* session_put: queue one object (dropped); event: not at any price. */
void session_put(struct session *s, json_t *object, bool event);
/* session_end: read nothing more; end when all is sent. */
void session_end(struct session *s);

/* --- event.c --- */
/* event_emit: to all clients, with the time; data: dropped, may be NULL. */
void event_emit(struct control *c, const char *name, json_t *data);
/* event_emit_to: the same, to those only that want it. */
enum event_wish { WANTS_ALL, WANTS_FAULTS };
void event_emit_to(struct control *c, enum event_wish wish, const char *name, json_t *data);

/* --- introspect.c --- */
json_t *introspect_all(void);

/* The events, for introspection. */
struct event_type {
    const char *name;
    const struct qtype *data;
};
const struct event_type *event_type_at(unsigned i);

#endif
