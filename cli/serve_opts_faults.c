/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: faults.
 */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"
#include "faults/fault.h"
#include "filters/filters.h"

#define MAX_FAULTS 256

static bool add_fault(struct serve_export *x, const char *text, struct err **errp)
{
    const char **list;

    if (x->n_fault == MAX_FAULTS)
        return err_set(errp, E2BIG, "--fault: at most %d are possible; --faults takes a file",
                       MAX_FAULTS);
    list = mem_realloc(x->fault, (x->n_fault + 1) * sizeof(x->fault[0]));
    if (!list)
        return err_set(errp, ENOMEM, "out of memory for faults");
    x->fault = list;
    list[x->n_fault++] = text;
    return true;
}

/* What a replay would not ask is refused. */
static bool check_replay(const struct serve_export *x, struct err **errp)
{
    if (!x->fault_replay)
        return true;
    if (x->faults || x->n_fault || x->blkdebug || x->blkdebug_config || x->fault_seed_given)
        return err_set(errp, EINVAL,
                       "--fault-replay excludes --faults, --fault, --fault-seed and blkdebug's "
                       "options: the trace decides");
    return !x->fault_trace || strcmp(x->fault_trace, x->fault_replay) != 0 ||
           err_set(errp, EINVAL, "--fault-trace would overwrite the trace of --fault-replay");
}

/* They are read once more when the image is opened, together with those of the file. */
bool serve_check_faults(const struct serve_export *x, struct err **errp)
{
    struct rules *r = rules_new(fault_names());
    bool ok = r || err_set(errp, ENOMEM, "out of memory for faults");

    for (unsigned i = 0; ok && i < x->n_fault; i++)
        ok = rules_load_option(r, x->fault[i], i + 1, errp);
    rules_free(r);
    return ok && check_replay(x, errp);
}

bool serve_settle_image(struct serve_export *x, struct err **errp)
{
    if (!blkdebug_split_name(x->image, &x->blkdebug_config, &x->image, errp))
        return false;
    if (x->blkdebug_config && *x->blkdebug_config && x->faults)
        return err_set(errp, EINVAL,
                       "--faults and a rule file in the image's name exclude each "
                       "other");
    return true;
}

bool serve_has_faults(const struct serve_export *x)
{
    return x->fault_trace || x->fault_replay || x->faults || x->n_fault || x->blkdebug ||
           x->blkdebug_config;
}

static bool take_blkdebug(struct serve_export *x, const char *arg, struct err **errp)
{
    if (x->blkdebug)
        return err_set(errp, EINVAL, "--blkdebug is given twice");
    x->blkdebug = mem_new(struct blkdebug_args);
    if (!x->blkdebug)
        return err_set(errp, ENOMEM, "out of memory for options");
    return blkdebug_parse(arg, "--blkdebug", x->blkdebug, errp);
}

enum take serve_take_faults(int opt, const char *arg, struct serve_export *x, struct err **errp)
{
    switch (opt) {
    case OPT_FAULTS:
        x->faults = arg;
        return TAKE_OK;
    case OPT_FAULT:
        return take_if(add_fault(x, arg, errp));
    case OPT_BLKDEBUG:
        return take_if(take_blkdebug(x, arg, errp));
    case OPT_FAULT_TRACE:
        x->fault_trace = arg;
        return TAKE_OK;
    case OPT_FAULT_REPLAY:
        x->fault_replay = arg;
        return TAKE_OK;
    case OPT_FAULT_TRACE_SIZE:
        return take_if(parse_size(arg, "--fault-trace-size", &x->fault_trace_size, errp) &&
                       (x->fault_trace_size >= 4096 ||
                        err_set(errp, EINVAL, "--fault-trace-size must be at least 4k")));
    case OPT_FAULT_SEED:
        x->fault_seed_given = true;
        return take_if(parse_u64(arg, "--fault-seed", 0, UINT64_MAX, &x->fault_seed, errp));
    }
    return TAKE_OTHER;
}
