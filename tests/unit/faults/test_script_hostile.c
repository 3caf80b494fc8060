/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Scripts that loop, swell, dig or lie fail their request in bounded time and memory, and are asked
 * about the next one as if nothing had been.
 */
#include "tests/unit/faults/script_test.h"

#include <time.h>

static void nothing_leads_out(void **state)
{
    static const char *const names[] = {
        "io",
        "os",
        "debug",
        "package",
        "require",
        "load",
        "loadstring",
        "loadfile",
        "dofile",
        "collectgarbage",
        "getmetatable",
        "xpcall",
        "coroutine",
        "next",
        "pairs",
        "string.dump",
        "string.gsub",
        "string.match",
        "string.gmatch",
        "table.sort",
        "table.move",
        "math.randomseed",
        "utf8",
        "warn",
        "_G",
        "('x').gsub",
        "('x').dump",
        "('x').match",
    };
    char text[256], problem[512];
    struct script_answer a;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct script *s;

        snprintf(text, sizeof(text), "function decide() return %s and 'there' end", names[i]);
        s = script_of(text, NULL);
        if (!ask_at(s, 0, &a, problem))
            fail_msg("%s: %s", names[i], problem);
        if (a.n != 0)
            fail_msg("there is %s", names[i]);
        script_free(s);
    }
}

/* --- Hostile ones --- */

#define OVER "it has used up its budget of 100000"
#define MUCH "it needs more than its 4096 KiB of memory"

static const char *const hostile[][2] = {
    {"while true do end", OVER},
    {"repeat local x = 1 until false", OVER},
    {"for i = 1, math.huge do end", OVER},
    {"::again:: goto again", OVER},
    {"while true do pcall(function() while true do end end) end", OVER},
    {"local function f() pcall(f) while true do end end f()", OVER},
    {"local ok = pcall(error) while true do pcall(pcall, error) end", OVER},
    {"local s = 'x' while true do s = s .. s end", MUCH},
    {"local t = {} while true do t[#t + 1] = {} end", OVER},
    {"local t = {} for i = 1, 300 do t[i] = ('x'):rep(16000) .. i end", OVER},
    {"local s = ('x'):rep(16000) for i = 1, 1e9 do local t = s .. i end", OVER},
    {"local s = ('x'):rep(1e9)", "a string of a script has at most 16384 bytes"},
    {"local s = (''):rep(1e15) local t = ('x'):rep(2, ('y'):rep(16384))", "at most 16384"},
    {"for i = 1, 1e9 do local s = ('x'):rep(16000) end", OVER},
    {"local a, b = ('x'):rep(16000) .. 1, ('x'):rep(16000) .. 2 while a ~= b do end", OVER},
    {"while true do ('x'):rep(16000):find(('x'):rep(8000) .. 'y') end", OVER},
    {"local s = ('x'):rep(16000) while true do s:upper() end", OVER},
    {"local s = ('1'):rep(16000) for i = 1, 200 do local n = s:byte(1) end", OVER},
    {"string.format(('%99d'):rep(3000), 1)", "bad argument #3"},
    {"string.format('%s', setmetatable({}, {__tostring = function() while true do end end}))",
     "bad argument #2"},
    {"string.pack('c2147483647', 'x')", ""},
    {"string.unpack('s4', '\\255\\255\\255\\127')", "data string too short"},
    {"local function f() return f() + 1 end f()", OVER},
    {"local function f() return f() end f()", OVER},
    {"local function f() return pcall(f) end f() while true do end", OVER},
    {"local function f(n) if n == 0 then return end local ok, e = pcall(f, n - 1)"
     " if not ok then error(e, 0) end end f(15) f(17)",
     "pcall in pcall"},
    {"local function f() return table.unpack({f()}) end f()", ""},
    {"local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) local x = t[1]",
     "C stack overflow"},
    {"local t = {} setmetatable(t, {__index = function(_, k) return t .. k end,"
     " __concat = function(_, k) return t[k] end}) local x = t[1]",
     "C stack overflow"},
    {"local t = setmetatable({}, {__len = function() return 1e15 end}) table.insert(t, 1, 2)"
     " error('done')",
     "done"},
    {"local t = {} for i = 0, 62 do t[1 << i] = i end while true do table.insert(t, 1, 1) end", ""},
    {"local t = {} for i = 1, 9000 do t[i] = i end while true do table.remove(t, 1) end", OVER},
    {"table.unpack({}, 1, 1e9)", "at most 200 values"},
    {"table.unpack({}, math.mininteger, math.maxinteger)", "at most 200 values"},
    {"table.concat(setmetatable({}, {__index = function() return 'x' end})) error('done')", "done"},
    {"setmetatable({}, {__gc = function() while true do end end})", "a script has no __gc"},
    {"local m = {} local t = setmetatable({}, m) m.__gc = function() while true do end end t = nil"
     " for i = 1, 2000 do local x = {} end error('done')",
     "done"},
    {"setmetatable({}, {__mode = 'k'})", "a script has no __mode"},
    {"local x <close> = setmetatable({}, {__close = function() while true do end end})", OVER},
    {"local x <close> = setmetatable({}, {__close = function() error('closed') end}) error('one')",
     "closed"},
    {"error(setmetatable({}, {__tostring = function() while true do end end}))",
     "it threw a table"},
    {"error(setmetatable({}, {__index = error, __name = 7}))", "it threw a table"},
    {"return 7", "not a number"},
    {"return {}", "not a table"},
    {"return setmetatable({}, {__tostring = function() return 'action=error' end})", "not a table"},
    {"return ('x'):rep(200)", "must be shorter than 160 bytes"},
    {"return 'a\\0b'", "must be shorter"},
    {"return 'a', 'a', 'a', 'a', 'a'", "may return 4 texts at most"},
    {"return table.unpack({}, 1, 200)", "may return 4 texts at most"},
    {"data(0, 9)", "outside of the request"},
    {"data(9, 0)", "outside of the request"},
    {"data(-1, 1)", "outside of the request"},
    {"data(1, math.maxinteger)", "outside of the request"},
    {"random(0)", "interval is empty"},
    {"random(math.mininteger, math.maxinteger)", "interval is empty"},
    {"while true do log('x') end", OVER},
    {"while true do random(5) end", OVER},
    {"string.rep = nil decide = nil error('still ' .. ('x'):rep(2))",
     "attempt to call a nil value"},
    {"_ENV = nil x = 1", "attempt to index a nil value"},
    {"local s = 'x' s.y = 1", "attempt to index a string value"},
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void a_large_budget_is_not_a_long_time(void **state)
{
    static const char text[] = "function decide() while true do end end";
    struct script_conf conf = {"test.lua", "decide", SCRIPT_BUDGET_MAX * 10, SCRIPT_MEMORY};
    struct script *s = script_new(&conf, text, strlen(text), NULL);
    struct script_answer a;
    double start = seconds();
    char problem[512];
    (void)state;

    assert_false(ask_at(s, 0, &a, problem));
    assert_true(seconds() - start < 0.9);
    script_free(s);
}

static void what_a_script_keeps_is_bounded(void **state)
{
    struct script *s = script_of("local t = {}\n"
                                 "function decide(q)\n"
                                 "  if q.offset == 1 then t = {} return 'action=log' end\n"
                                 "  for i = 1, 10 do t[#t + 1] = ('x'):rep(10000) .. #t end\n"
                                 "end\n",
                                 NULL);
    struct script_answer a;
    char problem[512];
    unsigned n = 0;
    (void)state;

    while (ask_at(s, 0, &a, problem) && n < 1000)
        n++;
    assert_in_range(n, 30, 42); /* of 100 kB each */
    assert_non_null(strstr(problem, "test.lua:4: " MUCH));
    assert_false(ask_at(s, 0, &a, problem));
    assert_true(ask_at(s, 1, &a, problem));
    if (!ask_at(s, 0, &a, problem))
        fail_msg("%s", problem);
    script_free(s);
}

static void hostile_scripts_fail_their_request_and_no_more(void **state)
{
    char text[1024], problem[512];
    struct script_answer a;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        struct err *e = NULL;
        struct script *s;
        double start, took;

        snprintf(text, sizeof(text),
                 "function decide(q)\n if q.offset == 1 then return 'action=log' end\n"
                 " do %s end\nend",
                 hostile[i][0]);
        s = script_of(text, &e);
        if (!s)
            fail_msg("number %zu: %s", i, err_msg(e));
        for (unsigned round = 0; round < 2; round++) {
            start = seconds();
            if (ask_at(s, 0, &a, problem))
                fail_msg("number %zu succeeds: %s", i, hostile[i][0]);
            took = seconds() - start;
            if (took > 0.25)
                fail_msg("number %zu takes %.1f s: %s", i, took, hostile[i][0]);
            if (strncmp(problem, "test.lua:", 9) != 0 ||
                (round == 0 && !strstr(problem, hostile[i][1])))
                fail_msg("number %zu, %s: %s", i, hostile[i][0], problem);
            if (!ask_at(s, 1, &a, problem) || a.n != 1)
                fail_msg("number %zu, %s: afterwards %s", i, hostile[i][0], problem);
        }
        script_free(s);
    }
}

static void a_refused_allocation_fails_the_call_only(void **state)
{
    static const char text[] = "local kept = {}\n"
                               "function decide(q)\n"
                               "  kept[#kept % 50 + 1] = {q.op .. #kept}\n"
                               "  pcall(string.rep, 'x', 5000)\n"
                               "  return 'action=' .. 'log'\n"
                               "end\n";
    struct script_answer a;
    char problem[512];
    struct script *s = NULL;
    unsigned failed = 0;
    (void)state;

    for (unsigned nth = 1; !s; nth++) {
        struct err *e = NULL;

        mem_fail_nth(nth, 0);
        s = script_of(text, &e);
        mem_fail_nth(0, 0);
        err_free(e);
    }
    for (unsigned nth = 1; nth < 60; nth++) {
        mem_fail_nth(nth, 1);
        failed += !ask_at(s, 5, &a, problem);
        mem_fail_nth(0, 0);
        if (!ask_at(s, 5, &a, problem))
            fail_msg("after a refusal: %s", problem);
    }
    assert_true(failed > 5);
    script_free(s);
}

static void *run(void *failed)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_leads_out),
        cmocka_unit_test(hostile_scripts_fail_their_request_and_no_more),
        cmocka_unit_test(a_large_budget_is_not_a_long_time),
        cmocka_unit_test(what_a_script_keeps_is_bounded),
        cmocka_unit_test(a_refused_allocation_fails_the_call_only),
    };

    *(int *)failed = cmocka_run_group_tests(tests, NULL, NULL);
    return NULL;
}

int main(void)
{
    return on_small_stack(run);
}
