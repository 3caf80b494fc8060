/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Where breakwater is built without Lua, a rule that needs it is refused by name, and others work.
 */
#include "tests/unit/faults/fault_test.h"

#include "faults/script.h"

static void a_script_is_refused_by_name(void **state)
{
    static const char text[] = "[fault]\nop = read\naction = error\n[script]\nfile = a.lua\n";
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;
    (void)state;

    assert_false(script_is_built());
    assert_false(rules_load(r, "rules.conf", text, strlen(text), &e));
    assert_string_equal(err_msg(e), "rules.conf:4:1: [script] needs Lua, and this breakwater was "
                                    "built without it");
    err_free(e);
    e = NULL;
    assert_false(rules_load_option(r, "op=read action=script file=a.lua", 1, &e));
    assert_non_null(strstr(err_msg(e), "built without it"));
    err_free(e);
    assert_int_equal(rules_count(r), 0);
    assert_true(rules_load_option(r, "op=read action=error", 1, NULL));
    rules_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_script_is_refused_by_name)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
