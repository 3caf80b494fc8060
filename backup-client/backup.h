/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The backup client: take, verify and restore backups. What the command line calls.
 *
 * All functions here run in a coroutine and yield.
 */
#ifndef BACKUP_CLIENT_BACKUP_H
#define BACKUP_CLIENT_BACKUP_H

#include <stdbool.h>
#include <stdint.h>

#include "digest/digest.h"
#include "backup-client/repo.h"
#include "digest/uuid.h"
#include "base/err.h"

enum backup_status {
    BACKUP_OK,
    BACKUP_FAILED,   /* nothing was published, nothing is lost */
    BACKUP_DEGRADED, /* a full backup where an increment was expected */
    BACKUP_MISMATCH, /* content differs from its digest */
    BACKUP_BROKEN,   /* a file of the chain is missing or damaged */
    BACKUP_RETRY,    /* another run holds the disk, or the server is not reachable */
};

/* Set (by a watcher of signals, on the same reactor) to end what runs: interrupted is read between
 * requests, and wake, if set, is called to end those that wait. */
struct backup_control {
    volatile bool interrupted;
    void (*wake)(void *arg);
    void *wake_arg;
};
/* backup_interrupt: end what runs under ctl, which then fails with ECANCELED. Does not yield. */
void backup_interrupt(struct backup_control *ctl);

struct backup_opts {
    const char *uri, *repo;
    const char *name;     /* of the disk in the repository; NULL: the export's name */
    const char *bitmap;   /* take the increment from this bitmap of the export; NULL: checkpoints */
    bool full;            /* not an increment */
    bool allow_live;      /* accept an export that may change while it is read */
    unsigned connections; /* 0: 4 */
    unsigned depth;       /* requests in flight per connection; 0: 16 */
    uint32_t request;     /* bytes per request; 0: 256 KiB */
    uint64_t timeout_ms;  /* of silence; 0: 2 minutes */
    unsigned max_chain;   /* layers after which a full backup starts a new chain; 0: 30 */
    struct backup_control *ctl;
};

struct backup_report {
    struct uuid uuid;
    char *disk;
    uint64_t sequence, size;
    bool incremental;
    char *reason; /* why it is full although there was a backup to build on; NULL else */
    uint64_t read_bytes, data_bytes, zero_bytes, layer_size;
    unsigned connections;
    struct digest disk_root;
    int64_t elapsed_ns;
};

/* backup_run: take one backup. *out is filled in on BACKUP_OK and BACKUP_DEGRADED; free it with
 * backup_report_free. */
enum backup_status backup_run(const struct backup_opts *o, struct backup_report *out,
                              struct err **errp);
void backup_report_free(struct backup_report *r);

struct verify_report {
    unsigned layers, backups; /* layers read; points in time they prove */
    uint64_t read_bytes, bad_blocks;
    int64_t elapsed_ns;
};
/* verify_fault: called for each thing found wrong, with a text for people. */
typedef void verify_fault(void *arg, const char *text);

/* verify_disk: read every layer of REPO/DISK (which NULL), or of the chain of one backup, against
 * its hash file and manifest. Counters are added to *out. BACKUP_BROKEN outranks BACKUP_MISMATCH.
 * errp is set only with BACKUP_FAILED. */
enum backup_status verify_disk(const char *repo, const char *disk, const char *which,
                               struct backup_control *ctl, verify_fault *fault, void *fault_arg,
                               struct verify_report *out, struct err **errp);

struct restore_opts {
    const char *repo, *disk, *which; /* which NULL: latest */
    const char *out;
    bool raw;   /* else qcow2 */
    bool force; /* replace an existing file */
    struct backup_control *ctl;
};
struct restore_report {
    struct uuid uuid;
    uint64_t sequence, size, data_bytes;
    int64_t elapsed_ns;
};
/* restore_run: write the content of one backup to a new file, judging each block on its way. The
 * file appears whole or not at all. */
enum backup_status restore_run(const struct restore_opts *o, struct restore_report *out,
                               struct err **errp);

#endif
