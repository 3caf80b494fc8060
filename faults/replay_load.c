/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading a trace into an engine, and what the engine tells of the replay.
 *
 * Damage at rest and old content are kept with the fault that wants them (rest.c). A replay has no
 * faults, so each rule of the trace that needs such memory gets a stand-in, under its number: a
 * fault that is in no list and never asked.
 */
#include <errno.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "faults/engine_priv.h"
#include "faults/replay_priv.h"
#include "faults/trace_file.h"

struct stand_ins {
    struct fault *head;
    unsigned n;
};

/* What is done to the content that reads find, and not to the disk itself. */
static bool needs_memory(const struct trace_record *t)
{
    switch (t->what.deed) {
    case FAULT_OLD:
        return true;
    case FAULT_TORN:
    case FAULT_LOST:
    case FAULT_MISDIRECT:
    case FAULT_CORRUPT:
        return !t->what.on_disk && t->op != FAULT_READ;
    default:
        return false;
    }
}

/* Old content is kept from the first write on, so it must be known which reads will want it. */
static void widen(struct fault *f, const struct trace_record *t)
{
    uint64_t end = f->sel.len ? f->sel.off + f->sel.len : t->off;

    f->act.how = t->what.damage.how;
    f->act.action = ACTION_CORRUPT;
    f->sel.off = f->sel.len ? min_u64(f->sel.off, t->off) : t->off;
    f->sel.len = max_u64(end, t->off + t->len) - f->sel.off;
}

static bool stand_in(struct stand_ins *s, const char *path, const struct trace_record *t,
                     struct err **errp)
{
    struct fault *f = s->head;

    while (f && f->number != t->what.id)
        f = f->all_next;
    if (!f) {
        if (s->n == FAULTS_MAX)
            return err_set(errp, E2BIG, "'%s': more than %d rules that damage the disk", path,
                           FAULTS_MAX);
        f = mem_new(struct fault);
        if (!f)
            return err_set(errp, ENOMEM, "no memory for the trace '%s'", path);
        f->number = t->what.id;
        f->draw_id = t->what.id;
        f->sel.layer = t->layer;
        f->sel.prob = 1;
        f->act.action = ACTION_LOST;
        f->stand_in = true;
        f->all_next = s->head;
        s->head = f;
        s->n++;
        f->where = mem_printf("%s rule #%" PRIu64, path, f->number);
        if (!f->where)
            return err_set(errp, ENOMEM, "no memory for the trace '%s'", path);
    }
    if (f->sel.layer != t->layer)
        return err_set(errp, EINVAL, "'%s' is damaged: rule #%" PRIu64 " is of two layers", path,
                       f->number);
    if (t->what.deed == FAULT_OLD)
        widen(f, t);
    return true;
}

static bool take_record(struct replay *p, struct stand_ins *s, const struct trace_record *t,
                        struct trace_setup *setup, struct err **errp)
{
    const char *path = replay_info(p)->path;

    switch (t->type) {
    case TRACE_REQUEST:
        if (needs_memory(t) && !stand_in(s, path, t, errp))
            return false;
        return replay_add(p, t) || err_set(errp, ENOMEM, "no memory for the trace '%s'", path);
    case TRACE_SETUP:
        *setup = t->setup;
        return true;
    case TRACE_FULL:
        replay_set_full(p);
        return true;
    default:
        return true;
    }
}

static bool load(struct replay *p, struct stand_ins *s, const struct rules_names *names,
                 struct trace_setup *setup, uint64_t *seed, struct err **errp)
{
    const char *path = replay_info(p)->path;
    struct trace_file *f = trace_file_open(path, seed, errp);
    struct trace_record t;
    int more = -1;

    while (f && (more = trace_file_next(f, names, &t, errp)) > 0) {
        if (!take_record(p, s, &t, setup, errp)) {
            more = -1;
            break;
        }
    }
    if (more == 0 && !trace_file_is_whole(f))
        more = err_set(errp, EINVAL,
                       "'%s' has no end: its server was killed, or runs still; only a whole trace "
                       "can be replayed",
                       path) -
               1;
    trace_file_close(f);
    return more == 0;
}

bool rules_load_trace(struct rules *r, const char *path, struct fault_limits *limits,
                      struct err **errp)
{
    struct replay *p = replay_new(path);
    struct stand_ins s = {0};
    struct trace_setup setup = {0};
    struct fault *f;
    uint64_t seed;

    if (!p)
        return err_set(errp, ENOMEM, "no memory for the trace '%s'", path);
    if (!load(p, &s, r->names, &setup, &seed, errp)) {
        fault_list_free(s.head);
        replay_free(p);
        return false;
    }
    while ((f = s.head)) {
        s.head = f->all_next;
        fault_set_add(&r->faults, f);
    }
    r->replay = p;
    r->cache = setup.cache;
    *limits = setup.limits;
    rules_set_seed(r, seed);
    return true;
}

bool rules_replay_info(const struct rules *r, struct replay_info *out)
{
    if (r->replay)
        *out = *replay_info(r->replay);
    return r->replay;
}

bool replay_describe(const struct replay_info *i, char *buf, size_t buf_len)
{
    struct out o = {buf, buf_len, 0};
    bool exact = i->unknown == 0 && i->met == i->recorded;

    out_put(&o, "%s: of %" PRIu64 " requests %" PRIu64 " came, of %" PRIu64 " faults %" PRIu64,
            i->path, i->recorded, i->met, i->faults_recorded, i->faults_met);
    if (i->unknown)
        out_put(&o, "; %" PRIu64 " others came%s", i->unknown,
                i->full ? " (the trace was full)" : "");
    return exact;
}
