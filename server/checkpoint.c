/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checkpoints: connecting to EXPORT@NAME freezes the disk under that name.
 *
 * An export keeps an ordered list of checkpoints. Each but the newest has a sealed segment: the
 * bitmap of what changed between it and the next one. A nameless bitmap of the export's top node
 * records what changed since the newest. A new checkpoint is made with the export drained, in one
 * step without a yield: copy the recording bitmap into the segment of the checkpoint before, freeze
 * a copy-before-write view, clear the recording bitmap. Everything that can fail is done before
 * anything is changed.
 *
 *     first                       last
 *     monday --segment-- tuesday --segment-- wednesday --recording--> now
 *
 * The difference between a base and a view is then the union of the segments from the base up to
 * the view. A checkpoint stays useful as a base after its view is gone. When there are too many,
 * the least recently used that has no view is forgotten and its segment merged into the one before,
 * which keeps every older base right. A view lives while a connection uses it and for a grace
 * period after. What is recorded survives a restart: see checkpoint_store.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/node_bitmap.h"
#include "filters/filters.h"
#include "server/server_priv.h"

#define RETRY_DROP_NS NS_PER_S

bool checkpoint_check_name(struct wire_str name, struct err **errp)
{
    if (name.len == 0 || name.len > BITMAP_NAME_MAX)
        return err_set(errp, EINVAL, "a checkpoint name has 1 to %u bytes, not %zu",
                       BITMAP_NAME_MAX, name.len);
    for (size_t i = 0; i < name.len; i++) {
        unsigned char ch = (unsigned char)name.p[i];
        if (ch < 0x20 || ch == 0x7f)
            return err_set(errp, EINVAL,
                           "a checkpoint name has printable characters only, not byte 0x%02x", ch);
    }
    return true;
}

struct checkpoint *checkpoint_find(const struct export *e, struct wire_str name)
{
    for (struct checkpoint *k = e->first; k; k = k->next) {
        if (strlen(k->name) == name.len && memcmp(k->name, name.p, name.len) == 0)
            return k;
    }
    return NULL;
}

bool checkpoint_check_readable(const struct checkpoint *k, struct err **errp)
{
    if (k->view)
        return true;
    return err_set(errp, ENOENT,
                   "checkpoint '%s' of '%s' is no longer readable: its frozen view was released; "
                   "use a new name",
                   k->name, k->exp->name);
}

/* Its view is gone already. */
void checkpoint_free(struct checkpoint *k)
{
    if (!k)
        return;
    while (k->diffs) {
        struct diff *d = k->diffs;
        k->diffs = d->next;
        bitmap_free(d->map);
        mem_free(d);
    }
    for (unsigned i = 0; i < k->n_frozen; i++)
        bitmap_free(k->frozen[i]);
    mem_free(k->frozen);
    bitmap_free(k->segment);
    mem_free(k->name);
    mem_free(k);
}

static void unlink_checkpoint(struct checkpoint *k)
{
    struct export *e = k->exp;

    if (k->prev)
        k->prev->next = k->next;
    else
        e->first = k->next;
    if (k->next)
        k->next->prev = k->prev;
    else
        e->last = k->prev;
    e->n_checkpoints--;
    /* Differences that were made from it stay right, but nobody can ask for them any more. */
    for (struct checkpoint *o = e->first; o; o = o->next) {
        for (struct diff *d = o->diffs; d; d = d->next) {
            if (d->base == k)
                d->base = NULL;
        }
    }
}

void checkpoint_forget(struct checkpoint *k)
{
    unlink_checkpoint(k);
    checkpoint_free(k);
}

/* Forget checkpoints until there is room for one more. */
static bool make_room(struct export *e, struct err **errp)
{
    unsigned max = e->srv->o.max_checkpoints;

    while (e->n_checkpoints >= max) {
        struct checkpoint *victim = NULL;

        for (struct checkpoint *k = e->first; k && k != e->last; k = k->next) {
            if (!k->users && !k->view && (!victim || k->last_use < victim->last_use))
                victim = k;
        }
        if (!victim)
            return err_set(errp, EBUSY,
                           "export '%s' has %u checkpoints and all are in use; the limit is %u "
                           "(--max-checkpoints)",
                           e->name, e->n_checkpoints, max);
        if (victim->prev && !bitmap_merge(victim->prev->segment, victim->segment, errp))
            return false;
        log_info("export '%s': checkpoint '%s' is forgotten; at most %u are kept", e->name,
                 victim->name, max);
        checkpoint_absorb(victim);
        checkpoint_forget(victim);
    }
    return true;
}

/* An unlinked file for the scratch of a view. */
static int scratch_open(const struct server *s, struct err **errp)
{
    const char *dir = s->scratch_dir;
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        AUTO_FREE char *path = mem_printf("%s/breakwater-scratch-XXXXXX", dir);
        if (!path) {
            err_set(errp, ENOMEM, "out of memory for a scratch file name");
            return -1;
        }
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
    }
    if (fd < 0)
        err_set_errno(errp, EIO, "scratch file in '%s' (--scratch-dir): errno %d", dir, errno);
    return fd;
}

bool server_open_scratch(const struct server *s, int *fd, struct err **errp)
{
    *fd = s->o.scratch_in_memory ? -1 : scratch_open(s, errp);
    return *fd >= 0 || s->o.scratch_in_memory;
}

uint64_t server_scratch_limit(const struct server *s)
{
    return s->o.scratch_limit;
}

static bool copy_published(struct checkpoint *k, struct err **errp)
{
    struct export *e = k->exp;

    k->frozen = mem_array(e->n_maps + 1, sizeof(*k->frozen));
    if (!k->frozen)
        return err_set(errp, ENOMEM, "out of memory for copies of bitmaps");
    for (unsigned i = 0; i < e->n_maps; i++) {
        const struct bitmap *b = e->maps[i];

        k->frozen[i] = bitmap_copy(b, b->name);
        if (!k->frozen[i])
            return err_set(errp, ENOMEM, "out of memory for a copy of bitmap '%s'", b->name);
        k->n_frozen++;
    }
    return true;
}

/* The instant. The export is drained and nothing in here yields, except to undo. */
static bool freeze(struct checkpoint *k, int *scratch_fd, struct err **errp)
{
    struct export *e = k->exp;
    struct bitmap *segment = NULL;
    struct cbw_view_opts o = {.scratch_limit = e->srv->o.scratch_limit, .scratch_fd = *scratch_fd};

    if (!e->recording) {
        uint32_t granularity = bitmap_default_granularity(e->top->limits.cluster);
        e->recording = node_bitmap_add(e->top, NULL, granularity, false, errp);
        if (!e->recording)
            return false;
    }
    if (e->last) {
        segment = bitmap_copy(e->recording, NULL);
        if (!segment)
            return err_set(errp, ENOMEM, "out of memory for a copy of the recording bitmap");
    }
    if (!copy_published(k, errp))
        goto fail;
    k->view = cbw_view_open(e->cbw, &o, errp);
    if (!k->view)
        goto fail;
    *scratch_fd = -1;
    if (!bitmap_clear(e->recording, errp)) {
        node_unref(steal(k->view));
        goto fail;
    }
    k->prev = e->last;
    if (e->last) {
        e->last->segment = segment;
        e->last->next = k;
    } else {
        e->first = k;
    }
    e->last = k;
    e->last_number = k->number;
    e->n_checkpoints++;
    return true;
fail:
    bitmap_free(segment);
    return false;
}

static struct checkpoint *checkpoint_make(struct export *e, struct wire_str name, struct err **errp)
{
    if (!make_room(e, errp))
        return NULL;
    struct checkpoint *k = mem_new(struct checkpoint);
    if (k)
        k->name = mem_strndup(name.p, name.len);
    if (!k || !k->name) {
        checkpoint_free(k);
        err_set(errp, ENOMEM, "out of memory for a checkpoint");
        return NULL;
    }
    k->exp = e;
    k->number = k->upto = e->last_number + 1;
    checkpoint_reserve(k);
    int fd;
    bool ok = false;
    if (server_open_scratch(e->srv, &fd, errp)) {
        node_drain_begin(e->top);
        node_drain_begin(e->cbw);
        ok = freeze(k, &fd, errp);
        node_drain_end(e->cbw);
        node_drain_end(e->top);
        if (fd >= 0)
            close(fd);
    }
    if (!ok) {
        checkpoint_unreserve(k);
        checkpoint_free(k);
        err_prefix(errp, "checkpoint of '%s': ", e->name);
        return NULL;
    }
    log_info("export '%s': checkpoint '%s' is frozen", e->name, k->name);
    return k;
}

/* A backup client takes the checkpoint with its name for the instant of its backup. If looking at
 * one after a restart made it anew, what was written in between would be in no increment. */
bool checkpoint_may_open(const struct export *e, const struct checkpoint *k, struct wire_str name,
                         bool make, struct err **errp)
{
    char text[WIRE_PRINTABLE_SIZE];
    size_t n = strlen(CHECKPOINT_RESERVED);

    if (!k && !make && name.len >= n && memcmp(name.p, CHECKPOINT_RESERVED, n) == 0)
        return err_set(errp, ENOENT,
                       "export '%s' has no checkpoint '%s' (any more), and such names are made "
                       "only when a '+' is put before them",
                       e->name, wire_printable(text, name));
    for (unsigned i = 0; !k && i < e->n_maps; i++) {
        const char *map = e->maps[i]->name;

        if (strlen(map) == name.len && memcmp(map, name.p, name.len) == 0)
            return err_set(errp, EINVAL, "'%s' is a bitmap of '%s'; choose another checkpoint name",
                           map, e->name);
    }
    return true;
}

struct checkpoint *checkpoint_open(struct export *e, struct wire_str name, bool make,
                                   struct err **errp)
{
    co_lock(&e->ckpt_lock);
    struct checkpoint *k = checkpoint_find(e, name);
    if (!checkpoint_may_open(e, k, name, make, errp)) {
        co_unlock(&e->ckpt_lock);
        return NULL;
    }
    if (!k)
        k = checkpoint_make(e, name, errp);
    else if (!checkpoint_check_readable(k, errp))
        k = NULL;
    if (k) {
        k->users++;
        k->last_use = ++e->use_clock;
        timer_cancel(&k->grace);
    }
    co_unlock(&e->ckpt_lock);
    return k;
}

static void grace_fired(void *arg);

static void drop_run(void *arg)
{
    struct checkpoint *k = arg;
    struct export *e = k->exp;

    co_lock(&e->ckpt_lock);
    k->dropping = false;
    /* Somebody may have joined, or joined and left again, while this waited for the lock. */
    if (k->users == 0 && k->view && !k->grace.heap_index) {
        log_info("export '%s': the view of checkpoint '%s' is released", e->name, k->name);
        node_unref(steal(k->view));
    }
    co_unlock(&e->ckpt_lock);
    co_group_done(&e->ckpt_drops);
}

static void grace_fired(void *arg)
{
    struct checkpoint *k = arg;

    /* Only one at a time: once the first is through, the checkpoint itself may be forgotten. */
    if (k->dropping)
        return;
    k->dropping = true;
    co_group_add(&k->exp->ckpt_drops);
    if (!co_start(drop_run, k)) {
        k->dropping = false;
        co_group_done(&k->exp->ckpt_drops);
        timer_set(&k->grace, clock_ns() + RETRY_DROP_NS, grace_fired, k);
    }
}

void checkpoint_release(struct checkpoint *k)
{
    if (--k->users > 0)
        return;
    int64_t due = clock_ns() + (int64_t)k->exp->srv->o.view_grace_ms * NS_PER_MS;
    if (!timer_set(&k->grace, due, grace_fired, k))
        grace_fired(k);
}

static struct bitmap *diff_find(const struct checkpoint *k, const struct checkpoint *base)
{
    for (struct diff *d = k->diffs; d; d = d->next) {
        if (d->base == base)
            return d->map;
    }
    return NULL;
}

/* The union of the segments from base up to k; from where a difference is known already, that. */
static bool diff_join(struct bitmap *map, const struct checkpoint *k, const struct checkpoint *base,
                      struct err **errp)
{
    for (const struct checkpoint *s = base; s != k; s = s->next) {
        const struct bitmap *known = diff_find(k, s);

        if (!bitmap_merge(map, known ? known : s->segment, errp))
            return false;
        if (known)
            break;
    }
    return true;
}

const struct bitmap *checkpoint_diff(struct checkpoint *k, struct checkpoint *base,
                                     struct err **errp)
{
    struct export *e = k->exp;
    struct bitmap *known = diff_find(k, base);

    base->last_use = ++e->use_clock;
    if (known)
        return known;
    struct diff *d = mem_new(struct diff);
    if (d)
        d->map = bitmap_new(NULL, e->recording->size, e->recording->granularity);
    if (!d || !d->map) {
        mem_free(d);
        err_set(errp, ENOMEM, "out of memory for the changes since '%s'", base->name);
        return NULL;
    }
    if (!diff_join(d->map, k, base, errp)) {
        bitmap_free(d->map);
        mem_free(d);
        return NULL;
    }
    d->base = base;
    d->next = k->diffs;
    k->diffs = d;
    return d->map;
}

void checkpoint_read_failed(struct checkpoint *k)
{
    if (k->warned || !k->view || !cbw_view_broken(k->view))
        return;
    k->warned = true;
    log_warn(
        "export '%s': the view of checkpoint '%s' is broken: what was overwritten under it did "
        "not fit into %llu bytes of scratch in %s (--scratch-limit, --scratch-dir)",
        k->exp->name, k->name, (unsigned long long)k->exp->srv->o.scratch_limit,
        k->exp->srv->scratch_dir);
}

void checkpoint_drop_all(struct export *e)
{
    for (struct checkpoint *k = e->first; k; k = k->next)
        timer_cancel(&k->grace);
    co_group_wait(&e->ckpt_drops);
    co_lock(&e->ckpt_lock);
    checkpoints_save(e);
    while (e->last) {
        struct checkpoint *k = e->last;
        unlink_checkpoint(k);
        if (k->view)
            node_unref(steal(k->view));
        checkpoint_free(k);
    }
    if (e->recording) {
        node_bitmap_detach(e->top, e->recording);
        bitmap_free(steal(e->recording));
    }
    co_unlock(&e->ckpt_lock);
}
