/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The NBD server: exports, connections, checkpoints. Source: doc/proto.md of the NBD project.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bitmap/bitmap.h"
#include "block/node.h"
#include "faults/fault.h"
#include "io/stream.h"
#include "io/tls.h"
#include "server/authz.h"

struct server;
struct export;
struct listener;

enum server_tls {
    SERVER_TLS_OFF,
    SERVER_TLS_ON,      /* who wants may, and must for exports that are tls_only */
    SERVER_TLS_REQUIRE, /* nothing works without */
};

struct server_opts {               /* zero means the default in brackets */
    unsigned max_connections;      /* per server [100] */
    unsigned max_requests;         /* in flight per connection [64] */
    unsigned max_total_requests;   /* in flight, per server [4096] */
    uint64_t max_bytes;            /* in flight, per server [64 MiB] */
    uint64_t max_conn_bytes;       /* in flight per connection, or else one request [a quarter] */
    unsigned max_options;          /* per handshake [256] */
    uint64_t handshake_timeout_ms; /* [10000] */
    uint64_t idle_timeout_ms;      /* a client that asks for nothing [no limit] */
    uint64_t stall_timeout_ms;     /* a peer that stops in the middle of a message [60000] */
    uint64_t scratch_limit;        /* per frozen view [1 GiB] */
    const char *scratch_dir;       /* for frozen views [$TMPDIR, else /var/tmp] */
    bool scratch_in_memory;        /* ... instead of files: tests, and diskless machines */
    unsigned max_checkpoints;      /* per export, at least 2 [64] */
    uint64_t view_grace_ms;        /* an unused frozen view is kept so long [30000] */
    bool exit_on_last_disconnect;  /* qemu-nbd without -t: call the server_on_idle hook */
    bool exit_when_deserted;       /* the same when neither a connection nor a listener is left */
    enum server_tls tls;           /* [off] */
    struct tls_creds *creds;       /* for TLS; server_new takes a reference of its own */
};

struct export_bitmap {     /* one to publish */
    struct bitmap *frozen; /* this one, which is frozen for as long as the export is there; else: */
    const char *name;
    struct node *node; /* whose it is; NULL: the first of that name from the export's top down
                          through filters and backing images */
};

/* What a power cut may have left: open makes state i as a disk of its own (yields); NULL open:
 * there is no such thing. */
struct export_crash {
    struct node *(*open)(void *arg, unsigned i, struct err **errp);
    void *arg;
};

struct export_opts {
    const char *name;                    /* at most 4096 bytes; "" is the default export */
    const char *description;             /* NULL: none */
    struct node *top;                    /* the graph; the reference is taken over on success */
    const struct export_bitmap *bitmaps; /* published; busy while exported */
    unsigned n_bitmaps;
    struct node *cbw;          /* the copy-before-write node in the graph (borrowed), or NULL:
                                  without it there are no checkpoints */
    struct export_crash crash; /* what EXPORT@crash/N shows */
    struct rules *rules;       /* faults: the export takes a reference of its own; NULL: none */
    bool read_only;
    bool checkpoints;
    bool tls_only;            /* only with TLS; before it the export is not even listed */
    struct authz *authz;      /* who may use it; server_add_export takes a reference of its own;
                                 NULL: everybody. With it the export is tls_only */
    bool resizable;           /* clients may change the size */
    bool allocation_depth;    /* offer the context qemu:allocation-depth */
    bool ignore_discard;      /* TRIM does nothing, WRITE_ZEROES keeps space allocated */
    unsigned max_connections; /* 0: no limit of its own */
};

/* server_new: on this thread's reactor. Strings in opts are copied. */
struct server *server_new(const struct server_opts *opts, struct err **errp);
bool server_add_export(struct server *s, const struct export_opts *opts, struct err **errp);
/* server_remove_export: no client finds it from now on; those that are there get ESHUTDOWN for new
 * requests, and are disconnected once those in flight have ended. Then it is flushed and its node
 * dropped. False: ENOENT, or the flush failed (it is removed all the same). Yields until all that
 * is done; neither server_stop nor a second removal of the same may run beside it. */
bool server_remove_export(struct server *s, const char *name, struct err **errp);
/* server_move_export: serve this node, which reads the same and has the same size, under that name
 * from now on; it takes a reference of its own. Nothing is under way to the old one. Bitmaps that
 * are published stay what they are. Not for exports with checkpoints. False: there is no such
 * export (any more). Does not yield unless nobody else has the old node. */
bool server_move_export(struct server *s, const char *name, struct node *top);
/* server_change_export: another description (NULL: none) and limit of connections from now on;
 * clients that are there stay. Errors: ENOENT, ENOMEM. */
bool server_change_export(struct server *s, const char *name, const char *description,
                          unsigned max_connections, struct err **errp);
/* server_export_clients: how many connections use the export. */
unsigned server_export_clients(const struct server *s, const char *name);
/* server_listen: accept connections on a listening descriptor (taken over, also on failure) until
 * server_unlisten or server_stop; then the listener is gone. NULL on failure. server_unlisten:
 * connections that were accepted go on. Does not yield. */
struct listener *server_listen(struct server *s, int fd, struct err **errp);
void server_unlisten(struct listener *l);
/* server_serve: handle one connected stream (taken over, also on failure) in a coroutine of its
 * own. For --stdin, inherited sockets, and tests. EBUSY: the connection table is full. */
bool server_serve(struct server *s, struct stream *stream, struct err **errp);
/* server_set_creds: for TLS handshakes that begin from now on. Takes a reference of its own. */
void server_set_creds(struct server *s, struct tls_creds *creds);
/* server_stop: stop accepting; new requests get ESHUTDOWN; those in flight finish; then connections
 * close, exports are flushed. Yields until done. Returns 0 or the first flush error.
 * force: cut all connections and wait for no request, and flush nothing; a server_stop that waits
 * in another coroutine returns too. Returns -EBUSY when requests were left running: the server must
 * then not be freed, only exited from. */
int server_stop(struct server *s, bool force);
/* server_open_scratch: *fd: an unlinked file for old data of a frozen view, or -1 if that is kept
 * in memory. server_scratch_limit: of one view, bytes. */
bool server_open_scratch(const struct server *s, int *fd, struct err **errp);
uint64_t server_scratch_limit(const struct server *s);
/* server_on_idle: fn(arg) when the last client has left after at least one was served, with
 * exit_on_last_disconnect; or when a connection ends that was the last, without any listener, with
 * exit_when_deserted. */
void server_on_idle(struct server *s, void (*fn)(void *), void *arg);
/* server_free: after server_stop. Drops the exports' nodes; yields. */
void server_free(struct server *s);

unsigned server_connections(const struct server *s);

#endif
