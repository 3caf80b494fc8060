/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of this room share. One reactor owns a server with all its exports and
 * connections, so none of this is locked; whatever yields says so.
 *
 *   server.c      listeners, limits, stop            conn.c     one connection's life, receive loop
 *   export.c      names -> targets                   slot.c     request slots, sending of replies
 *   checkpoint.c  frozen views and what lies between handshake.c, opt_*.c  option haggling
 *   metactx.c     meta contexts and their extents    cmd.c, reply.c        commands and answers
 *   authz.c       who may use an export              listener.c            listening descriptors
 */
#ifndef SERVER_SERVER_PRIV_H
#define SERVER_SERVER_PRIV_H

#include <sys/uio.h>

#include "io/bufpool.h"
#include "io/lock.h"
#include "io/reactor.h"
#include "io/stream.h"
#include "io/tls.h"
#include "server/authz.h"
#include "server/server.h"
#include "server/wire.h"

#define ADVERTISED_PAYLOAD (32 * MiB) /* what clients are told */
#define ACCEPTED_PAYLOAD (64 * MiB)   /* what is served or skipped; above it a WRITE disconnects */
#define RECV_BUF_SIZE (256 * KiB)     /* of one connection; touched only as far as it is used */
#define SEND_BATCH_BYTES (4 * MiB)    /* at most in one send, so that progress can be seen */
#define SEND_BATCH_IOV 512
#define MAX_CHUNKS 8               /* data and hole chunks of one READ reply */
#define STATUS_EXTENTS (64 * 1024) /* of one BLOCK_STATUS reply, all contexts together */
#define STATUS_SPAN (128 * GiB)    /* of the disk, that one BLOCK_STATUS looks at in the tables */
#define STATUS_ACTIVE_MAX 16       /* BLOCK_STATUS requests that collect extents at a time */

struct checkpoint;
struct conn;

/* --- Exports and targets (export.c) --- */

struct export
{
    struct server *srv;
    char *name, *description; /* description: NULL if none */
    struct node *top, *cbw;
    struct bitmap **maps;   /* published, in nodes of the graph; each is held busy */
    struct node **map_node; /* whose they are; references: the graph may lose them */
    unsigned n_maps;
    bool read_only, ignore_discard, checkpoints, resizable, allocation_depth;
    bool tls_only;       /* hidden from clients without TLS */
    struct authz *authz; /* NULL: everybody */
    unsigned max_connections, n_connections;
    struct rules *rules; /* NULL: no faults */
    int64_t since_ns;    /* when it began, for them */
    struct export_crash crash;
    struct crash_view *crash_views;
    unsigned users; /* targets that mean it */
    bool removed;   /* no client may open it any more */
    struct export *next;

    /* Checkpoints, oldest first. */
    struct checkpoint *first, *last;
    unsigned n_checkpoints;
    uint64_t last_number;       /* of a checkpoint */
    uint64_t use_clock;         /* ticks at each use of a checkpoint: who is least recent */
    struct bitmap *recording;   /* changes since the newest checkpoint; top's; NULL: none yet */
    struct co_mutex ckpt_lock;  /* held while a view is made or dropped */
    struct co_group ckpt_drops; /* coroutines that drop views */
};

/* What a connection talks about: an export as it is, or a frozen view of it. */
struct target {
    struct export *exp;       /* NULL: nothing */
    struct checkpoint *ckpt;  /* the view, held by a use; NULL: live, or not made yet */
    struct crash_view *crash; /* what a power cut left, held by a use; NULL: not that */
    bool frozen;              /* the name was of the form EXPORT@CHECKPOINT */
};

enum target_mode {
    TARGET_PEEK, /* look only: a new checkpoint name makes no view */
    TARGET_OPEN, /* make or join the view and hold it until target_release */
};

/* target_find: resolve a name from the wire for c. Yields with TARGET_OPEN. Errors: ENOENT no such
 * export or view, ENOKEY only with TLS, EACCES not for this client, EINVAL bad checkpoint name,
 * EBUSY a limit, others as they come. */
bool target_find(struct conn *c, struct wire_str name, enum target_mode mode, struct target *out,
                 struct err **errp);
/* target_release: let go of what target_find held; zeroes t. Does not yield. */
void target_release(struct target *t);
/* target_node: what requests go to (for a peeked view: the live node, for its size and limits). */
struct node *target_node(const struct target *t);
bool target_read_only(const struct target *t);
/* target_flags: transmission flags, by what c has negotiated. */
uint16_t target_flags(const struct target *t, const struct conn *c);

/* export_resized: tell all connections of e, frozen views aside, about its size. */
void export_resized(struct export *e);

bool export_new(struct server *s, const struct export_opts *o, struct err **errp);
/* export_free: drops the node; yields. All connections and views are gone. */
void export_free(struct export *e);

/* --- Checkpoints (checkpoint.c) --- */

struct diff { /* what changed from an earlier checkpoint until this one; cached for the view's life
               */
    const struct checkpoint *base;
    struct bitmap *map;
    struct diff *next;
};

struct checkpoint {
    struct export *exp;
    uint64_t number, upto; /* consecutive: upto is more where later ones were merged into it */
    char *name;
    struct bitmap *segment; /* changes from this one until the next; NULL for the newest */
    struct node *view;      /* NULL once released */
    struct bitmap **frozen; /* the export's published bitmaps as they were */
    unsigned n_frozen;
    struct diff *diffs;
    unsigned users;
    uint64_t last_use;
    bool warned; /* about a broken view */
    struct timer grace;
    bool dropping; /* a coroutine is on its way to release the view */
    struct checkpoint *prev, *next;
};

/* checkpoint_open: join the view of that name or make one. Names that begin with
 * CHECKPOINT_RESERVED are made only if `make` is set. Adds a user. Yields. */
struct checkpoint *checkpoint_open(struct export *e, struct wire_str name, bool make,
                                   struct err **errp);
/* checkpoint_may_open: by this rule, k being what there is of that name (NULL: nothing). */
bool checkpoint_may_open(const struct export *e, const struct checkpoint *k, struct wire_str name,
                         bool make, struct err **errp);
#define CHECKPOINT_RESERVED "bw-"
/* checkpoint_find: by name, or NULL. checkpoint_check_name: EINVAL unless 1..1023 bytes without
 * control characters. */
struct checkpoint *checkpoint_find(const struct export *e, struct wire_str name);
bool checkpoint_check_name(struct wire_str name, struct err **errp);
bool checkpoint_check_readable(const struct checkpoint *k, struct err **errp);
/* checkpoint_release: drop a user; the last one starts the grace period. Does not yield. */
void checkpoint_release(struct checkpoint *k);
/* checkpoint_diff: changes from base until k, made on first use. Belongs to k. NULL: ENOMEM. */
const struct bitmap *checkpoint_diff(struct checkpoint *k, struct checkpoint *base,
                                     struct err **errp);
/* checkpoint_read_failed: logs once when a view turns out to be broken. */
void checkpoint_read_failed(struct checkpoint *k);
/* checkpoint_free: what it owns, but its view. checkpoint_forget: out of the list as well. */
void checkpoint_free(struct checkpoint *k);
void checkpoint_forget(struct checkpoint *k);

/* --- Checkpoints across restarts (checkpoint_store.c). None of these can fail; all yield. ---
 *
 * checkpoint_reserve: make a place in the image, if it can be; k has its name and number.
 * checkpoint_unreserve: it is not needed. checkpoint_absorb: nor is k's, as it is about to be
 * forgotten; the one before stands for it from now on. checkpoints_save: e ends. checkpoints_load:
 * e begins; or what is there is told to be lost. */
void checkpoint_reserve(struct checkpoint *k);
void checkpoint_unreserve(struct checkpoint *k);
void checkpoint_absorb(struct checkpoint *k);
void checkpoints_save(struct export *e);
void checkpoints_load(struct export *e);

/* checkpoint_drop_all: at stop; no view is in use. Yields. */
void checkpoint_drop_all(struct export *e);

/* --- What a power cut left (crash_view.c) --- */

/* crash_view_named: is this of the form crash/N, and does e have such? crash_view_open: add a user.
 * Yields. crash_view_release: does not. crash_view_drop_all: at the end; nobody uses any. */
bool crash_view_named(const struct export *e, struct wire_str name);
struct crash_view *crash_view_open(struct export *e, struct wire_str name, struct err **errp);
void crash_view_release(struct crash_view *v);
struct node *crash_view_node(const struct crash_view *v);
void crash_view_drop_all(struct export *e);

/* --- Meta contexts (metactx.c) --- */

struct offer {                 /* a context that a target has */
    const char *prefix, *leaf; /* the name is both together */
    uint32_t id;
    const struct bitmap *map; /* NULL: not of a bitmap, or of a difference not made yet */
    struct checkpoint *base;  /* a difference */
};
/* metactx_offers: all contexts of a target; free with mem_free. NULL without memory. */
struct offer *metactx_offers(const struct target *t, unsigned *n_out);

#define DEPTH_ID 1 /* of qemu:allocation-depth, as in QEMU; that of base:allocation is 0 */

struct metactx { /* a selected context */
    uint32_t id;
    const struct bitmap *map; /* NULL: what the node says */
};

struct slot;
/* metactx_choose: restrict a BLOCK_STATUS to the contexts that its payload at p names; s->wire.len
 * becomes the length that the payload gives. The error and why, or NBD_SUCCESS. */
enum nbd_error metactx_choose(struct slot *s, const uint8_t *p, size_t len, const char **why);
/* metactx_reply: run a BLOCK_STATUS and put the whole answer into the slot. Yields. 0 or -errno. */
int metactx_reply(struct slot *s);

/* --- Connections and slots (conn.c, slot.c) --- */

enum conn_phase { CONN_HANDSHAKE, CONN_TRANSMISSION, CONN_ENDING };

enum slot_end { SLOT_END_NONE, SLOT_END_FIN, SLOT_END_RST };

struct slot { /* one request, from its header until its reply was sent */
    struct conn *conn;
    struct slot *next; /* in the free list or the list of replies to send */
    struct wire_request wire;
    struct req req;
    void *buf;    /* from the pool; NULL: none */
    bool *wanted; /* BLOCK_STATUS: which of the selected contexts; NULL: all */
    size_t buf_len;
    unsigned n_iov, iov_at;
    enum slot_end end; /* of the connection, after this reply */
    struct iovec iov[2 * (MAX_CHUNKS + 1)];
    uint8_t hdr[(WIRE_EXT_CHUNK_SIZE + 12) * (MAX_CHUNKS + 1)]; /* chunk headers, an error text */
};

struct conn {
    struct server *srv;
    struct stream *stream;
    const struct tls_peer *peer; /* the stream's; NULL: no TLS */
    uint64_t id;                 /* for the log */
    enum conn_phase phase;
    struct conn *prev, *next;

    /* Received and not yet looked at: rbuf[head .. tail). */
    uint8_t *rbuf;
    size_t head, tail;
    unsigned last_batch; /* replies in the last send */
    size_t window;       /* most bytes to take into rbuf at a time */

    struct handshake *hs; /* until transmission */
    bool structured;      /* replies come in chunks */
    bool extended;        /* headers of 32 bytes, both ways; structured is set too */
    struct target target;
    struct target meta_target; /* what SET_META_CONTEXT was about */
    struct metactx *meta;
    unsigned n_meta;

    /* Transmission. The fields that the hot path reads. */
    struct node *node;
    uint64_t size;
    uint16_t flags;
    unsigned probe_skip, probe_wait; /* how often large reads look for holes: see cmd.c */
    struct slot *free_slots;
    unsigned slots_used;
    uint64_t bytes;        /* of buffers held by slots */
    struct co_queue room;  /* the receive loop waits here for a slot or bytes */
    struct co_queue quiet; /* ... and here for the end of everything */

    struct slot *out_first, *out_last; /* replies to send */
    struct deferred send_hook;
    bool sending;
    bool broken;       /* sending failed: replies are dropped */
    enum slot_end end; /* the last reply that will be sent is on its way */
    struct req_origin origin;
    char client[80];

    /* Stall detection: when the peer began to owe us something; 0 = it does not. */
    int64_t recv_since_ns, send_since_ns;
    struct timer stall;

    struct iovec iov[SEND_BATCH_IOV];
};

/* conn_start: takes over stream, also on failure. */
bool conn_start(struct server *s, struct stream *stream, struct err **errp);
/* conn_fill: have at least need bytes at rbuf[head]. 0, -ENODATA at a clean end (nothing was
 * there), -ECONNRESET at an end in the middle, or -errno. need <= RECV_BUF_SIZE. Yields. */
int conn_fill(struct conn *c, size_t need, int64_t deadline_ns);
/* conn_skip: receive and forget n bytes. Yields. */
int conn_skip(struct conn *c, uint64_t n, int64_t deadline_ns);
/* conn_quiet: nothing is in flight and nothing to send. */
bool conn_quiet(const struct conn *c);
/* conn_drain: the server stops: end as soon as quiet, or at once. */
void conn_drain(struct conn *c, bool force);

/* slot_get: a free slot, waiting at the limits. NULL without memory. Yields. */
struct slot *slot_get(struct conn *c);
/* slot_get_buf: a buffer of len bytes for s, waiting at the limits. False without memory. Yields.
 */
bool slot_get_buf(struct slot *s, size_t len);
/* conn_reserve: count len bytes as the connection's, waiting while that is more than its share.
 * Yields. conn_unreserve: count them no more. */
void conn_reserve(struct conn *c, size_t len);
void conn_unreserve(struct conn *c, size_t len);
/* slot_put_buf: give the buffer back early. slot_put: it and the slot. */
void slot_put_buf(struct slot *s);
void slot_put(struct slot *s);
/* slot_send: the reply is in s->iov; send it with all others of this pass, then put the slot. */
void slot_send(struct slot *s);
void slots_free(struct conn *c);
void slot_send_init(struct conn *c);
/* conn_watch: make sure that the stall timer runs. conn_hurry: let it fire soon if the connection
 * holds anything. */
void conn_watch(struct conn *c);
void conn_hurry(struct conn *c);

/* --- Handshake (handshake.c, opt_*.c) --- */

enum hs_next { HS_GO_ON, HS_START_TLS, HS_TRANSMIT, HS_CLOSE };

struct handshake {
    bool fixed, no_zeroes;
    unsigned n_options;
    int64_t deadline_ns;
    uint8_t *out; /* replies to the present option */
    size_t out_len, out_cap;
    bool out_failed; /* no memory */
};

/* handshake_run: greet and haggle. HS_TRANSMIT: c->target is set. Yields. */
enum hs_next handshake_run(struct conn *c);

/* hs_reply: append a reply of up to two parts. hs_error: an error with a text. hs_error_err: the
 * same from e (freed), whose code picks the type. */
void hs_reply(struct conn *c, uint32_t option, uint32_t type, const void *a, size_t a_len,
              const void *b, size_t b_len);
void hs_error(struct conn *c, uint32_t option, uint32_t type, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void hs_error_err(struct conn *c, uint32_t option, struct err *e);
/* hs_raw: append bytes as they are. */
void hs_raw(struct conn *c, const void *p, size_t len);
/* hs_slept: from since_ns on a handler waited for the server itself: that is not the client's time.
 */
void hs_slept(struct conn *c, int64_t since_ns);
/* hs_enter: bind the connection to t (whose hold it takes over on success). */
bool hs_enter(struct conn *c, struct target *t, struct err **errp);

enum hs_next opt_export_name(struct conn *c, const uint8_t *data, size_t len);
enum hs_next opt_go(struct conn *c, uint32_t option, const uint8_t *data, size_t len);
void opt_list(struct conn *c, size_t len);
void opt_meta(struct conn *c, uint32_t option, const uint8_t *data, size_t len);
enum hs_next opt_starttls(struct conn *c, size_t len);
/* conn_forget_meta: what SET_META_CONTEXT chose. */
void conn_forget_meta(struct conn *c);

/* hs_start_tls: the answer to STARTTLS has gone out; now shake hands and forget what was said.
 * Yields. tls_wanted: nothing but STARTTLS and ABORT may come now. tls_admits: may this client, as
 * it is known now, use the export? ENOKEY, EACCES. */
enum hs_next hs_start_tls(struct conn *c);
bool tls_wanted(const struct conn *c);
bool tls_admits(const struct conn *c, const struct export *e, struct err **errp);

/* --- Commands and replies (cmd.c, reply.c) --- */

/* cmd_check: is this request allowed? NBD_SUCCESS, or the error and a static text. Does not yield.
 */
enum nbd_error cmd_check(const struct conn *c, const struct wire_request *w, const char **why);
/* cmd_start: run an accepted request (its buffer is there) in a coroutine of its own. */
void cmd_start(struct slot *s);

/* Each fills s->iov. Then comes slot_send. */
/* reply_done: success without data. */
void reply_done(struct slot *s);
/* reply_put_chunk: the header of a chunk of this connection's kind at p; its size. */
size_t reply_put_chunk(const struct slot *s, uint8_t *p, uint16_t flags, uint16_t type,
                       uint64_t len);
void reply_data(struct slot *s); /* READ: all of s->buf */
void reply_none(struct slot *s); /* READ of no bytes */
struct read_chunk {
    uint32_t at, len; /* bytes, from the start of the request */
    bool zero;
};
/* reply_chunks: READ in 1 .. MAX_CHUNKS + 1 chunks that cover it; data lies at buf + at. */
void reply_chunks(struct slot *s, const struct read_chunk *v, unsigned n);
void reply_error(struct slot *s, enum nbd_error error, const char *why);

/* wire_fault: let the faults of the wire meet a complete reply. Only if the export has rules.
 * Yields.
 */
void wire_fault(struct slot *s);

/* --- The server (server.c) --- */

struct ratelimit { /* at most one message in ten seconds */
    int64_t next_ns;
    unsigned suppressed;
};

struct server {
    struct server_opts o;
    char *scratch_dir;
    struct export *exports;
    struct listener *listeners; /* (listener.c) */
    unsigned n_listeners;
    struct conn *conns;
    unsigned n_conns, n_serving;
    bool served_one;
    uint64_t last_id;
    struct bufpool *pool;
    unsigned slots_used; /* of all connections */
    struct co_queue slot_room;
    unsigned starving; /* coroutines that wait for the pool, or for a slot */
    unsigned status_active;
    struct co_queue status_wait;
    struct co_queue changed; /* a connection or listener ended */
    bool stopping, forced;
    void (*idle_fn)(void *arg);
    void *idle_arg;
    struct ratelimit refuse_log, accept_log, protocol_log;
};

/* conn_is_leaving: the server stops, or what it serves to c is taken away. */
static inline bool conn_is_leaving(const struct conn *c)
{
    return c->srv->stopping || (c->target.exp && c->target.exp->removed);
}
/* ratelimit_ok: may a message be logged now? *suppressed: how many were not since the last. */
bool ratelimit_ok(struct ratelimit *r, unsigned *suppressed);
/* listeners_stop: all of them; each is gone when its coroutine has ended, which wakes s->changed.
 */
void listeners_stop(struct server *s);
/* server_conn_gone: c has left the list. */
void server_conn_gone(struct server *s, bool served);

#endif
