/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backup sessions: points in time of several nodes at one moment, exported for clients that pull,
 * until somebody says how it went or the lease runs out.
 *
 * A disk's bitmap is known by a stem and the UUID of the backup from which on it has recorded:
 * STEM@UUID. So a client that names the UUID of what it holds can never be given the changes since
 * something else. The new bitmap is there from the beginning of a session; the old one is frozen
 * meanwhile. Success removes the old one (and all that are older), everything else the new one. A
 * success that got lost therefore only copies again.
 */
#ifndef CONTROL_PULL_H
#define CONTROL_PULL_H

#include "digest/uuid.h"
#include "control/point.h"

#define PULL_LEASE_MAX_S (7 * 24 * 3600)

enum pull_status { PULL_ACTIVE, PULL_SUCCEEDED, PULL_FAILED };
enum pull_level { PULL_AUTO, PULL_FULL, PULL_INCREMENTAL, PULL_DIFFERENTIAL, PULL_COPY };

struct pull_disk {
    struct pull *pull;
    struct graph_node *node; /* held by the point's use, but while it begins */
    enum pull_level level;   /* granted: not AUTO */
    const char *reason;      /* why it is full though less was asked for; NULL */
    const char *stem;        /* of its bitmaps: stem_text, or a default */
    char *stem_text;
    char base[UUID_TEXT_LEN + 1], uuid[UUID_TEXT_LEN + 1]; /* "": none */
    struct bitmap *old;  /* what it has in common with base; NULL: none */
    struct bitmap *next; /* records for the backup after this one; NULL: none */
    struct point point;
    uint64_t size, dirty, scratch_limit; /* bytes */
    uint64_t align;                      /* of what the client reads */
    uint32_t granularity;
    bool restricted; /* only what is dirty can be read */
    bool discard;    /* the client may discard what it has read */
    bool may_store;  /* bitmaps are stored with the image */
    bool warned;     /* the scratch is nearly full */
    int scratch_fd;
    char *export_id, *export_name; /* NULL: not exported (any more) */
};

struct pull {
    struct control *ctl;
    struct pull *next; /* newest first */
    char *id;
    enum pull_status status;
    const char *why; /* it failed: "client", "expired", "broken", "shutdown" */
    int64_t lease_ns;
    struct timer lease;
    bool ending;      /* somebody is about it */
    unsigned digests; /* under way */
    unsigned users;   /* who is about to end it, or waits for that */
    struct co_queue changed;
    struct pull_disk *disk;
    size_t n_disks;
};

/* pull_begin: with the lock for changes held. args: of backup-begin. NULL and *errp. Yields. */
struct pull *pull_begin(struct control *c, const json_t *args, struct err **errp);
/* pull_find: also one that has ended, if that is not long ago. */
struct pull *pull_find(struct control *c, const char *id, struct err **errp);
/* pull_renew: the lease begins anew; lease_s 0: as it was. */
bool pull_renew(struct pull *p, int64_t lease_s, struct err **errp);
/* pull_end: without the lock. Again with the same outcome: nothing. False: it has ended otherwise,
 * or success was asked for and a view is lost (then it failed). Yields. */
bool pull_end(struct pull *p, bool success, const char *why, struct err **errp);
/* pulls_active: the first that is, or NULL. pulls_stop: end all, forget all. Yields. */
struct pull *pulls_active(const struct control *c);
void pulls_stop(struct control *c);
/* pull_scratch: bytes of old data that are held. */
uint64_t pull_scratch(const struct pull_disk *d);
const char *pull_level_name(enum pull_level level);
/* pull_lost: has the view of any disk been lost? Which; else NULL. */
const struct pull_disk *pull_lost(const struct pull *p);

/* pull_digest: of all that the disk's view shows, as docs/backup.md has it for disk_root: hex.
 * Without the lock; yields. */
bool pull_digest(struct pull_disk *d, char *hex, struct err **errp);

extern const struct qtype q_pull_ended_event, q_pull_low_event, q_pull_broken_event;

#endif
