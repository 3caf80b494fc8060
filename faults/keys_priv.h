/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What keys.c (the selectors and the table) and keys_act.c (the actions) share: one function takes
 * the value of one key.
 */
#ifndef FAULTS_KEYS_PRIV_H
#define FAULTS_KEYS_PRIV_H

#include "faults/fault_priv.h"

#define UNUSED_NAMES (void)names

#define TAKE(what)                                                                                 \
    bool take_##what(struct ini_text t, const struct rules_names *names, struct fault *f,          \
                     struct err **errp)

TAKE(action);
TAKE(errno);
TAKE(ms);
TAKE(timeout);
TAKE(lanes);
TAKE(bytes);
TAKE(unit);
TAKE(keep);
TAKE(mask);
TAKE(delta);
TAKE(to);
TAKE(swap);
TAKE(bits);
TAKE(byte);
TAKE(zero);
TAKE(after);
TAKE(new_state);
TAKE(stale);
TAKE(stuck);
TAKE(shape);
TAKE(heal);
TAKE(where);
TAKE(drop);
TAKE(mode);
TAKE(then);
TAKE(wrong);

/* keys_u32: a number of 32 bits. keys_dots: "A..B" into its two halves; false if there is no "..".
 */
bool keys_u32(struct ini_text t, const char *key, uint32_t *out, struct err **errp);
bool keys_dots(struct ini_text t, struct ini_text *lo, struct ini_text *hi);

#endif
