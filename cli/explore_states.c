/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Walking along a recording, from one moment that tells most to the next, and judging what a power
 * cut could leave there.
 *
 * The medium is the disk under what is durable at the moment; it only moves on between moments,
 * when nobody looks at it. Contents are told apart by a sum of hashes of units: the medium's sum
 * changes with each unit that is written to it, and a state's is that and its own units. So the
 * same content at another moment is recognised, too; it is judged again only if more marks were set
 * by then, as the check may ask more of it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cli/explore.h"
#include "faults/crash.h"
#include "filters/overlay.h"
#include "io/reactor.h"

#define PRIVATE_MAX (256 * MiB)
#define STATES_OF_ONE_MOMENT 100000

struct walk {
    struct explore *x;
    struct node *medium;
    struct moments m;
    size_t since;   /* cuts have at least so many entries before them */
    size_t applied; /* entries that are on the medium */
    uint64_t sum;   /* of the medium's units, against how it began */
    uint64_t end;   /* size that holds all that was recorded */
    uint8_t *unit;

    uint64_t *seen; /* open addressing; 0: free */
    size_t seen_size;

    /* The present moment. */
    struct crash_set *set;
    unsigned *pick; /* states of the set that are judged */
    unsigned n_picked, next;
    uint64_t first_number; /* the number of pick[0] */
    struct co_group workers;
    struct co_mutex noting; /* the first failure */
    bool over;              /* stop; error: why, if not because enough is known */
    struct err *error;
};

/* --- The medium --- */

static bool read_unit(struct walk *w, uint64_t off, struct err **errp)
{
    uint64_t len = off >= w->medium->size ? 0 : min_u64(w->x->o->atomic, w->medium->size - off);
    int ret = 0;

    memset(w->unit + len, 0, w->x->o->atomic - len);
    if (len)
        ret = node_read(w->medium, off, w->unit, len);
    return ret == 0 || err_set_errno(errp, -ret, "reading the disk");
}

/* The sum of what is there now; added or taken away. */
static bool count_units(struct walk *w, const struct recorded_entry *e, bool add, struct err **errp)
{
    uint64_t unit = w->x->o->atomic;

    for (uint64_t u = e->off / unit; u * unit < e->off + e->len; u++) {
        uint64_t key;

        if (!read_unit(w, u * unit, errp))
            return false;
        key = crash_unit_key(w->unit, (uint32_t)unit, u);
        w->sum += add ? key : -key;
    }
    return true;
}

static bool apply(struct walk *w, const struct recorded_entry *e, struct err **errp)
{
    int ret;

    if (!count_units(w, e, false, errp))
        return false;
    ret = e->data ? node_write(w->medium, e->off, e->data, e->len, 0)
                  : node_zero(w->medium, e->off, e->len, 0);
    if (ret < 0)
        return err_set_errno(errp, -ret, "replaying the recording");
    return count_units(w, e, true, errp);
}

static bool apply_durable(struct walk *w, struct err **errp)
{
    for (; w->applied < w->m.now.first; w->applied++) {
        const struct recorded_entry *e = &w->x->recording.entry[w->applied];

        if (e->what <= RECORDED_TRIM && !apply(w, e, errp))
            return false;
    }
    return true;
}

/* --- The states of a moment --- */

static bool read_base(struct walk *w, struct crash_set *s, struct err **errp)
{
    uint64_t off;
    uint32_t len;

    for (uint64_t i = 0; crash_unit(s, i, &off, &len); i++) {
        if (!read_unit(w, off, errp))
            return false;
        if (!crash_base(s, i, w->unit))
            return err_set(errp, ENOMEM, "out of memory");
    }
    return true;
}

static struct crash_set *find_states(struct walk *w, unsigned most, struct err **errp)
{
    struct cache c = {.conf = {.unit = w->x->o->atomic,
                               .states = most,
                               .seed = rng_hash(w->x->o->seed ^ rng_hash(w->m.now.end))}};
    struct crash_set *s = NULL;

    if (moment_cache(&w->x->recording, &w->m.now, &c))
        s = crash_new(&c);
    cache_clear(&c);
    if (!s)
        err_set(errp, ENOMEM, "out of memory for the states of a moment");
    if (s && (!read_base(w, s, errp) ||
              (!crash_find(s) && !err_set(errp, ENOMEM, "out of memory for crash states")))) {
        crash_free(s);
        return NULL;
    }
    return s;
}

/* False: this content was there, with the same marks. */
static bool is_new(struct walk *w, unsigned i)
{
    uint64_t key = w->sum + crash_key(w->set, i);
    size_t k;

    key = rng_hash(key ^ rng_hash(w->m.now.marks));
    key += key == 0;
    for (k = key & (w->seen_size - 1); w->seen[k]; k = (k + 1) & (w->seen_size - 1))
        if (w->seen[k] == key)
            return false;
    w->seen[k] = key;
    return true;
}

static struct node *open_state(struct walk *w, unsigned i, struct err **errp)
{
    struct node *n = overlay_open(w->medium, PRIVATE_MAX, errp);

    if (!n)
        return NULL;
    node_ref(w->medium); /* overlay_open took one over */
    n->growable = w->x->o->host;
    n->size = max_u64(n->size, w->end);
    if (!crash_build(w->set, i, overlay_pages(n))) {
        node_unref(n);
        err_set(errp, ENOMEM, "no memory for a crash state");
        return NULL;
    }
    return n;
}

/* --- What failed --- */

static bool keep_first(struct walk *w, unsigned i, struct explore_failure *f, struct err **errp)
{
    const struct explore_opts *o = w->x->o;
    struct node *n;
    bool ok;

    if (!o->keep)
        return true;
    f->kept = mem_printf("%s/state-%" PRIu64 ".%s", o->keep, f->state,
                         o->host && o->format == FORMAT_QCOW2 ? "qcow2" : "raw");
    if (!f->kept)
        return err_set(errp, ENOMEM, "out of memory");
    n = open_state(w, i, errp);
    if (!n)
        return false;
    ok = explore_keep(n, f->kept, errp);
    node_unref(n);
    return ok;
}

/* With w->noting held: keeping a state yields, and another one may fail meanwhile. */
static bool note_failure(struct walk *w, unsigned i, uint64_t number, char *result, char *output,
                         struct err **errp)
{
    struct explore_failure f = {.state = number, .result = result, .output = output};
    struct explore_failure *first = &w->x->first;
    char what[160];

    if (first->result && first->state < number) {
        explore_failure_free(&f);
        return true;
    }
    crash_describe(w->set, i, what, sizeof(what));
    f.what = mem_printf("%s, after entry %zu of %zu", what, w->m.now.end, w->x->recording.n);
    f.mark = mem_strdup(w->m.now.mark);
    if ((!f.what || !f.mark) && !err_set(errp, ENOMEM, "out of memory"))
        goto fail;
    if (!keep_first(w, i, &f, errp))
        goto fail;
    if (first->kept)
        unlink(first->kept);
    explore_failure_free(first);
    *first = f;
    return true;
fail:
    explore_failure_free(&f);
    return false;
}

/* --- Judging --- */

static bool judge(struct walk *w, unsigned picked, struct err **errp)
{
    struct explore_state s = {.number = w->first_number + picked, .mark = w->m.now.mark};
    char *result = NULL, *output = NULL;
    bool ok = false, done;

    /* Our own checker may never wait: signals and clocks must have their turn. */
    if (w->x->tested % 64 == 0)
        co_sleep_until(clock_ns() + 1);
    if (w->x->commands.stopped)
        return err_set(errp, EINTR, "interrupted");
    s.node = open_state(w, w->pick[picked], errp);
    if (!s.node)
        return false;
    done = explore_check(w->x, &s, &ok, &result, &output, errp);
    node_unref(s.node);
    if (!done) {
        mem_free(result);
        mem_free(output);
        return false;
    }
    w->x->tested++;
    if (!ok) {
        w->x->failing++;
        w->over = w->over || w->x->o->stop_at_first;
        co_lock(&w->noting);
        done = note_failure(w, w->pick[picked], s.number, result, output, errp);
        co_unlock(&w->noting);
        if (!done)
            return false;
    }
    explore_progress(w->x);
    return true;
}

static void worker(void *arg)
{
    struct walk *w = arg;
    struct err *e = NULL;

    while (!w->over && w->next < w->n_picked) {
        if (judge(w, w->next++, &e))
            continue;
        w->over = true;
        if (w->error)
            err_free(e);
        else
            w->error = e;
        break;
    }
    co_group_done(&w->workers);
}

static void pick_states(struct walk *w, uint64_t *number, uint64_t most)
{
    const struct explore_opts *o = w->x->o;

    w->first_number = *number;
    w->n_picked = w->next = 0;
    for (unsigned i = 0; i < crash_count(w->set) && w->n_picked < most; i++)
        if (is_new(w, i))
            w->pick[w->n_picked++] = i;
    *number += w->n_picked;
    if (o->state == UINT64_MAX)
        return;
    /* Only one is wanted: it is here, or this is not its moment. */
    if (o->state >= w->first_number && o->state < *number) {
        w->pick[0] = w->pick[o->state - w->first_number];
        w->first_number = o->state;
        w->n_picked = 1;
    } else {
        w->n_picked = 0;
    }
}

static bool one_moment(struct walk *w, uint64_t *number, uint64_t most, struct err **errp)
{
    unsigned jobs = w->x->o->jobs;

    if (!apply_durable(w, errp))
        return false;
    w->set = find_states(w, (unsigned)min_u64(most, STATES_OF_ONE_MOMENT), errp);
    if (!w->set)
        return false;
    w->pick = mem_array(crash_count(w->set) + 1, sizeof(*w->pick));
    if (w->pick) {
        pick_states(w, number, most);
        for (unsigned i = 0; i < jobs && i < w->n_picked; i++) {
            co_group_add(&w->workers);
            if (!co_start(worker, w)) {
                co_group_done(&w->workers);
                break;
            }
        }
        co_group_wait(&w->workers);
        if (w->next == 0 && w->n_picked > 0 && !w->error)
            err_set(&w->error, ENOMEM, "out of memory");
    } else {
        err_set(&w->error, ENOMEM, "out of memory");
    }
    mem_free(w->pick);
    crash_free(w->set);
    w->x->moments++;
    return !w->error || err_move(errp, w->error);
}

static bool find_since(struct walk *w, struct err **errp)
{
    const struct recording *r = &w->x->recording;
    const char *name = w->x->o->since;

    for (size_t i = 0; name && i < r->n && w->since == 0; i++)
        if (r->entry[i].what == RECORDED_MARK && strcmp((char *)r->entry[i].data, name) == 0)
            w->since = i + 1;
    return !name || w->since ||
           err_set(errp, ENOENT, "--since '%s': there is no such mark in the recording", name);
}

static bool next_moment(struct moments *m, size_t since)
{
    while (moments_next(m))
        if (m->now.end >= since)
            return true;
    return false;
}

static uint64_t count_moments(const struct recording *r, size_t since)
{
    struct moments m = {.r = r};
    uint64_t n = 0;

    while (next_moment(&m, since))
        n++;
    return n;
}

/* The states are shared out between the moments; what one does not need goes to those that follow.
 * If there are not enough for all, some moments are passed over, evenly, but never the last. */
static bool walk(struct walk *w, struct err **errp)
{
    uint64_t n = count_moments(&w->x->recording, w->since), number = 0, most = w->x->o->states;

    w->m.r = &w->x->recording;
    for (uint64_t i = 0; !w->over && next_moment(&w->m, w->since); i++) {
        uint64_t left = most - number, share = left / (n - i);

        if (share == 0 && (left > 0 && (i + 1 == n || i * left / n != (i + 1) * left / n)))
            share = 1;
        /* As in judge: there may be many moments that have nothing new to judge. */
        if (i % 64 == 63)
            co_sleep_until(clock_ns() + 1);
        if (w->x->commands.stopped)
            return err_set(errp, EINTR, "interrupted");
        if (share > 0 && !one_moment(w, &number, share, errp))
            return false;
        if (number > w->x->o->state)
            return true;
    }
    return w->over || w->x->o->state == UINT64_MAX ||
           err_set(errp, ENOENT, "there is no state %" PRIu64 ": there are %" PRIu64 ", from 0",
                   w->x->o->state, number);
}

bool explore_states(struct explore *x, struct err **errp)
{
    struct walk w = {.x = x, .end = recording_end(&x->recording), .seen_size = 1024};
    bool ok = false;

    x->begun_ns = explore_now();
    while (w.seen_size < 2 * (size_t)x->o->states)
        w.seen_size *= 2;
    w.seen = mem_array(w.seen_size, sizeof(*w.seen));
    w.unit = mem_alloc(x->o->atomic);
    if (!w.seen || !w.unit) {
        err_set(errp, ENOMEM, "out of memory");
    } else if ((w.medium = overlay_open(x->base, UINT64_MAX, errp))) {
        node_ref(x->base); /* overlay_open took one over */
        w.medium->growable = x->o->host;
        ok = find_since(&w, errp) && walk(&w, errp);
        node_unref(w.medium);
    }
    x->ended_ns = explore_now();
    mem_free(w.seen);
    mem_free(w.unit);
    return ok;
}
