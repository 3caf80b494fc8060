/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rules whose action is a script: its file, and what its answers mean.
 *
 * An answer is written in the language of rules, so a script can do what a rule can, and nothing
 * else. All answers to a request are read before the first is carried out.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "faults/engine_priv.h"
#include "faults/script.h"

#define TELL_EVERY_MS 1000

/* --- Keys --- */

static struct fault_script *script_of(struct fault *f)
{
    if (!f->script)
        f->script = mem_new(struct fault_script);
    return f->script;
}

static bool take_text(struct ini_text t, char **out, struct err **errp)
{
    *out = mem_strndup(t.at, t.len);
    return *out || err_set(errp, ENOMEM, "no memory for its rules");
}

SCRIPT_TAKE(file)
{
    struct fault_script *s = script_of(f);

    return s ? take_text(t, &s->path, errp) : err_set(errp, ENOMEM, "no memory for its rules");
}

SCRIPT_TAKE(hook)
{
    struct fault_script *s = script_of(f);
    char shown[64];

    if (!text_id_is_well_formed(t) || memchr(t.at, '-', t.len) || memchr(t.at, '.', t.len))
        return err_set(errp, EINVAL, "'hook' must be the name of a function, not \"%s\"",
                       text_printable(t, shown));
    return s ? take_text(t, &s->hook, errp) : err_set(errp, ENOMEM, "no memory for its rules");
}

SCRIPT_TAKE(budget)
{
    return value_number(t, "budget", 1000, SCRIPT_BUDGET_MAX, &f->act.budget, errp);
}

SCRIPT_TAKE(memory)
{
    return value_size(t, "memory", &f->act.memory, errp) &&
           ((f->act.memory >= SCRIPT_MEMORY_MIN && f->act.memory <= SCRIPT_MEMORY_MAX) ||
            err_set(errp, EINVAL, "'memory' must be from 256k to 256M"));
}

/* --- Its file --- */

void fault_script_free(struct fault_script *s)
{
    if (!s)
        return;
    script_free(s->script);
    mem_free(s->path);
    mem_free(s->hook);
    mem_free(s);
}

static const char *hook_of(const struct fault_script *s)
{
    return s->hook ? s->hook : SCRIPT_HOOK;
}

void fault_script_describe(const struct fault *f, struct out *o)
{
    if (f->script)
        out_put(o, " file=%s hook=%s", f->script->path, hook_of(f->script));
}

/* Only plain files: a pipe could keep us waiting. */
static char *read_script(const char *path, size_t *len, struct err **errp)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    AUTO_FREE char *text = NULL;
    struct stat st;
    ssize_t n = 1;

    *len = 0;
    if (fd < 0 || fstat(fd, &st) < 0) {
        err_set_errno(errp, errno, "Could not open script '%s'", path);
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(errp, EINVAL, "The script '%s' is not a plain file", path);
        return NULL;
    }
    text = mem_alloc(SCRIPT_FILE_MAX + 1);
    if (!text) {
        err_set(errp, ENOMEM, "no memory to read script '%s'", path);
        return NULL;
    }
    while (n > 0 && *len <= SCRIPT_FILE_MAX) {
        n = read(fd, text + *len, SCRIPT_FILE_MAX + 1 - *len);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            *len += (size_t)n;
    }
    if (n < 0)
        err_set_errno(errp, errno, "Could not read script '%s'", path);
    else if (*len > SCRIPT_FILE_MAX)
        err_set(errp, EFBIG, "The script '%s' is larger than %d KiB", path, SCRIPT_FILE_MAX / 1024);
    else
        return steal(text);
    return NULL;
}

void rules_on_script(struct rules *r,
                     char *(*allow)(const void *arg, const char *path, struct err **errp),
                     const void *arg)
{
    r->allow_fn = allow;
    r->allow_arg = arg;
}

bool fault_script_load(const struct rules *r, struct fault *f, const char *dir, size_t dir_len,
                       struct err **errp)
{
    struct fault_script *s = f->script;
    AUTO_FREE char *path = s->path[0] == '/' || dir_len == 0
                               ? mem_strdup(s->path)
                               : mem_printf("%.*s%s", (int)dir_len, dir, s->path);
    AUTO_FREE char *text = NULL;
    struct script_conf conf = {
        .name = s->path, .hook = hook_of(s), .budget = f->act.budget, .memory = f->act.memory};
    size_t len;

    if (!path)
        return err_set(errp, ENOMEM, "no memory for the script '%s'", s->path);
    if (r->allow_fn) {
        char *allowed = r->allow_fn(r->allow_arg, path, errp);

        if (!allowed)
            return false;
        mem_free(path);
        path = allowed;
    }
    text = read_script(path, &len, errp);
    if (text)
        s->script = script_new(&conf, text, len, errp);
    return s->script;
}

/* --- Asking --- */

/* Not for each of thousands of requests; the next line counts them. */
static void tell(struct fault *f, const struct fault_req *q, const char *problem)
{
    struct fault_script *s = f->script;
    char more[64] = "";

    if (s->told && q->at_ms - s->told_ms < TELL_EVERY_MS) {
        s->untold++;
        return;
    }
    if (s->untold)
        snprintf(more, sizeof(more), " (and so did %" PRIu64 " before)", s->untold);
    log_error("%s%s%s: its script failed, and so does %s %s %" PRIu64 "+%" PRIu64 "%s: %s",
              f->where, f->id ? " " : "", f->id ? f->id : "", fault_layer_names[q->layer],
              fault_op_names[q->op], q->off, q->len, more, problem);
    s->told = true;
    s->told_ms = q->at_ms;
    s->untold = 0;
}

static bool read_answer(struct rules *r, struct fault *f, const struct fault_req *q,
                        const struct script_answer *a, unsigned i, struct fault_act *act)
{
    struct err *e = NULL;
    char problem[512];

    if (lang_read_answer(r, f, q, a->text[i], act, &e))
        return true;
    snprintf(problem, sizeof(problem), "%s:%d: %s() returned '%s': %s", f->script->path, a->line,
             hook_of(f->script), a->text[i], err_msg(e));
    err_free(e);
    tell(f, q, problem);
    return false;
}

bool fault_script_ask(struct rules *r, struct fault *f, const struct fault_req *q, uint64_t draw,
                      struct fault_act *acts, unsigned *n)
{
    struct script_question question = {
        .req = q,
        .names = rules_event_names(r),
        .state = rules_state(r),
        .count = f->matched,
        .draw = draw,
    };
    struct script_answer answer;
    char problem[512] = "";

    *n = 0;
    if (!script_ask(f->script->script, &question, &answer, problem, sizeof(problem))) {
        tell(f, q, problem);
        return false;
    }
    for (unsigned i = 0; i < answer.n; i++)
        if (!read_answer(r, f, q, &answer, i, &acts[i]))
            return false;
    *n = answer.n;
    return true;
}
