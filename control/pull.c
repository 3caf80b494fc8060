/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The life of backup sessions. How they begin is in pull_begin.c.
 *
 * Ending one waits for its clients' last requests without the lock for changes, so that a disk that
 * hangs blocks nobody else; only then the bitmaps are settled, under the lock.
 */
#include "control/pull_priv.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "block/node_bitmap.h"
#include "control/export_priv.h"

#define REMEMBERED 64 /* sessions that have ended */
#define RETRY_NS NS_PER_S

static const char *const level_names[] = {"auto", "full", "incremental", "differential", "copy"};

const char *pull_level_name(enum pull_level level)
{
    return level_names[level];
}

struct pull *pull_find(struct control *c, const char *id, struct err **errp)
{
    for (struct pull *p = c->pulls; p; p = p->next) {
        if (strcmp(p->id, id) == 0)
            return p;
    }
    err_set(errp, ENOENT, "Backup '%s' not found", id);
    return NULL;
}

struct pull *pulls_active(const struct control *c)
{
    struct pull *p = c->pulls;

    while (p && p->status != PULL_ACTIVE)
        p = p->next;
    return p;
}

uint64_t pull_scratch(const struct pull_disk *d)
{
    return d->point.view ? cbw_view_scratch(d->point.view) : 0;
}

const struct pull_disk *pull_lost(const struct pull *p)
{
    for (size_t i = 0; i < p->n_disks; i++) {
        if (p->disk[i].point.view && cbw_view_broken(p->disk[i].point.view))
            return &p->disk[i];
    }
    return NULL;
}

/* --- Memory --- */

static void free_disks(struct pull *p)
{
    for (size_t i = 0; i < p->n_disks; i++) {
        struct pull_disk *d = &p->disk[i];

        mem_free(d->stem_text);
        mem_free(d->export_id);
        mem_free(d->export_name);
        if (d->scratch_fd >= 0)
            close(d->scratch_fd);
    }
    mem_free(p->disk);
    p->disk = NULL;
    p->n_disks = 0;
}

void pull_free(struct pull *p)
{
    timer_cancel(&p->lease);
    free_disks(p);
    mem_free(p->id);
    mem_free(p);
}

/* Forget the oldest of those that have ended, if there are too many. */
static void forget_some(struct control *c)
{
    unsigned ended = 0;

    for (struct pull **at = &c->pulls, *p; (p = *at);) {
        if (p->status != PULL_ACTIVE && p->users == 0 && p->digests == 0 && ++ended > REMEMBERED) {
            *at = p->next;
            pull_free(p);
        } else {
            at = &p->next;
        }
    }
}

/* --- The end --- */

static void remove_bitmap(struct node *n, const char *name)
{
    struct err *e = NULL;

    if (!node_bitmap_remove(n, name, &e))
        log_error("%s: bitmap '%s' could not be removed: %s", n->name, name, err_msg(e));
    err_free(e);
}

/* All bitmaps of the disk's stem but the new one: whatever they were since, nobody holds it any
 * more. */
static void remove_older(struct pull_disk *d, struct node *n)
{
    struct bitmap *b = node_bitmap_first(n), *next;

    for (; b; b = next) {
        next = b->next;
        if (b != d->next && !b->busy && pull_is_of_stem(b, d->stem))
            remove_bitmap(n, b->name);
    }
}

void pull_disk_settle(struct pull_disk *d, bool success)
{
    struct node *n;

    if (!d->point.use)
        return;
    n = d->node->node;
    success = success && d->next;
    if (success && d->old) {
        /* It is about to go. Should that fail it must not claim that something is clean. */
        point_settle(&d->point, true);
        bitmap_mark(d->old, 0, d->old->size);
    }
    point_settle(&d->point, false);
    if (success)
        remove_older(d, n);
    else if (d->next)
        remove_bitmap(n, d->next->name);
    d->next = NULL;
    point_free(&d->point);
}

void pull_disk_unexport(struct pull_disk *d)
{
    struct err *e = NULL;

    if (d->export_id && !export_remove(d->pull->ctl, d->export_id, &e))
        log_error("%s", err_msg(e));
    err_free(e);
    mem_free(d->export_id);
    d->export_id = NULL;
}

static void tell_end(struct pull *p)
{
    event_emit(p->ctl, "BACKUP_ENDED",
               json_pack("{s:s,s:s,s:s*}", "id", p->id, "status",
                         p->status == PULL_SUCCEEDED ? "success" : "failure", "reason", p->why));
}

static bool check_outcome(const struct pull *p, bool success, struct err **errp)
{
    if (success == (p->status == PULL_SUCCEEDED))
        return true;
    if (success)
        return err_set(errp, EINVAL, "Backup '%s' has failed: %s", p->id, p->why);
    return err_set(errp, EINVAL, "Backup '%s' has ended with success already", p->id);
}

static bool end_it(struct pull *p, bool success, const char *why, struct err **errp)
{
    const struct pull_disk *lost;
    struct control *c = p->ctl;
    bool asked = success;

    p->ending = true;
    timer_cancel(&p->lease);
    while (p->digests > 0)
        co_queue_wait(&p->changed);
    for (size_t i = 0; i < p->n_disks; i++)
        pull_disk_unexport(&p->disk[i]);
    co_lock(&c->busy);
    lost = pull_lost(p);
    if (success && lost) {
        err_set(
            errp, EIO,
            "Backup '%s' has failed: the frozen view of node '%s' is lost; what was overwritten "
            "could not be kept",
            p->id, lost->node->name);
        success = false;
        why = "broken";
    }
    for (size_t i = 0; i < p->n_disks; i++)
        pull_disk_settle(&p->disk[i], success);
    free_disks(p);
    co_unlock(&c->busy);
    p->status = success ? PULL_SUCCEEDED : PULL_FAILED;
    p->why = success ? NULL : why;
    p->ending = false;
    co_queue_wake_all(&p->changed);
    tell_end(p);
    log_info("backup '%s' has ended: %s", p->id, success ? "success" : p->why);
    return success == asked;
}

bool pull_end(struct pull *p, bool success, const char *why, struct err **errp)
{
    bool ok;

    p->users++;
    while (p->ending)
        co_queue_wait(&p->changed);
    ok = p->status == PULL_ACTIVE ? end_it(p, success, why, errp) : check_outcome(p, success, errp);
    p->users--;
    return ok;
}

void pulls_stop(struct control *c)
{
    struct pull *p;

    while ((p = pulls_active(c)))
        (void)pull_end(p, false, "shutdown", NULL);
    while (c->pulls) {
        p = c->pulls;
        c->pulls = p->next;
        pull_free(p);
    }
}

/* --- The lease --- */

static void lease_fired(void *arg);

static void expire_run(void *arg)
{
    struct pull *p = arg;

    /* Renewed in the meantime, or about to end. */
    if (p->status == PULL_ACTIVE && !p->ending && !p->lease.heap_index) {
        log_warn("backup '%s': the lease has run out; it counts as failed", p->id);
        (void)pull_end(p, false, "expired", NULL);
    }
}

static void lease_fired(void *arg)
{
    struct pull *p = arg;

    if (!co_start(expire_run, p))
        timer_set(&p->lease, clock_ns() + RETRY_NS, lease_fired, p);
}

bool pull_renew(struct pull *p, int64_t lease_s, struct err **errp)
{
    if (p->status != PULL_ACTIVE || p->ending)
        return err_set(errp, EINVAL, "Backup '%s' has ended", p->id);
    if (lease_s > 0)
        p->lease_ns = lease_s * NS_PER_S;
    return timer_set(&p->lease, clock_ns() + p->lease_ns, lease_fired, p) ||
           err_set(errp, ENOMEM, "out of memory for a timer");
}

void pull_remember(struct pull *p)
{
    p->next = p->ctl->pulls;
    p->ctl->pulls = p;
    forget_some(p->ctl);
}
