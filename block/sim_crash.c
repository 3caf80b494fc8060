/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What one power cut leaves: the durable base, then every durable record and each volatile one that
 * survives, in the order in which they reached the disk (in-flight ones last: they had not).
 *
 * Keeping everything that has ended gives exactly what a reader would have seen at that moment.
 */
#include <string.h>

#include "base/mem.h"
#include "block/sim_priv.h"

unsigned sim_volatile(const struct sim_disk *d, uint64_t at, uint64_t *idx, unsigned max)
{
    unsigned n = 0;
    for (uint64_t i = 0; i < d->n && d->rec[i]->e.issued < at; i++) {
        if (!rec_is_volatile(d->rec[i], at))
            continue;
        if (n < max)
            idx[n] = i;
        n++;
    }
    return n;
}

/* Number the volatile records in order of issue. number: one slot a record issued before at. */
static unsigned cut_number(const struct sim_disk *d, uint64_t at, unsigned *number)
{
    unsigned n = 0;
    for (uint64_t i = 0; i < d->n && d->rec[i]->e.issued < at; i++)
        number[i] = rec_is_volatile(d->rec[i], at) ? n++ : CUT_DURABLE;
    return n;
}

static void cut_step(struct sim_cut *cut, const struct sim_rec *rec, unsigned number)
{
    if (rec_changes(rec))
        cut->step[cut->n_steps++] = (struct sim_step){.rec = rec, .keep_at = number};
}

/* Apply the leading durable steps once and for all. */
static bool cut_settle(struct sim_cut *cut)
{
    unsigned n = 0;
    while (n < cut->n_steps && cut->step[n].keep_at == CUT_DURABLE) {
        if (!rec_apply(&cut->settled, cut->step[n].rec))
            return false;
        n++;
    }
    cut->n_steps -= n;
    memmove(cut->step, cut->step + n, cut->n_steps * sizeof(*cut->step));
    return true;
}

bool cut_init(struct sim_cut *cut, const struct sim_disk *d, uint64_t at)
{
    memset(cut, 0, sizeof(*cut));
    if (!sim_view_clone(&cut->settled, &d->base))
        return false;
    unsigned *number = mem_array(d->n + 1, sizeof(*number));
    cut->step = mem_array(d->n + 1, sizeof(*cut->step));
    bool ok = number && cut->step;
    if (ok) {
        cut->n_volatile = cut_number(d, at, number);
        for (uint64_t k = 0; k < d->n_ended && d->rec[d->ended[k]]->ended < at; k++)
            cut_step(cut, d->rec[d->ended[k]], number[d->ended[k]]);
        for (uint64_t i = 0; i < d->n && d->rec[i]->e.issued < at; i++) {
            if (!d->rec[i]->ended || d->rec[i]->ended >= at)
                cut_step(cut, d->rec[i], number[i]);
        }
        ok = cut_settle(cut);
    }
    mem_free(number);
    if (!ok)
        cut_free(cut);
    return ok;
}

void cut_free(struct sim_cut *cut)
{
    sim_view_free(&cut->settled);
    mem_free(cut->step);
    cut->step = NULL;
}

bool cut_build(const struct sim_cut *cut, const struct sim_crash *c, struct sim_view *out)
{
    uint32_t unit = c->unit ? c->unit : 512;
    if (!sim_view_clone(out, &cut->settled))
        return false;
    for (unsigned i = 0; i < cut->n_steps; i++) {
        const struct sim_step *s = &cut->step[i];
        uint8_t keep = s->keep_at == CUT_DURABLE ? 1 : c->keep[s->keep_at];
        bool ok = true;
        if (keep == 1)
            ok = rec_apply(out, s->rec);
        else if (keep == 2)
            ok = rec_apply_torn(out, s->rec, c->tear_seed, unit);
        if (!ok) {
            sim_view_free(out);
            return false;
        }
    }
    return true;
}

struct sim_disk *sim_crash_disk(const struct sim_disk *d, const struct sim_crash *c)
{
    struct sim_cut cut;
    struct sim_view v;
    if (!cut_init(&cut, d, c->at))
        return NULL;
    bool ok = cut_build(&cut, c, &v);
    cut_free(&cut);
    return ok ? sim_disk_from(&v) : NULL;
}
