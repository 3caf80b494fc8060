/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What scripts can call.
 *
 * A list of what there is, not of what was taken away. Left out, beside all that reaches outside:
 *
 * - load, require, string.dump, coroutines, xpcall, collectgarbage;
 * - string.match, gmatch, gsub: a pattern can take for ever in one call;
 * - pairs and next: their order is not the same in two runs, and what depends on it could not be
 *   repeated; and one call of next can walk a whole table;
 * - getmetatable; and setmetatable sets a copy, without __gc (whose code would run unwatched) and
 *   __mode (what a weak table holds depends on the moment).
 *
 * What is Lua's own of it runs behind charge_call. What could call back, or loop over something
 * made up, is written anew here, on raw tables and without calling anything.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "faults/fault_priv.h"
#include "faults/script_priv.h"

#define BYTES_A_CHARGE 16
#define UNPACK_MAX 200
#define PCALLS_MAX 16
#define LOG_LINES_A_SECOND 10
#define DRAW_SCRIPT 4096

/* Of Lua's own functions: by the length of what they are given. */
static int charge_call(lua_State *L)
{
    uint64_t n = 1;

    for (int i = lua_gettop(L); i > 0; i--)
        if (lua_type(L, i) == LUA_TSTRING)
            n += lua_rawlen(L, i) / BYTES_A_CHARGE;
    script_charge(L, n);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* --- Basics --- */

/* Each takes a kilobyte of the C stack. */
static int lib_pcall(lua_State *L)
{
    struct script *s = script_of(L);
    int status;

    luaL_checkany(L, 1);
    script_charge(L, 10);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    if (s->pcalls >= PCALLS_MAX)
        return luaL_error(L, "pcall in pcall, and so on: at most %d", PCALLS_MAX);
    s->pcalls++;
    status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
    s->pcalls--;
    if (status == LUA_OK)
        return lua_gettop(L);
    if (status == LUA_ERRMEM)
        return lua_error(L); /* what is over stays over */
    script_charge(L, 10);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

static int lib_setmetatable(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (lua_istable(L, 2)) {
        lua_newtable(L);
        for (lua_pushnil(L); lua_next(L, 2);) {
            const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";

            script_charge(L, 4);
            if (strcmp(key, "__gc") == 0 || strcmp(key, "__mode") == 0)
                return luaL_error(L, "a script has no %s", key);
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, 3);
        }
        lua_replace(L, 2);
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

/* Without __tostring, and without addresses, which differ from run to run. */
static int lib_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    switch (lua_type(L, 1)) {
    case LUA_TNIL:
    case LUA_TBOOLEAN:
    case LUA_TNUMBER:
    case LUA_TSTRING:
        luaL_tolstring(L, 1, NULL); /* these have no metamethods but strings, which have no such */
        return 1;
    default:
        lua_pushstring(L, luaL_typename(L, 1));
        return 1;
    }
}

/* --- Strings --- */

static int lib_find(lua_State *L)
{
    size_t len, what_len;
    const char *text = luaL_checklstring(L, 1, &len), *found;
    const char *what = luaL_checklstring(L, 2, &what_len);
    lua_Integer from = luaL_optinteger(L, 3, 1);

    if (from < 0)
        from = from < -(lua_Integer)len ? 1 : (lua_Integer)len + from + 1;
    from = from < 1 ? 1 : from;
    script_charge(L, 1 + (len + what_len) / 4);
    if ((uint64_t)from > len + 1) {
        lua_pushnil(L);
        return 1;
    }
    found = memmem(text + from - 1, len - (size_t)from + 1, what, what_len);
    if (!found) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, found - text + 1);
    lua_pushinteger(L, found - text + (lua_Integer)what_len);
    return 2;
}

static int lib_rep(lua_State *L)
{
    size_t len, sep_len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Integer n = luaL_checkinteger(L, 2);
    const char *sep = luaL_optlstring(L, 3, "", &sep_len);
    luaL_Buffer b;

    if (n <= 0 || len + sep_len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if ((uint64_t)n > SCRIPT_STRING_MAX || (len + sep_len) * (uint64_t)n > SCRIPT_STRING_MAX * 2)
        return luaL_error(L, "a string of a script has at most %d bytes", SCRIPT_STRING_MAX);
    script_charge(L, ((len + sep_len) * (uint64_t)n + (uint64_t)n) / BYTES_A_CHARGE + 1);
    luaL_buffinit(L, &b);
    for (lua_Integer i = 0; i < n; i++) {
        luaL_addlstring(&b, text, len);
        if (i + 1 < n)
            luaL_addlstring(&b, sep, sep_len);
    }
    luaL_pushresult(&b);
    return 1;
}

/* As Lua's, of what has no metamethods. */
static int lib_format(lua_State *L)
{
    for (int i = lua_gettop(L); i > 1; i--) {
        int type = lua_type(L, i);

        luaL_argexpected(L, type <= LUA_TBOOLEAN || type == LUA_TNUMBER || type == LUA_TSTRING, i,
                         "number, string, boolean or nil");
    }
    return charge_call(L);
}

/* --- Tables, raw --- */

static lua_Integer length_of(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    return (lua_Integer)lua_rawlen(L, 1);
}

static int lib_insert(lua_State *L)
{
    lua_Integer n = length_of(L), at = n + 1;
    int value = lua_gettop(L);

    if (value != 2 && value != 3)
        return luaL_error(L, "wrong number of arguments to insert");
    if (value == 3)
        at = luaL_checkinteger(L, 2);
    luaL_argcheck(L, at >= 1 && at <= n + 1, 2, "position out of bounds");
    script_charge(L, 1 + (uint64_t)(n - at + 1) / 2);
    for (lua_Integer i = n; i >= at; i--) {
        lua_rawgeti(L, 1, i);
        lua_rawseti(L, 1, i + 1);
    }
    lua_pushvalue(L, value);
    lua_rawseti(L, 1, at);
    return 0;
}

static int lib_remove(lua_State *L)
{
    lua_Integer n = length_of(L), at = luaL_optinteger(L, 2, n);

    if (n == 0) {
        lua_pushnil(L);
        return 1;
    }
    luaL_argcheck(L, at >= 1 && at <= n, 2, "position out of bounds");
    script_charge(L, 1 + (uint64_t)(n - at) / 2);
    lua_rawgeti(L, 1, at);
    for (lua_Integer i = at; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        lua_rawseti(L, 1, i);
    }
    lua_pushnil(L);
    lua_rawseti(L, 1, n);
    return 1;
}

static int lib_concat(lua_State *L)
{
    lua_Integer n = length_of(L);
    size_t sep_len;
    const char *sep = luaL_optlstring(L, 2, "", &sep_len);
    luaL_Buffer b;

    script_charge(L, 1 + (uint64_t)n);
    luaL_buffinit(L, &b);
    for (lua_Integer i = 1; i <= n; i++) {
        int type = lua_rawgeti(L, 1, i);

        if (type != LUA_TSTRING && type != LUA_TNUMBER)
            return luaL_error(L, "cannot concat a %s", lua_typename(L, type));
        luaL_addvalue(&b);
        if (i < n)
            luaL_addlstring(&b, sep, sep_len);
    }
    luaL_pushresult(&b);
    return 1;
}

static int lib_unpack(lua_State *L)
{
    lua_Integer n = length_of(L);
    lua_Integer from = luaL_optinteger(L, 2, 1), to = luaL_optinteger(L, 3, n);

    if (from > to)
        return 0;
    if ((uint64_t)to - (uint64_t)from >= UNPACK_MAX)
        return luaL_error(L, "at most %d values can be unpacked", UNPACK_MAX);
    script_charge(L, (uint64_t)(to - from) + 1);
    luaL_checkstack(L, UNPACK_MAX, NULL);
    for (uint64_t i = 0; i <= (uint64_t)(to - from); i++)
        lua_rawgeti(L, 1, from + (lua_Integer)i);
    return (int)(to - from) + 1;
}

/* --- The engine's --- */

static const struct script_question *asked(lua_State *L, const char *name)
{
    const struct script *s = script_of(L);

    if (!s->asked)
        luaL_error(L, "%s() is there while %s() runs", name, s->hook);
    return s->asked;
}

/* As Lua's. The Nth number of a request is always the same. */
static int lib_random(lua_State *L)
{
    const struct script_question *a = asked(L, "random");
    unsigned purpose = DRAW_SCRIPT + script_of(L)->draws++;
    lua_Integer lo = 1, hi;

    if (lua_gettop(L) == 0) {
        lua_pushnumber(L, (lua_Number)draw_below(a->draw, purpose, UINT64_C(1) << 53) * 0x1p-53);
        return 1;
    }
    hi = luaL_checkinteger(L, 1);
    if (lua_gettop(L) > 1) {
        lo = hi;
        hi = luaL_checkinteger(L, 2);
    }
    luaL_argcheck(L, lo <= hi && (uint64_t)hi - (uint64_t)lo < UINT64_MAX, 1, "interval is empty");
    lua_pushinteger(L, (lua_Integer)((uint64_t)lo + draw_below(a->draw, purpose,
                                                               (uint64_t)hi - (uint64_t)lo + 1)));
    return 1;
}

static int lib_clock(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)asked(L, "clock")->req->at_ms);
    return 1;
}

/* data(OFFSET, LENGTH): what is being written, from its begin on; nil for what is no write. */
static int lib_data(lua_State *L)
{
    const struct fault_req *q = asked(L, "data")->req;
    lua_Integer off = luaL_checkinteger(L, 1), len = luaL_checkinteger(L, 2);

    if (!q->data) {
        lua_pushnil(L);
        return 1;
    }
    luaL_argcheck(L, off >= 0 && (uint64_t)off <= q->len, 1, "outside of the request");
    luaL_argcheck(L, len >= 0 && (uint64_t)len <= q->len - (uint64_t)off, 2,
                  "outside of the request");
    luaL_argcheck(L, len <= SCRIPT_STRING_MAX, 2, "longer than strings may be");
    lua_pushlstring(L, (const char *)q->data + off, (size_t)len);
    return 1;
}

static int lib_log(lua_State *L)
{
    struct script *s = script_of(L);
    uint64_t now_ms = s->asked ? s->asked->req->at_ms : 0;
    char line[320] = "";
    struct out o = {line, sizeof(line), 0};
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);

    script_charge(L, 100);
    if (now_ms - s->log_ms >= 1000) {
        s->log_ms = now_ms;
        s->n_logged = 0;
    }
    if (s->n_logged++ >= LOG_LINES_A_SECOND)
        return 0;
    script_put(&o, text, len);
    log_info("%s: %s", s->name, line);
    return 0;
}

/* --- All of them --- */

/* The table at the top gets what it says of the library whose table is below it. */
static void take_from(lua_State *L, const char *const *names)
{
    for (; *names; names++) {
        lua_getfield(L, -2, *names);
        if (lua_iscfunction(L, -1))
            lua_pushcclosure(L, charge_call, 1);
        lua_setfield(L, -2, *names);
    }
}

/* A new table of a library's functions, these, and ours; at the top. */
static void make(lua_State *L, lua_CFunction open, const char *const *names, const luaL_Reg *ours)
{
    lua_pushcfunction(L, open);
    lua_call(L, 0, 1);
    lua_newtable(L);
    take_from(L, names);
    luaL_setfuncs(L, ours, 0);
    lua_remove(L, -2);
}

/* format needs Lua's as its upvalue; methods of strings are those that are left. */
static void make_string(lua_State *L)
{
    static const char *const names[] = {"byte", "char",  "format", "len",      "lower",  "reverse",
                                        "sub",  "upper", "pack",   "packsize", "unpack", NULL};
    static const luaL_Reg ours[] = {{"find", lib_find}, {"rep", lib_rep}, {NULL, NULL}};

    make(L, luaopen_string, names, ours);
    lua_getfield(L, -1, "format");
    lua_getupvalue(L, -1, 1);
    lua_pushcclosure(L, lib_format, 1);
    lua_setfield(L, -3, "format");
    lua_pop(L, 1);
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
}

void script_open_lib(lua_State *L)
{
    static const char *const basics[] = {"assert",   "error",  "ipairs", "rawequal",
                                         "rawget",   "rawlen", "rawset", "select",
                                         "tonumber", "type",   NULL};
    static const luaL_Reg ours[] = {{"pcall", lib_pcall},
                                    {"setmetatable", lib_setmetatable},
                                    {"tostring", lib_tostring},
                                    {"random", lib_random},
                                    {"clock", lib_clock},
                                    {"data", lib_data},
                                    {"log", lib_log},
                                    {"print", lib_log},
                                    {NULL, NULL}};
    static const char *const maths[] = {
        "abs",  "acos", "asin", "atan", "ceil",      "cos",        "deg",  "exp",        "floor",
        "fmod", "huge", "log",  "max",  "min",       "maxinteger", "modf", "mininteger", "pi",
        "rad",  "sin",  "sqrt", "tan",  "tointeger", "type",       "ult",  NULL};
    static const luaL_Reg our_maths[] = {{"random", lib_random}, {NULL, NULL}};
    static const char *const tables[] = {"pack", NULL};
    static const luaL_Reg our_tables[] = {{"insert", lib_insert},
                                          {"remove", lib_remove},
                                          {"concat", lib_concat},
                                          {"unpack", lib_unpack},
                                          {NULL, NULL}};

    make(L, luaopen_base, basics, ours);
    make_string(L);
    lua_setfield(L, -2, "string");
    make(L, luaopen_math, maths, our_maths);
    lua_setfield(L, -2, "math");
    make(L, luaopen_table, tables, our_tables);
    lua_setfield(L, -2, "table");
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}
