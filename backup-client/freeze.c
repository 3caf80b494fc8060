/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Choosing what to read: the frozen view DISK@bw-UUID of a server with checkpoints, or else an
 * export that does not change, or, when the user insists, one that may.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "backup-client/session_priv.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"

static enum backup_status status_of(enum source_result r)
{
    return r == SOURCE_OK ? BACKUP_OK : r == SOURCE_UNREACHABLE ? BACKUP_RETRY : BACKUP_FAILED;
}

static struct source_opts source_options(const struct session *s)
{
    return (struct source_opts){
        .uri = s->o->uri,
        .connections = s->o->connections ? s->o->connections : 4,
        .timeout_ms = s->o->timeout_ms ? s->o->timeout_ms : 120000,
    };
}

/* The export itself, for lack of a frozen view of it. */
static enum backup_status open_plain(struct session *s, struct err **errp)
{
    if (s->o->ctl->interrupted) {
        err_set(errp, ECANCELED, "interrupted");
        return BACKUP_FAILED;
    }
    struct source_opts so = source_options(s);
    enum source_result r =
        source_open(&s->source, &so, s->uri.export_name, s->base.n ? s->o->bitmap : NULL, errp);
    if (r != SOURCE_OK) {
        err_prefix(errp, "%s: ", s->uri.shown);
        return status_of(r);
    }
    if (!s->source.read_only && !s->o->allow_live) {
        err_set(errp, ENOTSUP,
                "%s: the export may be written while it is read, and the server offers no "
                "checkpoints; serve it with `breakwater serve --checkpoints`, or read-only, or "
                "accept an inconsistent backup with --allow-live",
                s->uri.shown);
        return BACKUP_FAILED;
    }
    if (s->o->bitmap && s->base.n && !s->source.has_dirty) {
        err_set(errp, ENOENT,
                "%s: the server has no bitmap '%s' on this export (or does not "
                "publish it)",
                s->uri.shown, s->o->bitmap);
        return BACKUP_FAILED;
    }
    return BACKUP_OK;
}

/* Does the server take any name for its one export? Then a view's name froze nothing. A
 * checkpoint's name has no control characters, so a server that keeps checkpoints refuses this one.
 */
static bool takes_any_name(struct session *s)
{
    struct source probe;
    struct source_opts so = source_options(s);
    AUTO_FREE char *name = mem_printf("%s@\x01", s->uri.export_name);
    so.connections = 1;
    if (!name)
        return true;
    session_wake(s, &probe);
    enum source_result r = source_open(&probe, &so, name, NULL, NULL);
    session_wake(s, &s->source);
    source_close(&probe);
    /* A server that keeps checkpoints refuses; one that cannot be asked has not. */
    return r == SOURCE_OK || r == SOURCE_UNREACHABLE;
}

enum backup_status session_open_source(struct session *s, struct err **errp)
{
    char name[CHECKPOINT_NAME_LEN + 1], base[CHECKPOINT_NAME_LEN + 1];
    AUTO_ERR struct err *why = NULL;

    session_wake(s, &s->source);
    s->frozen_at = (int64_t)time(NULL);
    if (s->o->bitmap)
        return open_plain(s, errp);

    manifest_checkpoint(&s->uuid, name);
    if (s->base.n)
        manifest_checkpoint(&s->base.v[s->base.n - 1]->uuid, base);
    AUTO_FREE char *view = mem_printf("%s@%s", s->uri.export_name, name);
    /* Made by the first connection and by no other: were the server started anew meanwhile, the
     * next one would freeze a later instant under this name. */
    AUTO_FREE char *make = mem_printf("%s@+%s", s->uri.export_name, name);
    if (!view || !make) {
        err_set(errp, ENOMEM, "out of memory");
        return BACKUP_FAILED;
    }
    struct source_opts so = source_options(s);
    so.first = make;
    enum source_result r = source_open(&s->source, &so, view, s->base.n ? base : NULL, &why);
    if (r == SOURCE_OK && s->source.read_only && (s->source.has_dirty || !takes_any_name(s))) {
        s->checkpoint = true;
        return BACKUP_OK;
    }
    source_close(&s->source);
    if (r == SOURCE_OK || r == SOURCE_NO_EXPORT) {
        log_debug("no frozen view: %s", why ? err_msg(why) : "the server takes any name");
        return open_plain(s, errp);
    }
    err_move(errp, steal(why));
    err_prefix(errp, "%s: ", s->uri.shown);
    return status_of(r);
}
