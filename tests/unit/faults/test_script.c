/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Scripts decide about requests, and what they do wrong is told with its line.
 */
#include "tests/unit/faults/script_test.h"

#include <unistd.h>

/* --- What scripts see and say --- */

static void it_sees_the_request_and_what_it_returns_is_the_answer(void **state)
{
    struct script *s = script_of("local seen = 0\n"
                                 "function decide(q)\n"
                                 "  seen = seen + 1\n"
                                 "  if q.offset == 1 then return end\n"
                                 "  if q.offset == 2 then return 'action=error', 'action=log' end\n"
                                 "  if q.offset == 3 then return nil, 'action=log' end\n"
                                 "  local out = {q.op, q.layer, q.offset, q.length, q.export,\n"
                                 "    q.connection, q.state, q.count, seen, clock(), data(2, 3),\n"
                                 "    tostring(q.fua), tostring(q.kind), ('x'):rep(3, '-')}\n"
                                 "  return table.concat(out, ' ')\n"
                                 "end\n",
                                 NULL);
    struct script_answer a;
    char problem[512];
    (void)state;

    assert_non_null(s);
    assert_true(ask_at(s, 1, &a, problem));
    assert_int_equal(a.n, 0);
    assert_true(ask_at(s, 2, &a, problem));
    assert_int_equal(a.n, 2);
    assert_string_equal(a.text[0], "action=error");
    assert_string_equal(a.text[1], "action=log");
    assert_true(ask_at(s, 3, &a, problem));
    assert_int_equal(a.n, 1);
    if (!ask_at(s, 4096, &a, problem))
        fail_msg("%s", problem);
    assert_string_equal(a.text[0], "write guest 4096 8 disk 3 1 9 4 1234 cde false nil x-x-x");
    script_free(s);
}

static void random_numbers_belong_to_the_request(void **state)
{
    static const char text[] = "function decide(q)\n"
                               "  local a, b, c = random(6), math.random(10, 12), random()\n"
                               "  assert(a >= 1 and a <= 6 and b >= 10 and b <= 12 and c < 1)\n"
                               "  return a .. ' ' .. b .. ' ' .. c\n"
                               "end\n";
    struct script *s = script_of(text, NULL), *t = script_of(text, NULL);
    struct script_answer a, b;
    struct fault_req q = {.layer = FAULT_GUEST};
    struct script_question question = {&q, &test_names, 1, 1, 5};
    char problem[512] = "";
    unsigned same = 0;
    (void)state;

    for (question.draw = 0; question.draw < 50; question.draw++) {
        char before[SCRIPT_ANSWER_LEN];

        if (!script_ask(s, &question, &a, problem, sizeof(problem)))
            fail_msg("%s", problem);
        assert_true(script_ask(t, &question, &b, problem, sizeof(problem)));
        assert_string_equal(a.text[0], b.text[0]);
        same += question.draw > 0 && strcmp(before, a.text[0]) == 0;
        strcpy(before, a.text[0]);
    }
    assert_int_equal(same, 0);
    script_free(s);
    script_free(t);
}

static void what_cannot_be_loaded_is_refused_with_its_line(void **state)
{
    static const char *const bad[][2] = {
        {"x = ", "test.lua:1: unexpected symbol near <eof>"},
        {"\n\nx = nil + 1", "test.lua:3: attempt to perform arithmetic on a nil value"},
        {"function other() end", "test.lua:1: it has no function decide()"},
        {"decide = 3", "it has no function decide()"},
        {"setmetatable(_ENV, {__index = function() while true do end end})",
         "no function decide()"},
        {"\nwhile true do end", "test.lua:2: it has used up its budget"},
        {"function decide() end random(3)", "test.lua:1: random() is there while decide() runs"},
        {"function decide() end data(0, 1)", "data() is there while"},
        {"\x1bLua", "attempt to load a binary chunk"},
        {"error({})", "test.lua:1: it threw a table"},
        {"error()", "test.lua:1: it threw a nil"},
        {"error('a\\nb\\27[31m\\0c')", "test.lua:1: a?b?[31m?c"},
        {"local t = {} for i = 1, 1e7 do t[i] = i end", "it has used up its budget"},
        {"x = ('x'):rep(16384) y = x .. x",
         "it needs more than its 4096 KiB of memory, or a string"},
    };
    char deep[4001];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err *e = NULL;

        assert_null(script_of(bad[i][0], &e));
        if (!strstr(err_msg(e), bad[i][1]))
            fail_msg("number %zu: %s", i, err_msg(e));
        err_free(e);
    }
    for (unsigned i = 0; i < 3; i++) { /* the compiler digs, too */
        static const char *const open[] = {"(", "{", "function() "};
        struct err *e = NULL;
        struct out o = {deep, sizeof(deep), 0};

        out_put(&o, "return ");
        for (unsigned k = 0; k < 300; k++)
            out_put(&o, "%s", open[i]);
        assert_null(script_of(deep, &e));
        err_free(e);
    }
}

static void the_message_names_the_line(void **state)
{
    struct script *s = script_of("function decide(q)\n"
                                 "  local function deep()\n"
                                 "    if q.offset == 0 then error('thrown') end\n"
                                 "    if q.offset == 1 then local x = nil .. 1 end\n"
                                 "    while true do\n"
                                 "      local y = 1\n"
                                 "    end\n"
                                 "  end\n"
                                 "  deep()\n"
                                 "end\n",
                                 NULL);
    struct script_answer a;
    char problem[512];
    (void)state;

    assert_false(ask_at(s, 0, &a, problem));
    assert_string_equal(problem, "test.lua:3: thrown");
    assert_false(ask_at(s, 1, &a, problem));
    assert_non_null(strstr(problem, "test.lua:4: attempt to concatenate a nil value"));
    assert_false(ask_at(s, 2, &a, problem));
    assert_true(strncmp(problem, "test.lua:5: it has", 18) == 0 ||
                strncmp(problem, "test.lua:6: it has", 18) == 0);
    script_free(s);
}

/* --- In rules --- */

static struct rules *with_script(const char *script, const char *rule, struct err **errp)
{
    char dir[] = "/tmp/test-script-XXXXXX", path[64], conf[64];
    struct rules *r = rules_new(&test_names);
    FILE *f;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/a.lua", dir);
    snprintf(conf, sizeof(conf), "%s/rules.conf", dir);
    f = fopen(path, "w");
    assert_true(f && fputs(script, f) >= 0 && fclose(f) == 0);
    if (!rules_load(r, conf, rule, strlen(rule), errp)) {
        rules_free(r);
        r = NULL;
    }
    unlink(path);
    rmdir(dir);
    if (r)
        rules_set_seed(r, 1);
    return r;
}

static struct rules *scripted(const char *script, const char *rule)
{
    struct err *e = NULL;
    struct rules *r = with_script(script, rule, &e);

    if (!r)
        fail_msg("%s", err_msg(e));
    return r;
}

static unsigned errors;
static char last_error[1024];

static void count_errors(enum log_level level, const char *line, void *arg)
{
    (void)arg;
    if (level != LOG_LEVEL_ERROR)
        return;
    errors++;
    snprintf(last_error, sizeof(last_error), "%s", line);
}

static void a_rule_asks_its_script_about_what_its_selectors_matched(void **state)
{
    struct rules *r =
        scripted("function decide(q)\n"
                 "  if q.offset == 512 then return end\n"
                 "  if q.offset == 1024 then\n"
                 "    return 'action=delay ms=20', 'action=state new_state=5',\n"
                 "      'action=torn unit=4096 keep=suffix where=disk', 'action=hang'\n"
                 "  end\n"
                 "  return 'action=error errno=ENOSPC'\n"
                 "end\n",
                 "[script \"s\"]\nlayer = host\nop = write\nrange = 512+4k\n"
                 "file = a.lua\nlimit = 2\n[fault]\nop=write\naction=error\nerrno=EPERM\n");
    struct fault_decision d;
    char line[512];
    (void)state;

    assert_int_equal(ask(r, FAULT_READ, 2048, 512).deed, FAULT_PASS);
    assert_int_equal(ask(r, FAULT_WRITE, 8192, 512).error, EPERM); /* not asked */
    assert_int_equal(ask(r, FAULT_WRITE, 512, 512).error, EPERM);  /* it let it go on */
    d = ask(r, FAULT_WRITE, 1024, 8192);
    assert_int_equal(d.deed, FAULT_TORN);
    assert_int_equal(d.delay_ns, 20000000);
    assert_int_equal(d.tear.unit, 4096);
    assert_true(d.on_disk);
    assert_int_equal(rules_state(r), 5);
    assert_int_equal(ask(r, FAULT_WRITE, 2048, 512).error, ENOSPC);
    assert_int_equal(ask(r, FAULT_WRITE, 2048, 512).error, EPERM); /* its limit */
    assert_true(rules_describe(r, 0, line, sizeof(line)));
    assert_non_null(strstr(line, "action=script errno=EIO file=a.lua hook=decide"));
    assert_non_null(strstr(line, ": seen 5, matched 4, fired 2"));
    assert_true(rules_explain(r, 0, line, sizeof(line)));
    assert_non_null(strstr(line, "is what decide() in the script a.lua says; if that fails, it "
                                 "fails with EIO"));
    rules_free(r);
}

static void a_failing_script_fails_the_request_as_the_rule_says(void **state)
{
    struct rules *r =
        scripted("function look(q)\n  if q.offset == 0 then error('no') end\n"
                 "  while q.offset == 1 do end\n"
                 "  if q.offset == 2 then return 'action=eror' end\n"
                 "  if q.offset == 3 then return 'op=read action=error' end\n"
                 "  if q.offset == 4 then return 'action=torn' end\n"
                 "  if q.offset == 5 then return 'action=powercut' end\n"
                 "  if q.offset == 6 then return 'action=nospace after=1' end\n"
                 "  if q.offset == 7 then return 'action=state new_state=9', 'x' end\n"
                 "  if q.offset == 8 then return 'action=corrupt stale=on' end\n"
                 "  if q.offset == 9 then return 'action=script file=a.lua' end\n"
                 "  if q.offset == 10 then return 'action=error errno=EIO errno=EIO' end\n"
                 "  if q.offset == 11 then return '' end\n"
                 "  if q.offset == 12 then return 'id=x action=error' end\n"
                 "  if q.offset == 13 then return 'action=badsector' end\n"
                 "end\n",
                 "[script \"s\"]\nop = read\nfile = a.lua\nhook = look\n"
                 "errno = ENOSPC\nbudget = 5000\n"
                 "[script]\nlayer = wire\nop=read\nfile=a.lua\nhook=look\n");
    struct fault_req wire = {.layer = FAULT_WIRE, .op = FAULT_READ, .len = 512};
    struct fault_decision d;
    (void)state;

    errors = 0;
    log_set_sink(count_errors, NULL);
    for (uint64_t off = 0; off < 14; off++) {
        d = ask_req(r, (struct fault_req){
                           .op = FAULT_READ, .off = off, .len = 512, .at_ms = 10000 * (off + 1)});
        if (d.deed != FAULT_FAIL || d.error != ENOSPC)
            fail_msg("at %d", (int)off);
        assert_int_equal(errors, off + 1);
        assert_non_null(strstr(last_error, "a.lua:"));
        assert_non_null(strstr(last_error, "rules.conf:1 s: its script failed, and so does host "
                                           "read "));
    }
    assert_int_equal(rules_state(r), 1); /* all answers are read before one is carried out */
    assert_int_equal(ask(r, FAULT_READ, 14, 512).deed, FAULT_PASS);
    for (unsigned i = 0; i < 500; i++) /* within a second */
        ask_req(r, (struct fault_req){.op = FAULT_READ, .len = 512, .at_ms = 500000 + i});
    assert_int_equal(errors, 15);
    ask_req(r, (struct fault_req){.op = FAULT_READ, .len = 512, .at_ms = 600000});
    assert_non_null(strstr(last_error, "(and so did 499 before): a.lua:2: no"));
    d = ask_req(r, wire);
    assert_int_equal(d.deed, FAULT_REPLY);
    assert_int_equal(d.wrong, WRONG_ERRNO);
    assert_int_equal(d.error, EIO);
    log_set_sink(NULL, NULL);
    rules_free(r);
}

static void script_sections_are_checked(void **state)
{
    static const char *const bad[][2] = {
        {"[script]\nop = read\n", "rules.conf:1:1: action=script lacks its file"},
        {"[script]\nfile = b.lua\n", "rules.conf:2:8: Could not open script '/tmp/test-script-"},
        {"[script]\n\nfile = .\n", "rules.conf:3:8: The script '/tmp/test-script-"},
        {"[script]\nfile = /dev/null\n", "is not a plain file"},
        {"[script]\nfile = a.lua\naction = error\n", "rules.conf:3:10: [script] has no action"},
        {"[script]\nfile = a.lua\nhook = other\n",
         "rules.conf:2:8: a.lua:1: it has no function other()"},
        {"[script]\nfile = a.lua\nhook = a.b\n", "'hook' must be the name of a function"},
        {"[script]\nfile = a.lua\nbudget = 10\n", "'budget' must be a number from 1000"},
        {"[script]\nfile = a.lua\nmemory = 1k\n", "'memory' must be from 256k"},
        {"[script]\nfile = a.lua\nms = 5\n", "'ms' does not go with action=script"},
        {"[script]\nfil = a.lua\n", "unknown key 'fil': did you mean file?"},
        {"[fault]\naction = error\nfile = a.lua\n", "'file' does not go with action=error"},
        {"[scrip]\n", "did you mean [script]?"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err *e = NULL;

        assert_null(with_script("function decide() end", bad[i][0], &e));
        if (!strstr(err_msg(e), bad[i][1]))
            fail_msg("number %zu: %s", i, err_msg(e));
        err_free(e);
    }
}

static void *run(void *failed)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_sees_the_request_and_what_it_returns_is_the_answer),
        cmocka_unit_test(random_numbers_belong_to_the_request),
        cmocka_unit_test(what_cannot_be_loaded_is_refused_with_its_line),
        cmocka_unit_test(the_message_names_the_line),
        cmocka_unit_test(a_rule_asks_its_script_about_what_its_selectors_matched),
        cmocka_unit_test(a_failing_script_fails_the_request_as_the_rule_says),
        cmocka_unit_test(script_sections_are_checked),
    };

    *(int *)failed = cmocka_run_group_tests(tests, NULL, NULL);
    return NULL;
}

int main(void)
{
    return on_small_stack(run);
}
