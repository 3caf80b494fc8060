/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One run of a backup, from lock to publication.
 *
 * A run freezes a point in time by opening DISK@bw-UUID with a uuid of its own, and asks for what
 * changed since the last *published* backup. So a run that fails at any moment costs nothing: its
 * checkpoint is never asked for, and the next run covers what it would have held.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backup-client/background.h"
#include "backup-client/backup.h"
#include "backup-client/pull.h"
#include "backup-client/layer.h"
#include "backup-client/publish.h"
#include "backup-client/session_priv.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/reactor.h"

void backup_interrupt(struct backup_control *ctl)
{
    __atomic_store_n(&ctl->interrupted, true, __ATOMIC_RELAXED);
    if (ctl->wake)
        ctl->wake(ctl->wake_arg);
}

static bool say_full(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Note why there will be no increment. The first reason stands. Returns false. */
static bool say_full(struct session *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!s->reason)
        s->reason = mem_vprintf(fmt, ap);
    va_end(ap);
    s->base.n = 0;
    return false;
}

/* Would an increment find its way through the chain? Its blocks are verify's business. */
static bool check_layers(const struct session *s, struct err **errp)
{
    for (size_t i = 0; i < s->base.n; i++)
        if (!layer_check(&s->disk, s->base.v[i], errp))
            return false;
    return true;
}

/* Find what to build on: the newest backup whose whole chain is sound. */
static void choose_base(struct session *s)
{
    AUTO_ERR struct err *why = NULL;
    struct backup *damaged = disk_damaged(&s->disk);
    if (s->o->full || s->disk.n == 0)
        return;
    if (damaged) {
        log_warn("%s: %s", s->disk.path, err_msg(damaged->problem));
        if (s->o->bitmap) {
            /* The bitmap counts from the latest backup, and that may be this one. */
            say_full(s, "a manifest is damaged: %s", err_msg(damaged->problem));
            return;
        }
    }
    for (size_t i = s->disk.n; i-- > 0 && !s->disk.v[i].problem;) {
        struct backup *b = &s->disk.v[i];
        AUTO_ERR struct err *e = NULL;
        if (!s->o->bitmap && !b->m.has_checkpoint)
            err_set(&e, ENOENT, "it was not taken from a checkpoint");
        else if (chain_resolve(&s->disk, b, &s->base, &e)) {
            if (check_layers(s, &e) && background_check_hashes(&s->disk, &s->base, &e))
                return;
            chain_free(&s->base);
        }
        if (s->o->ctl->interrupted)
            return;
        log_warn("cannot build on backup %" PRIu64 ": %s", b->m.sequence, err_msg(e));
        if (!why)
            why = steal(e);
        if (s->o->bitmap)
            break;
    }
    say_full(s, "no backup to build on: %s",
             why       ? err_msg(why)
             : damaged ? err_msg(damaged->problem)
                       : "none is whole");
}

static bool prepare(struct session *s, struct err **errp, enum backup_status *status)
{
    const char *name = s->o->name ? s->o->name : s->uri.export_name;
    *status = BACKUP_FAILED;
    if (!*name && !s->o->name)
        name = "disk";
    if (!s->o->name && !disk_name_check(name, errp))
        return err_prefix(errp, "no --name was given, so the export's counts: ");
    if (!disk_open(s->o->repo, name, true, &s->disk, errp))
        return false;
    s->disk.stop = &s->o->ctl->interrupted;
    if (!disk_lock(&s->disk, errp)) {
        /* A folder that cannot be written to is not better later. */
        if (!errp || err_code(*errp) == EBUSY)
            *status = BACKUP_RETRY;
        return false;
    }
    /* Another run may have published between the first look and the lock. */
    if (!disk_scan(&s->disk, errp))
        return false;
    disk_clean(&s->disk);
    choose_base(s);
    unsigned cap = s->o->max_chain ? s->o->max_chain : 30;
    if (s->base.n >= min_u64(cap, REPO_CHAIN_MAX)) {
        log_info("the chain has %zu layers: a full backup starts a new one", s->base.n);
        s->base.n = 0;
    }
    uuid_new(&s->uuid);
    return true;
}

static const struct uuid *base_uuid(const struct session *s)
{
    return s->base.n ? &s->base.v[s->base.n - 1]->uuid : NULL;
}

/* Having seen the source: is the increment possible? */
static void settle_level(struct session *s)
{
    if (s->base.n == 0)
        return;
    const struct manifest *m = &s->base.v[s->base.n - 1]->m;
    if (m->size != s->source.size)
        say_full(s, "the disk was resized from %" PRIu64 " to %" PRIu64 " bytes", m->size,
                 s->source.size);
    else if (!s->checkpoint && !s->o->bitmap)
        say_full(s, "the export has no checkpoints, so what changed is not known");
    else if (!s->source.has_dirty)
        say_full(s, "the server does not know checkpoint %s%s any more (was it restarted?)",
                 CHECKPOINT_PREFIX, s->base_text);
}

static bool open_hash_file(struct session *s, struct err **errp)
{
    char file[REPO_NAME_MAX];
    repo_file(file, &s->uuid, HASH_EXT, true);
    s->hash_fd = openat(s->disk.dir_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (s->hash_fd < 0)
        return err_set_errno(errp, errno, "%s/%s", s->disk.path, file);
    s->hashes = hash_writer_new(s->hash_fd, file, &s->uuid, s->source.size, errp);
    return s->hashes != NULL;
}

static void wake_source(void *arg)
{
    source_abort(arg);
}

void session_wake(struct session *s, struct source *source)
{
    s->o->ctl->wake = source ? wake_source : NULL;
    s->o->ctl->wake_arg = source;
}

static bool copy(struct session *s, struct err **errp)
{
    struct span dirty, alloc;
    bool inc = s->base.n > 0;
    struct plan plan = {.size = s->source.size};
    struct progress progress;
    uint64_t want = s->o->request ? s->o->request : PULL_REQUEST_DEFAULT;
    uint64_t request =
        round_down(min_u64(min_u64(want, PULL_REQUEST_MAX), s->source.max_request), BACKUP_BLOCK);
    if (request == 0)
        return err_set(errp, ENOTSUP, "the server takes at most %u bytes at once; 65536 are needed",
                       s->source.max_request);
    span_init(&dirty, plan.size, source_dirty, &s->source);
    span_init(&alloc, plan.size, source_allocation, &s->source);
    plan.dirty = inc ? &dirty : NULL;
    plan.alloc = s->source.has_allocation ? &alloc : NULL;
    progress_init(&progress, STDERR_FILENO, inc ? "incremental backup" : "full backup", plan.size);

    struct pull_opts co = {
        .source = &s->source,
        .plan = &plan,
        .layer = s->layer,
        .hashes = s->hashes,
        .progress = &progress,
        .explicit_zeros = inc,
        .workers = s->source.n * (s->o->depth ? s->o->depth : 16),
        .request = (uint32_t)request,
        .stop = &s->o->ctl->interrupted,
    };
    session_wake(s, &s->source);
    bool ok = pull_run(&co, &s->copied, errp);
    session_wake(s, NULL);
    progress_end(&progress);
    span_free(&dirty);
    span_free(&alloc);
    return ok;
}

static bool fill_manifest(struct session *s, struct err **errp)
{
    struct manifest *m = &s->manifest;
    m->uuid = s->uuid;
    m->sequence = disk_next_sequence(&s->disk);
    m->created = s->frozen_at;
    m->size = s->source.size;
    m->live = !s->checkpoint && !s->source.read_only;
    m->has_checkpoint = s->checkpoint;
    m->data_bytes = s->copied.data_bytes;
    m->zero_bytes = s->copied.zero_bytes;
    m->disk = mem_strdup(s->disk.name);
    m->source_uri = mem_strdup(s->uri.shown);
    m->source_export = mem_strdup(s->uri.export_name);
    m->bitmap = s->o->bitmap && s->base.n ? mem_strdup(s->o->bitmap) : NULL;
    if (s->base.n) {
        m->has_parent = true;
        m->parent = *base_uuid(s);
        m->parent_manifest = s->base.v[s->base.n - 1]->manifest_digest;
    }
    return (m->disk && m->source_uri && m->source_export &&
            (m->bitmap || !s->o->bitmap || !s->base.n)) ||
           err_set(errp, ENOMEM, "out of memory");
}

/* The copy is complete: make it durable, sum it up, publish. */
static bool finish(struct session *s, struct err **errp)
{
    struct node *layer = s->layer;
    s->layer = NULL;
    if (!layer_finish(&s->disk, &s->uuid, layer, &s->manifest.layer_size, errp))
        return false;
    if (!hash_writer_end(s->hashes, &s->manifest.layer_root, errp))
        return false;
    if (!background_root(&s->disk, &s->base, &s->uuid, s->source.size, &s->manifest.disk_root,
                         errp) ||
        !fill_manifest(s, errp))
        return false;
    if (s->o->ctl->interrupted)
        return err_set(errp, ECANCELED, "interrupted");
    return publish(&s->disk, &s->manifest, errp);
}

static bool transfer(struct session *s, struct err **errp)
{
    s->begun = true;
    if (!open_hash_file(s, errp))
        return false;
    s->layer = layer_create(&s->disk, &s->uuid, s->source.size, base_uuid(s), errp);
    if (!s->layer || !copy(s, errp))
        return false;
    /* The server need not keep the frozen view while this run sums up and syncs. */
    s->connections = s->source.n;
    source_close(&s->source);
    return finish(s, errp);
}

static void report(struct session *s, struct backup_report *out)
{
    *out = (struct backup_report){
        .uuid = s->uuid,
        .disk = mem_strdup(s->disk.name),
        .sequence = s->manifest.sequence,
        .size = s->manifest.size,
        .incremental = s->manifest.has_parent,
        .reason = steal(s->reason),
        .read_bytes = s->copied.read_bytes,
        .data_bytes = s->copied.data_bytes,
        .zero_bytes = s->copied.zero_bytes,
        .layer_size = s->manifest.layer_size,
        .connections = s->connections,
        .disk_root = s->manifest.disk_root,
    };
}

static void session_close(struct session *s, bool published)
{
    source_close(&s->source);
    node_unref(s->layer);
    hash_writer_free(s->hashes);
    if (s->hash_fd >= 0)
        close(s->hash_fd);
    if (s->begun && !published)
        publish_abandon(&s->disk, &s->uuid);
    manifest_free(&s->manifest);
    chain_free(&s->base);
    disk_close(&s->disk);
    nbd_uri_free(&s->uri);
    mem_free(s->reason);
}

enum backup_status backup_run(const struct backup_opts *o, struct backup_report *out,
                              struct err **errp)
{
    struct session s = {.o = o, .hash_fd = -1, .disk = {.dir_fd = -1, .lock_fd = -1}};
    enum backup_status status = BACKUP_FAILED;
    int64_t start = elapsed_ns(0);
    bool ok = false;

    memset(out, 0, sizeof(*out));
    if (nbd_uri_parse(o->uri, &s.uri, errp) && prepare(&s, errp, &status)) {
        if (s.base.n)
            uuid_format(base_uuid(&s), s.base_text);
        status = o->ctl->interrupted ? BACKUP_FAILED : session_open_source(&s, errp);
        session_wake(&s, NULL);
        if (status == BACKUP_OK) {
            settle_level(&s);
            ok = transfer(&s, errp);
            status = !ok ? BACKUP_FAILED : s.reason ? BACKUP_DEGRADED : BACKUP_OK;
        }
    }
    if (ok) {
        report(&s, out);
        out->elapsed_ns = elapsed_ns(start);
    }
    session_close(&s, ok);
    if (!ok && o->ctl->interrupted) {
        /* Whatever failed, failed for this. */
        err_free(errp ? *errp : NULL);
        if (errp)
            *errp = NULL;
        err_set(errp, ECANCELED, "interrupted");
        status = BACKUP_FAILED;
    }
    return status;
}

void backup_report_free(struct backup_report *r)
{
    mem_free(r->disk);
    mem_free(r->reason);
    memset(r, 0, sizeof(*r));
}
