/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a server opens once it serves: keys at SIGHUP, room for frozen views, the images that its
 * configuration file may come to name; and what it removes at the end. With a control socket nobody
 * can know: its clients name files and servers as they like.
 */
#include "cli/serve_sandbox.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sanitizers.h"
#include "cli/sandbox.h"
#include "io/reactor.h"

/* Sanitizers make calls of their own at the end, ptrace among them. */
#define SANITIZED (WITH_ASAN || WITH_TSAN)

/* The folder of a file, and that where it really is: certificates are often links to what is
 * renewed. */
static bool allow_linked(struct sandbox *s, const char *path, unsigned access, struct err **errp)
{
    char real[PATH_MAX];

    return sandbox_allow_folder_of(s, path, access, errp) &&
           (!realpath(path, real) || sandbox_allow_folder_of(s, real, access, errp));
}

static bool allow_keys(struct sandbox *s, const struct tls_creds_opts *c, struct err **errp)
{
    static const char *const names[] = {"server-cert.pem", "server-key.pem", "ca-cert.pem",
                                        "ca-crl.pem"};

    if (c->psk_file && !allow_linked(s, c->psk_file, SANDBOX_READ, errp))
        return false;
    for (size_t i = 0; c->dir && i < ARRAY_LEN(names); i++) {
        AUTO_FREE char *path = mem_printf("%s/%s", c->dir, names[i]);
        if (!path)
            return err_set(errp, ENOMEM, "out of memory for the sandbox");
        if (!allow_linked(s, path, SANDBOX_READ, errp))
            return false;
    }
    return true;
}

/* New images of a configuration file lie beside it, or beside those that it named at the start. */
static bool allow_images(struct sandbox *s, const struct serve_opts *o,
                         const struct serve_exports *e, struct err **errp)
{
    /* For the user of the command line, which is read again, too. */
    static const char *const accounts[] = {"/etc/passwd", "/etc/group", "/etc/nsswitch.conf"};
    unsigned all = SANDBOX_READ | SANDBOX_WRITE;

    if (!o->config)
        return true;
    for (const struct serve_running *r = e->first; r; r = r->next) {
        if (!allow_linked(s, r->x->image, all, errp) ||
            (r->x->backing_dir && !sandbox_allow(s, r->x->backing_dir, SANDBOX_READ, errp)))
            return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(accounts); i++) {
        if (!sandbox_allow(s, accounts[i], SANDBOX_READ, errp))
            return false;
    }
    return allow_linked(s, o->config, all, errp);
}

static const char *scratch_dir(const struct serve_opts *o)
{
    const char *dir = o->server.scratch_dir;

    if (!dir || !*dir)
        dir = getenv("TMPDIR");
    return dir && *dir ? dir : "/var/tmp";
}

static bool allow_leftovers(struct sandbox *s, const struct serve_opts *o,
                            const struct listening *l, struct err **errp)
{
    if (o->pid_file && !sandbox_allow_folder_of(s, o->pid_file, SANDBOX_REMOVE, errp))
        return false;
    for (unsigned i = 0; i < l->n_files; i++) {
        if (!sandbox_allow_folder_of(s, l->path[i], SANDBOX_REMOVE, errp))
            return false;
    }
    return !l->private_dir || sandbox_allow_folder_of(s, l->private_dir, SANDBOX_REMOVE, errp);
}

/* Are there views now, or may there be? */
static bool has_views(const struct serve_opts *o, const struct serve_exports *e)
{
    bool views = o->config || o->control;

    for (const struct serve_running *r = e->first; r; r = r->next)
        views |= r->x->checkpoints;
    return views;
}

static bool plan(struct sandbox *s, const struct serve_opts *o, const struct serve_exports *e,
                 const struct listening *l, struct err **errp)
{
    unsigned all = SANDBOX_READ | SANDBOX_WRITE;

    s->any_socket = o->control;
    s->children = o->run;
    s->any_file = o->control && o->n_allow_paths == 0;
    for (unsigned i = 0; i < o->n_allow_paths; i++) {
        if (!sandbox_allow(s, o->allow_paths[i], all | SANDBOX_REMOVE, errp))
            return false;
    }
    if (o->control && !sandbox_allow_folder_of(s, o->control, SANDBOX_REMOVE, errp))
        return false;
    return sandbox_allow(s, "/dev/null", all, errp) &&
           sandbox_allow(s, "/dev/urandom", SANDBOX_READ, errp) &&
           (!has_views(o, e) || sandbox_allow(s, scratch_dir(o), all, errp)) &&
           allow_keys(s, &o->tls.creds, errp) && allow_images(s, o, e, errp) &&
           allow_leftovers(s, o, l, errp);
}

bool serve_sandbox_enter(const struct serve_opts *o, const struct serve_exports *exports,
                         const struct listening *l, struct err **errp)
{
    struct sandbox s = {0};
    struct err *e = NULL;
    bool asked = o->sandbox == SERVE_SANDBOX_ON;

    if (o->sandbox == SERVE_SANDBOX_OFF)
        return true;
    if (SANITIZED && !asked) {
        log_debug("no sandbox: this program was built with sanitizers");
        return true;
    }
    bool planned = plan(&s, o, exports, l, &e);
    if (planned)
        reactor_rest(reactor_current());
    bool ok = planned && sandbox_enter(&s, &e);
    sandbox_free(&s);
    if (ok) {
        log_info("the sandbox is closed");
        return true;
    }
    if (asked || !planned) {
        err_move(errp, e);
        return err_prefix(errp, "--sandbox: ");
    }
    log_info("not all of the sandbox is in force: %s", err_msg(e));
    err_free(e);
    return true;
}
