/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control/schema.h"

static void check(const char *text, const char *implied, const char *want)
{
    struct err *e = NULL;
    json_t *v = dotted_parse(text, implied, &e);

    if (want[0] == '{') {
        json_t *w = json_loads(want, 0, NULL);

        if (!v)
            fail_msg("%s: %s", text, err_msg(e));
        assert_true(json_equal(v, w));
        json_decref(w);
    } else {
        assert_null(v);
        assert_non_null(strstr(err_msg(e), want));
    }
    err_free(e);
    json_decref(v);
}

static void dots_nest_and_numbers_list(void **state)
{
    check("driver=qcow2,file.driver=file,file.filename=/a", NULL,
          "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"/a\"}}");
    check("a.0=x,a.1.b=y", NULL, "{\"a\":[\"x\",{\"b\":\"y\"}]}");
    check("a.1=x,a.0=y", NULL, "{\"a\":[\"y\",\"x\"]}");
    check("", NULL, "{}");
}

static void the_first_word_may_stand_for_a_key(void **state)
{
    check("file,filename=x", "driver", "{\"driver\":\"file\",\"filename\":\"x\"}");
    check("driver=file", "driver", "{\"driver\":\"file\"}");
    check("file", NULL, "Expected '='");
    check("a=1,file", "driver", "Expected '='");
}

static void a_doubled_comma_is_one(void **state)
{
    check("filename=a,,b,x=,,", NULL, "{\"filename\":\"a,b\",\"x\":\",\"}");
}

static void json_is_taken_as_it_is(void **state)
{
    check("{\"a\": 1}", NULL, "{\"a\":1}");
    check("{\"a\": 1", NULL, "ends in the middle");
    check("{\"a\": 1} {", NULL, "one object");
}

static void nonsense_is_refused(void **state)
{
    check("a=1,a.b=2", NULL, "used inconsistently");
    check("a.b=2,a=1", NULL, "used inconsistently");
    check("a.0=1,a.2=2", NULL, "Parameter '1' of a list is missing");
    check("a.0=1,a.x=2", NULL, "mixed");
    check("a..b=1", NULL, "Invalid parameter");
    check("=1", NULL, "Invalid parameter");
    check("a=\xff", NULL, "UTF-8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dots_nest_and_numbers_list),
        cmocka_unit_test(the_first_word_may_stand_for_a_key),
        cmocka_unit_test(a_doubled_comma_is_one),
        cmocka_unit_test(json_is_taken_as_it_is),
        cmocka_unit_test(nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
