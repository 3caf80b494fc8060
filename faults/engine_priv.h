/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The engine itself, for the files that change it: rules.c, suspend.c.
 */
#ifndef FAULTS_ENGINE_PRIV_H
#define FAULTS_ENGINE_PRIV_H

#include "faults/cache.h"
#include "faults/fault_priv.h"

struct rules {
    const struct rules_names *names;
    uint32_t state;
    struct rule **by_event; /* heads, newest first */
    struct rule *armed;
    struct rule **all; /* in load order; owns them, spent or not */
    unsigned n_all;

    struct rule *breaks;    /* set at run time and not from a file, by break_next; owns them */
    struct rule *suspended; /* rules that hold a request, newest first, by armed_next */

    struct fault_set faults; /* beyond blkdebug: see decide.c */
    unsigned rest_layers;    /* bits: there may be damage at rest */
    bool rest_warned;
    struct cache_conf cache;

    uint64_t seed;
    enum seed_source seed_source;
};

/* rules_unlink: take a rule out of the list of its event. */
void rules_unlink(struct rules *r, struct rule *rule);

#endif
