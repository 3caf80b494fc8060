/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Verifying backups.
 *
 * Each layer is read once, through the chain as it stands at that layer, and proves one point in
 * time: the blocks the layer lists are read and hashed; for the blocks it does not list, its tables
 * must show the parent's content through, or a wrong zero or stray cluster would change every
 * later restore without any listed block being wrong. With all layers of a chain proven so, each of
 * its points in time is.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "backup-client/background.h"
#include "backup-client/backup.h"
#include "backup-client/layer.h"
#include "backup-client/span.h"
#include "backup-client/sweep.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"
#include "io/reactor.h"

#define FAULTS_SHOWN 20 /* of one layer; the rest is counted */

struct verify {
    struct disk_repo disk;
    struct backup_control *ctl;
    verify_fault *fault;
    void *fault_arg;
    struct verify_report *out;
    enum backup_status status;
    bool *checked, *sound; /* for each backup: its hash file was read; and is right */

    /* The layer at hand. */
    const struct backup *b;
    int layer; /* its index in the chain */
    struct node *own, *view;
    struct span own_span, view_span;
    uint64_t faults;
};

static void found(struct verify *v, enum backup_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void found(struct verify *v, enum backup_status status, const char *fmt, ...)
{
    va_list ap;
    if (v->status != BACKUP_BROKEN)
        v->status = status;
    if (++v->faults > FAULTS_SHOWN + 1)
        return;
    va_start(ap, fmt);
    AUTO_FREE char *text =
        v->faults > FAULTS_SHOWN ? mem_strdup("... and more of this backup") : mem_vprintf(fmt, ap);
    va_end(ap);
    if (text && v->fault)
        v->fault(v->fault_arg, text);
}

static void found_err(struct verify *v, enum backup_status status, struct err *e)
{
    found(v, status, "%s", err_msg(e));
    err_free(e);
}

static bool node_fetch(void *arg, uint64_t off, uint64_t len, struct extents *x, struct err **errp)
{
    struct node *n = arg;
    int r = node_status(n, off, len, x);
    return r == 0 || err_set_errno(errp, -r, "%s: status at offset %" PRIu64, n->name, off);
}

/* Blocks that the layer at hand does not list. */
static bool look_through(struct verify *v, uint64_t off, uint64_t end, bool zeros, uint64_t *len,
                         struct err **errp)
{
    enum span_mix mix;
    uint64_t n;
    if (!span_blocks(&v->own_span, off, end, EXTENT_ZERO, &mix, len, errp))
        return false;
    if (mix != SPAN_ALL) {
        v->out->bad_blocks += div_round_up(*len, BACKUP_BLOCK);
        found(v, BACKUP_MISMATCH,
              "%s: backup %" PRIu64 ": holds data at offset %" PRIu64 " that it does not list",
              v->disk.path, v->b->m.sequence, off);
    }
    if (zeros)
        return true;
    if (!span_blocks(&v->view_span, off, off + *len, EXTENT_ZERO, &mix, &n, errp))
        return false;
    *len = n;
    if (mix == SPAN_ALL) {
        v->out->bad_blocks += div_round_up(*len, BACKUP_BLOCK);
        found(v, BACKUP_MISMATCH,
              "%s: backup %" PRIu64 ": hides its parent's data at offset %" PRIu64, v->disk.path,
              v->b->m.sequence, off);
    }
    return true;
}

static bool verify_look(void *arg, uint64_t block, uint64_t *run, int layer, bool zeros, bool *read,
                        struct err **errp)
{
    struct verify *v = arg;
    uint64_t off = block * BACKUP_BLOCK, len;
    uint64_t end = min_u64((block + *run) * BACKUP_BLOCK, v->b->m.size);
    enum span_mix mix;

    *read = false;
    if (layer != v->layer) {
        if (!look_through(v, off, end, zeros, &len, errp))
            return false;
    } else if (zeros) {
        if (!span_blocks(&v->view_span, off, end, EXTENT_ZERO, &mix, &len, errp))
            return false;
        *read = mix != SPAN_ALL;
    } else {
        *read = true;
        return true;
    }
    *run = div_round_up(len, BACKUP_BLOCK);
    return true;
}

static bool verify_differs(void *arg, uint64_t block, struct err **errp)
{
    struct verify *v = arg;
    v->out->bad_blocks++;
    found(v, BACKUP_MISMATCH,
          "%s: backup %" PRIu64 ": content at offset %" PRIu64 " does not have its SHA-256",
          v->disk.path, v->b->m.sequence, block * BACKUP_BLOCK);
    return true;
}

static bool verify_unreadable(void *arg, uint64_t off, uint64_t len, int error, struct err **errp)
{
    struct verify *v = arg;
    struct err *e = NULL;
    v->out->bad_blocks += div_round_up(len, BACKUP_BLOCK);
    err_set_errno(&e, -error, "%s: backup %" PRIu64 ": cannot read at offset %" PRIu64,
                  v->disk.path, v->b->m.sequence, off);
    found_err(v, BACKUP_BROKEN, e);
    return true;
}

static bool check_disk_root(struct verify *v, const struct chain *c, struct err **errp)
{
    struct digest root;
    bool ok = background_root(&v->disk, c, NULL, v->b->m.size, &root, errp);
    if (ok && !digest_equal(&root, &v->b->m.disk_root))
        found(v, BACKUP_BROKEN,
              "%s: backup %" PRIu64 ": \"disk_root\" of the manifest is not that "
              "of the chain's hash files",
              v->disk.path, v->b->m.sequence);
    return ok;
}

static bool read_layer(struct verify *v, const struct chain *c, struct err **errp)
{
    struct progress progress;
    struct merge *m = merge_new(&v->disk, c, c->n, NULL, v->b->m.size, errp);
    if (!m)
        return false;
    progress_init(&progress, STDERR_FILENO, "verify", v->b->m.size);
    span_init(&v->own_span, v->b->m.size, node_fetch, v->own);
    span_init(&v->view_span, v->b->m.size, node_fetch, v->view);
    struct sweep_opts so = {
        .merge = m,
        .from = v->view,
        .size = v->b->m.size,
        .progress = &progress,
        .ctl = v->ctl,
        .arg = v,
        .look = verify_look,
        .differs = verify_differs,
        .unreadable = verify_unreadable,
    };
    bool ok = sweep_run(&so, &v->out->read_bytes, errp);
    progress_end(&progress);
    span_free(&v->own_span);
    span_free(&v->view_span);
    merge_free(m);
    return ok;
}

/* Open the layer twice, alone and over its chain, and read it. */
static bool verify_layer(struct verify *v, const struct chain *c, struct err **errp)
{
    bool ok = false;
    v->layer = (int)c->n - 1;
    if (layer_check(&v->disk, v->b, errp))
        v->own = layer_open(&v->disk, &v->b->uuid, false, errp);
    v->view = v->own ? layer_open(&v->disk, &v->b->uuid, true, errp) : NULL;
    if (v->view)
        ok = read_layer(v, c, errp);
    node_unref(v->view);
    node_unref(v->own);
    v->view = v->own = NULL;
    v->out->layers++;
    return ok;
}

/* Are the hash files of this chain all right? Each is read once. */
static bool hashes_sound(struct verify *v, const struct chain *c, struct err **errp)
{
    for (size_t i = 0; i < c->n; i++) {
        size_t at = (size_t)(c->v[i] - v->disk.v);
        struct chain one = {.v = &c->v[i], .n = 1};
        if (!v->checked[at]) {
            v->checked[at] = true;
            v->sound[at] = background_check_hashes(&v->disk, &one, errp);
            if (!v->sound[at])
                return false;
        }
        if (!v->sound[at])
            return err_set(errp, EBADMSG,
                           "%s: backup %" PRIu64 " stands on backup %" PRIu64
                           ", whose hash file is damaged",
                           v->disk.path, c->v[c->n - 1]->m.sequence, c->v[i]->m.sequence);
    }
    return true;
}

static bool is_hopeless(const struct err *e)
{
    return err_code(e) == ECANCELED || err_code(e) == ENOMEM || err_code(e) == EMFILE ||
           err_code(e) == EACCES;
}

/* One backup, at the top of its chain. False: could not go on at all. */
static bool verify_backup(struct verify *v, struct backup *b, struct err **errp)
{
    struct chain c;
    struct err *e = NULL;
    v->b = b;
    v->faults = 0;
    bool ok = chain_resolve(&v->disk, b, &c, &e);
    if (ok) {
        ok = hashes_sound(v, &c, &e) && check_disk_root(v, &c, &e) && verify_layer(v, &c, &e);
        chain_free(&c);
    }
    if (ok)
        v->out->backups += v->faults == 0;
    else if (is_hopeless(e))
        return err_move(errp, e);
    else
        found_err(v, BACKUP_BROKEN, e);
    return true;
}

static bool verify_one(struct verify *v, const char *which, struct err **errp)
{
    struct err *e = NULL;
    struct chain c;
    struct backup *b = disk_find(&v->disk, which, &e);
    bool ok = true;
    if (!b && err_code(e) != EBADMSG)
        return err_move(errp, e);
    if (!b || !chain_resolve(&v->disk, b, &c, &e)) {
        found_err(v, BACKUP_BROKEN, e);
        return true;
    }
    for (size_t i = 0; ok && i < c.n; i++)
        ok = verify_backup(v, c.v[i], errp);
    chain_free(&c);
    return ok;
}

static void found_lost(void *arg, const char *name)
{
    struct verify *v = arg;
    found(v, BACKUP_BROKEN, "%s/%s: its manifest is missing", v->disk.path, name);
}

static bool verify_all(struct verify *v, struct err **errp)
{
    bool ok = disk_each_lost(&v->disk, found_lost, v, errp);
    if (ok && v->disk.n == 0 && v->status == BACKUP_OK)
        return err_set(errp, ENOENT, "%s: no backups", v->disk.path);
    for (size_t i = 0; ok && i < v->disk.n; i++) {
        v->faults = 0;
        if (v->disk.v[i].problem)
            found(v, BACKUP_BROKEN, "%s: %s", v->disk.path, err_msg(v->disk.v[i].problem));
        else
            ok = verify_backup(v, &v->disk.v[i], errp);
    }
    return ok;
}

enum backup_status verify_disk(const char *repo, const char *disk, const char *which,
                               struct backup_control *ctl, verify_fault *fault, void *fault_arg,
                               struct verify_report *out, struct err **errp)
{
    struct verify v = {.ctl = ctl, .fault = fault, .fault_arg = fault_arg, .out = out};
    int64_t start = elapsed_ns(0);
    bool ok = disk_open(repo, disk, false, &v.disk, errp);
    v.disk.stop = &ctl->interrupted;
    if (ok) {
        v.checked = mem_array(v.disk.n + 1, sizeof(bool));
        v.sound = mem_array(v.disk.n + 1, sizeof(bool));
        if (!v.checked || !v.sound)
            ok = err_set(errp, ENOMEM, "out of memory");
        else
            ok = which ? verify_one(&v, which, errp) : verify_all(&v, errp);
    }
    mem_free(v.checked);
    mem_free(v.sound);
    disk_close(&v.disk);
    out->elapsed_ns += elapsed_ns(start);
    return ok ? v.status : BACKUP_FAILED;
}
