/* SPDX-License-Identifier: BSD-3-Clause
 *
 * EXPORT@crash/N: what a power cut may have left of an export, state by state.
 *
 * A state is opened when somebody first asks for it, and kept for a while after its last client has
 * left, with what was written to it: a check after a repair must find what the repair did.
 */
#include <errno.h>

#include "base/mem.h"
#include "base/parse.h"
#include "server/server_priv.h"

#define PREFIX "crash/"
#define IDLE_MAX 16

struct crash_view {
    struct crash_view *next;
    uint64_t number;
    unsigned users;
    uint64_t last_use;
    struct node *node;
};

bool crash_view_named(const struct export *e, struct wire_str name)
{
    size_t n = strlen(PREFIX);

    return e->crash.open && name.len > n && memcmp(name.p, PREFIX, n) == 0;
}

static bool parse_number(struct wire_str name, uint64_t *out, struct err **errp)
{
    size_t skip = strlen(PREFIX);
    char text[24] = "";

    if (name.len - skip < sizeof(text))
        memcpy(text, name.p + skip, name.len - skip);
    return parse_u64(text, "crash state", 0, UINT32_MAX, out, errp);
}

/* Forget the least recently used, if there are too many that nobody uses. */
static void drop_idle(struct export *e)
{
    struct crash_view **oldest = NULL, *v;
    unsigned idle = 0;

    for (struct crash_view **at = &e->crash_views; *at; at = &(*at)->next) {
        if ((*at)->users)
            continue;
        idle++;
        if (!oldest || (*at)->last_use < (*oldest)->last_use)
            oldest = at;
    }
    if (idle <= IDLE_MAX)
        return;
    v = *oldest;
    *oldest = v->next;
    node_unref(v->node);
    mem_free(v);
}

static struct crash_view *view_new(struct export *e, uint64_t number, struct err **errp)
{
    struct crash_view *v = mem_new(struct crash_view);

    if (!v) {
        err_set(errp, ENOMEM, "out of memory for a crash state");
        return NULL;
    }
    v->number = number;
    v->node = e->crash.open(e->crash.arg, (unsigned)number, errp);
    if (!v->node) {
        mem_free(v);
        return NULL;
    }
    v->next = e->crash_views;
    e->crash_views = v;
    return v;
}

struct crash_view *crash_view_open(struct export *e, struct wire_str name, struct err **errp)
{
    struct crash_view *v;
    uint64_t number;

    if (!parse_number(name, &number, errp))
        return NULL;
    co_lock(&e->ckpt_lock); /* opening yields: two must not open the same one */
    for (v = e->crash_views; v && v->number != number; v = v->next)
        ;
    if (!v)
        v = view_new(e, number, errp);
    if (v) {
        v->users++;
        v->last_use = ++e->use_clock;
        drop_idle(e);
    }
    co_unlock(&e->ckpt_lock);
    return v;
}

void crash_view_release(struct crash_view *v)
{
    v->users--;
}

struct node *crash_view_node(const struct crash_view *v)
{
    return v->node;
}

void crash_view_drop_all(struct export *e)
{
    while (e->crash_views) {
        struct crash_view *v = e->crash_views;

        e->crash_views = v->next;
        node_unref(v->node);
        mem_free(v);
    }
}
