/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where breakwater is built without Lua: there are no scripts.
 */
#include <errno.h>

#include "faults/script.h"

bool script_is_built(void)
{
    return false;
}

struct script *script_new(const struct script_conf *conf, const char *text, size_t len,
                          struct err **errp)
{
    err_set(errp, ENOTSUP, "%s: this breakwater was built without Lua", conf->name);
    return NULL;
}

void script_free(struct script *s)
{
}

bool script_ask(struct script *s, const struct script_question *q, struct script_answer *out,
                char *problem, size_t problem_len)
{
    return false; /* there is none to ask */
}
