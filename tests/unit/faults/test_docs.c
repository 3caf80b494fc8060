/* SPDX-License-Identifier: BSD-3-Clause
 *
 * docs/faults.md tells the truth: every example loads, can fire, and every event, key and action is
 * in it. The argument is its path.
 */
#include "tests/unit/faults/fault_test.h"

static char *page;

static void never(void *arg, const char *text)
{
    if (strstr(text, "never"))
        fail_msg("%s in:\n%s", text, (const char *)arg);
}

static void every_example_loads(void **state)
{
    static const char begin[] = "\n```ini\n", end[] = "\n```\n";
    unsigned n = 0;
    (void)state;

    for (char *at = page; (at = strstr(at, begin)); n++) {
        struct rules *r = rules_new(&test_names);
        struct err *e = NULL;
        char *stop;

        at += strlen(begin);
        stop = strstr(at, end);
        assert_non_null(stop);
        if (!rules_load(r, "example", at, stop + 1 - at, &e))
            fail_msg("%s in:\n%.*s", err_msg(e), (int)(stop - at), at);
        assert_true(rules_count(r) > 0);
        rules_warn(r, never, at);
        rules_free(r);
        at = stop;
    }
    assert_true(n >= 12);
}

static void assert_listed(const char *name)
{
    char quoted[64];

    snprintf(quoted, sizeof(quoted), "`%s`", name);
    if (!strstr(page, quoted))
        fail_msg("%s is not in the page", quoted);
}

static void every_event_and_key_is_listed(void **state)
{
    static const char *const keys[] = {"event",  "state", "new_state",   "iotype", "errno",
                                       "sector", "once",  "immediately", "id"};
    (void)state;

    for (unsigned i = 0; i < EV_COUNT; i++)
        assert_listed(test_event_names[i]);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        assert_listed(keys[i]);
}

static void every_action_and_key_of_faults_is_listed(void **state)
{
    struct fault_help h;
    (void)state;

    for (unsigned i = 0; fault_action_help(i, &h); i++)
        assert_listed(h.name);
    for (unsigned i = 0; fault_key_help(i, &h); i++)
        if (strcmp(h.name, "action") != 0)
            assert_listed(h.name);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_example_loads),
        cmocka_unit_test(every_event_and_key_is_listed),
        cmocka_unit_test(every_action_and_key_of_faults_is_listed),
    };
    FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;
    int ret;

    page = calloc(1, 1 << 20);
    if (!f || !page || fread(page, 1, (1 << 20) - 1, f) == 0) {
        fprintf(stderr, "usage: %s docs/faults.md\n", argv[0]);
        return 1;
    }
    fclose(f);
    ret = cmocka_run_group_tests(tests, NULL, NULL);
    free(page);
    return ret;
}
