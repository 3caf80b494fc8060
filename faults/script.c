/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Lua, held in check.
 *
 * Everything that can raise an error runs under lua_pcall: what else is called here neither
 * allocates nor calls metamethods. There are three bounds.
 *
 * Work: a hook counts instructions, and every function of the library and every allocation is
 * charged by its size, since one instruction can do much. A string is at most 16 KiB, so that what
 * the interpreter does by itself (comparing, joining) is small. Once the budget is used up, each
 * further step raises an error, also behind a pcall. Beside that a call has so much of the thread's
 * time: a net for what nobody thought of.
 *
 * Memory: the allocator counts, and refuses. A refusal costs part of the budget, because it makes
 * Lua collect all garbage.
 *
 * The C stack: Lua nests at most 200 calls, and no function of the library that calls back has a
 * buffer on the stack; that fits into a coroutine's.
 *
 * No finalizers: Lua switches hooks off while they run. See script_lib.c for what else is missing.
 */
#include "faults/script.h"

#include <errno.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "faults/fault_priv.h"
#include "faults/script_priv.h"
#include "faults/text.h"

#define STEP 100 /* instructions between two looks at the budget */
#define STEPS_A_CLOCK 10
#define BYTES_A_CHARGE 16
#define TIME_MAX_NS INT64_C(500000000)
#define STRING_HEADER_MAX 64
#define TEXT_SHOWN 256 /* bytes of what a script says */

struct script *script_of(lua_State *L)
{
    return *(struct script **)lua_getextraspace(L);
}

bool script_is_built(void)
{
    return true;
}

/* --- Bounds --- */

static int64_t thread_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static bool is_over(const struct script *s)
{
    return s->spent > s->budget;
}

/* Without a text: making one takes memory, which it gets no more. */
static void stop(lua_State *L)
{
    lua_pushnil(L);
    lua_error(L);
}

void script_charge(lua_State *L, uint64_t n)
{
    struct script *s = script_of(L);

    s->spent += min_u64(n, s->budget + 1);
    if (is_over(s))
        stop(L);
}

static void on_step(lua_State *L, lua_Debug *ar)
{
    struct script *s = script_of(L);

    if (ar->event == LUA_HOOKLINE) {
        s->line = ar->currentline;
        return;
    }
    s->spent += STEP;
    if (++s->steps % STEPS_A_CLOCK == 0 && thread_ns() - s->start_ns > TIME_MAX_NS)
        s->spent = s->budget + 1;
    if (is_over(s))
        stop(L);
}

/* Lua counts on it that to shrink a block never fails. */
static void *alloc(void *arg, void *p, size_t old, size_t size)
{
    struct script *s = arg;
    bool is_string = !p && old == LUA_TSTRING;
    void *q;

    if (!p)
        old = 0;
    if (size == 0) {
        s->used -= old;
        mem_free(p);
        return NULL;
    }
    if (size > old) {
        s->spent += size / BYTES_A_CHARGE;
        if (is_over(s) || size - old > s->memory - s->used ||
            (is_string && size > SCRIPT_STRING_MAX + STRING_HEADER_MAX)) {
            s->spent += s->budget / 16;
            return NULL;
        }
    }
    q = mem_realloc(p, size);
    if (!q && size > old)
        return NULL;
    s->used += size - old;
    return q ? q : p;
}

static void begin(struct script *s, uint64_t budget)
{
    s->budget = budget;
    s->spent = 0;
    s->line = 0;
    s->draws = 0;
    s->pcalls = 0;
    s->start_ns = thread_ns();
}

/* --- Errors --- */

void script_put(struct out *o, const char *text, size_t len)
{
    for (size_t i = 0; i < len && i < TEXT_SHOWN; i++)
        out_put(o, "%c", text[i] >= ' ' && text[i] < 127 ? text[i] : '?');
}

/* In front: script and line, unless Lua has put them there. */
static void describe(struct script *s, int status, char *buf, size_t len)
{
    struct out o = {buf, len, 0};
    size_t n = 0, name = strlen(s->name);
    const char *text = lua_type(s->L, -1) == LUA_TSTRING ? lua_tolstring(s->L, -1, &n) : NULL;

    if (is_over(s))
        out_put(&o, "%s:%d: it has used up its budget of %" PRIu64, s->name, s->line, s->budget);
    else if (status == LUA_ERRMEM || (text && strcmp(text, "not enough memory") == 0))
        out_put(&o, "%s:%d: it needs more than its %" PRIu64 " KiB of memory, or a string over %d",
                s->name, s->line, s->memory / 1024, SCRIPT_STRING_MAX);
    else if (!text)
        out_put(&o, "%s:%d: it threw a %s", s->name, s->line,
                lua_typename(s->L, lua_type(s->L, -1)));
    else if (n > name && memcmp(text, s->name, name) == 0 && text[name] == ':')
        script_put(&o, text, n);
    else {
        out_put(&o, "%s:%d: ", s->name, s->line);
        script_put(&o, text, n);
    }
}

/* Run fn(arg) so that errors end here; false: problem. The stack is empty before and after. */
static bool protect(struct script *s, lua_CFunction fn, void *arg, char *problem, size_t len)
{
    lua_State *L = s->L;
    int status;

    /* There is room for two: the stack is empty. Neither allocates. */
    lua_pushcfunction(L, fn);
    lua_pushlightuserdata(L, arg);
    status = lua_pcall(L, 1, 0, 0);
    if (status != LUA_OK)
        describe(s, status, problem, len);
    lua_settop(L, 0);
    return status == LUA_OK;
}

/* --- Loading --- */

struct source {
    const char *text;
    size_t len;
};

static int load_protected(lua_State *L)
{
    const struct source *src = lua_touserdata(L, 1);
    struct script *s = script_of(L);

    lua_gc(L, LUA_GCSTOP);
    script_open_lib(L);
    lua_gc(L, LUA_GCRESTART);
    lua_sethook(L, on_step, LUA_MASKCOUNT | LUA_MASKLINE, STEP);
    begin(s, s->budget);
    lua_pushfstring(L, "=%s", s->name);
    /* Text only: made-up bytecode could do anything. */
    if (luaL_loadbufferx(L, src->text, src->len, lua_tostring(L, -1), "t") != LUA_OK)
        return lua_error(L);
    lua_call(L, 0, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_pushstring(L, s->hook);
    if (lua_rawget(L, -2) != LUA_TFUNCTION)
        return luaL_error(L, "it has no function %s()", s->hook);
    s->hook_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

struct script *script_new(const struct script_conf *conf, const char *text, size_t len,
                          struct err **errp)
{
    struct script *s = mem_new(struct script);
    struct source src = {text, len};
    char problem[512];

    if (s) {
        s->memory = conf->memory;
        begin(s, UINT64_MAX / 2);
        s->name = mem_strdup(conf->name);
        s->hook = mem_strdup(conf->hook);
        s->L = s->name && s->hook ? lua_newstate(alloc, s) : NULL;
    }
    if (!s || !s->L) {
        script_free(s);
        err_set(errp, ENOMEM, "no memory for the script %s", conf->name);
        return NULL;
    }
    *(struct script **)lua_getextraspace(s->L) = s;
    s->budget = conf->budget;
    s->spent = 0;
    if (protect(s, load_protected, &src, problem, sizeof(problem)))
        return s;
    script_free(s);
    err_set(errp, EINVAL, "%s", problem);
    return NULL;
}

void script_free(struct script *s)
{
    if (!s)
        return;
    if (s->L)
        lua_close(s->L);
    mem_free(s->name);
    mem_free(s->hook);
    mem_free(s);
}

/* --- Asking --- */

static void set_number(lua_State *L, const char *key, uint64_t v)
{
    lua_pushinteger(L, (lua_Integer)v);
    lua_setfield(L, -2, key);
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text); /* nil without one */
    lua_setfield(L, -2, key);
}

static void push_request(lua_State *L, const struct script_question *a)
{
    const struct fault_req *q = a->req;

    lua_createtable(L, 0, 13);
    set_text(L, "op", fault_op_names[q->op]);
    set_text(L, "layer", fault_layer_names[q->layer]);
    set_number(L, "offset", q->off);
    set_number(L, "length", q->len);
    lua_pushboolean(L, q->fua);
    lua_setfield(L, -2, "fua");
    if (q->layer == FAULT_HOST && q->op == FAULT_WRITE && q->kind < a->names->n_kinds)
        set_text(L, "kind", a->names->kind[q->kind]);
    set_text(L, "export", q->export);
    set_text(L, "client", q->client);
    set_number(L, "connection", q->conn);
    set_number(L, "state", a->state);
    set_number(L, "count", a->count);
}

struct ask {
    const struct script_question *q;
    struct script_answer *out;
};

static void take_answer(lua_State *L, int at, struct script_answer *out)
{
    size_t len;
    const char *text;

    if (lua_type(L, at) != LUA_TSTRING)
        luaL_error(L, "%s() must return texts such as 'action=error', not a %s", script_of(L)->hook,
                   luaL_typename(L, at));
    text = lua_tolstring(L, at, &len);
    if (len >= SCRIPT_ANSWER_LEN || strlen(text) != len)
        luaL_error(L, "what %s() returns must be shorter than %d bytes", script_of(L)->hook,
                   SCRIPT_ANSWER_LEN);
    memcpy(out->text[out->n++], text, len + 1);
}

static int ask_protected(lua_State *L)
{
    struct ask *a = lua_touserdata(L, 1);
    int base = lua_gettop(L), n;

    /* Lua's buffers for strings do not collect garbage when they are refused memory. */
    if (script_of(L)->used > script_of(L)->memory / 4 * 3)
        lua_gc(L, LUA_GCCOLLECT);
    lua_rawgeti(L, LUA_REGISTRYINDEX, script_of(L)->hook_ref);
    push_request(L, a->q);
    lua_call(L, 1, LUA_MULTRET);
    n = lua_gettop(L) - base;
    if (n > SCRIPT_ANSWERS)
        return luaL_error(L, "%s() may return %d texts at most", script_of(L)->hook,
                          SCRIPT_ANSWERS);
    for (int i = 1; i <= n; i++)
        if (!lua_isnil(L, base + i))
            take_answer(L, base + i, a->out);
    return 0;
}

bool script_ask(struct script *s, const struct script_question *q, struct script_answer *out,
                char *problem, size_t problem_len)
{
    struct ask a = {q, out};
    bool ok;

    *out = (struct script_answer){0};
    begin(s, s->budget);
    s->asked = q;
    ok = protect(s, ask_protected, &a, problem, problem_len);
    s->asked = NULL;
    out->line = s->line;
    return ok;
}
