/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Checkpoints across restarts: each has a dirty bitmap in the image, checkpoint/FROM-TO/NAME.
 * Numbers follow on each other, and only the last one records: so a bitmap that somebody has taken
 * away is missed.
 *
 * While a server runs these bitmaps are places only: dirty all over, recording nothing, and in use
 * on disk, so that a crash leaves them inconsistent for everybody to see. When an export ends they
 * get what has been recorded: each what changed between its checkpoint and the next, the last one
 * what changed since; and that one is enabled, so that other programs go on with it. At the next
 * start they become checkpoints again, without views; or, if any of them cannot be believed, none
 * does, for the changes since every one of them are in all that follow.
 *
 * Nothing here may fail an export: who asks for the changes since a checkpoint that is not there is
 * told so, and copies all.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/node_bitmap.h"
#include "server/server_priv.h"

#define PREFIX "checkpoint/"

/* Where e's bitmaps can be stored, or NULL. */
static struct node *store_of(const struct export *e)
{
    struct node *n = e->top;

    while (!n->drv->bitmap_ops && n->drv->is_filter)
        n = n->child[0];
    return n->drv->bitmap_ops && !n->read_only && n->size == e->top->size ? n : NULL;
}

static char *place_name(const struct checkpoint *k)
{
    return mem_printf(PREFIX "%" PRIu64 "-%" PRIu64 "/%s", k->number, k->upto, k->name);
}

static bool parse_number(const char **at, char stop, uint64_t *number)
{
    char *end;

    if (**at < '0' || **at > '9')
        return false;
    errno = 0;
    *number = strtoull(*at, &end, 10);
    *at = end + 1;
    return errno == 0 && *end == stop;
}

/* Its name as a checkpoint; NULL: it is none's. */
static const char *parse_place(const struct bitmap *b, uint64_t *number, uint64_t *upto)
{
    const char *at = b->name;

    if (!at || strncmp(at, PREFIX, strlen(PREFIX)) != 0)
        return NULL;
    at += strlen(PREFIX);
    return parse_number(&at, '-', number) && parse_number(&at, '/', upto) && *at ? at : NULL;
}

static struct bitmap *place_of(struct node *store, const struct checkpoint *k)
{
    AUTO_FREE char *name = place_name(k);

    return name ? node_bitmap_find(store, name) : NULL;
}

void checkpoint_reserve(struct checkpoint *k)
{
    struct export *e = k->exp;
    struct node *store = store_of(e);
    AUTO_FREE char *name = store ? place_name(k) : NULL;
    uint32_t granularity = e->recording ? e->recording->granularity
                                        : bitmap_default_granularity(e->top->limits.cluster);
    struct err *why = NULL;
    struct bitmap *b;

    if (!name)
        return;
    b = node_bitmap_add(store, name, granularity, true, &why);
    if (b) {
        b->enabled = false;
        bitmap_mark(b, 0, b->size);
    } else {
        log_info("export '%s': checkpoint '%s' will not survive a restart: %s", e->name, k->name,
                 err_msg(why));
    }
    err_free(why);
}

static void remove_place(struct node *store, const char *name)
{
    struct err *why = NULL;

    if (!node_bitmap_remove(store, name, &why))
        log_warn("bitmap '%s' could not be removed: %s", name, err_msg(why));
    err_free(why);
}

void checkpoint_unreserve(struct checkpoint *k)
{
    struct node *store = store_of(k->exp);
    struct bitmap *b = store ? place_of(store, k) : NULL;

    if (b)
        remove_place(store, b->name);
}

void checkpoint_absorb(struct checkpoint *k)
{
    checkpoint_unreserve(k);
    if (!k->prev)
        return;
    checkpoint_unreserve(k->prev);
    k->prev->upto = k->upto;
    checkpoint_reserve(k->prev);
}

void checkpoints_save(struct export *e)
{
    struct node *store = store_of(e);

    for (struct checkpoint *k = e->last; k && store; k = k->prev) {
        struct bitmap *from = k->segment ? k->segment : e->recording;
        struct bitmap *b = place_of(store, k);

        /* Of a disk of another size, or with other granules: dirty all over is right, too. */
        if (!b || b->busy || b->size != from->size || b->granularity != from->granularity)
            continue;
        bitmap_swap(b, from);
        b->enabled = !k->segment;
    }
}

static void forget_all(struct export *e, struct node *store)
{
    struct bitmap *b = node_bitmap_first(store), *next;
    uint64_t number, upto;

    while (e->last)
        checkpoint_forget(e->last);
    for (; b; b = next) {
        const char *name = parse_place(b, &number, &upto);

        next = b->next;
        if (!name)
            continue;
        log_warn("export '%s': checkpoint '%s' is lost: %s; the next backup from there is a full "
                 "one",
                 e->name, name,
                 b->inconsistent ? "the image was not closed in order"
                                 : "what changed since is not all known");
        remove_place(store, b->name);
    }
}

/* Before the first with a higher number. */
static void insert(struct export *e, struct checkpoint *k)
{
    struct checkpoint *after = e->last;

    while (after && after->number > k->number)
        after = after->prev;
    k->prev = after;
    k->next = after ? after->next : e->first;
    if (k->next)
        k->next->prev = k;
    else
        e->last = k;
    if (after)
        after->next = k;
    else
        e->first = k;
    e->n_checkpoints++;
}

/* A checkpoint without a view and, so far, without content. */
static bool load_one(struct export *e, const struct bitmap *b)
{
    struct checkpoint *k = mem_new(struct checkpoint);
    struct wire_str text;
    const char *name;

    if (!k)
        return false;
    name = parse_place(b, &k->number, &k->upto);
    text = (struct wire_str){name, strlen(name)};
    k->exp = e;
    k->name = mem_strdup(name);
    k->segment = b->enabled ? NULL : bitmap_new(NULL, b->size, b->granularity);
    k->last_use = ++e->use_clock;
    if (k->name && (k->segment || b->enabled) && !b->busy && !b->inconsistent &&
        checkpoint_check_name(text, NULL) && !checkpoint_find(e, text)) {
        insert(e, k);
        return true;
    }
    checkpoint_free(k);
    return false;
}

/* Is the chain whole, and is what changed since the last one recorded? */
static bool is_whole(const struct export *e)
{
    for (const struct checkpoint *k = e->first; k; k = k->next) {
        if (k->upto < k->number || (k->prev && k->number != k->prev->upto + 1) ||
            !k->segment != !k->next)
            return false;
    }
    return true;
}

/* Nothing in here can fail: contents change places. */
static void take_contents(struct export *e, struct node *store)
{
    for (struct checkpoint *k = e->first; k; k = k->next) {
        struct bitmap *b = place_of(store, k);

        bitmap_swap(b, k->segment ? k->segment : e->recording);
        b->enabled = false;
        bitmap_mark(b, 0, b->size);
    }
    e->last_number = e->last->upto;
    log_info("export '%s': %u checkpoints are known from before", e->name, e->n_checkpoints);
}

void checkpoints_load(struct export *e)
{
    struct node *store = store_of(e);
    struct bitmap *newest;
    uint64_t number, upto;
    bool ok = true;

    if (!e->checkpoints || !store)
        return;
    for (struct bitmap *b = node_bitmap_first(store); b && ok; b = b->next) {
        if (parse_place(b, &number, &upto))
            ok = load_one(e, b);
    }
    if (ok && !e->last)
        return;
    newest = ok && is_whole(e) ? place_of(store, e->last) : NULL;
    if (newest)
        e->recording = node_bitmap_add(e->top, NULL, newest->granularity, false, NULL);
    if (e->recording)
        take_contents(e, store);
    else
        forget_all(e, store);
}
