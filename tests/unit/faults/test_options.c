/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blkdebug's options as key and value. The texts of refusals that are blkdebug's were seen with
 * qemu-io 7.2.
 */
#include "tests/unit/faults/rules_test.h"

#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "faults/options.h"

#define MOST 16

/* "key=value" strings become options. */
static size_t split(const char *const *texts, struct fault_option *v, char store[MOST][128])
{
    size_t n = 0;

    for (; texts[n]; n++) {
        assert_true(n < MOST);
        snprintf(store[n], 128, "%s", texts[n]);
        char *value = strchr(store[n], '=');
        assert_non_null(value);
        *value = 0;
        v[n] = (struct fault_option){store[n], value + 1};
    }
    return n;
}

static struct rules *load(const char *const *texts, struct fault_limits *limits, struct err **e)
{
    struct rules *r = rules_new(&test_names);
    struct fault_option v[MOST];
    char store[MOST][128];

    assert_non_null(r);
    if (rules_load_blkdebug(r, v, split(texts, v, store), limits, e))
        return r;
    assert_int_equal(rules_count(r), 0);
    rules_free(r);
    return NULL;
}

#define LOAD(...) load((const char *const[]){__VA_ARGS__, NULL}, &limits, &e)

static struct fault_limits limits;

static int check(struct rules *r, enum fault_io io, uint64_t off)
{
    return rules_check(r, io, off, 512).error;
}

static void numbered_rules_stand_in_order_of_their_numbers(void **state)
{
    struct err *e = NULL;
    struct rules *r =
        LOAD("inject-error.1.event=none", "inject-error.1.errno=28", "inject-error.0.event=none",
             "inject-error.0.sector=1", "inject-error.0.iotype=read", "inject-error.0.once=on");

    assert_non_null(r);
    rules_event(r, EV_NONE, NULL);
    assert_int_equal(check(r, FAULT_READ, 512), EIO);
    assert_int_equal(check(r, FAULT_READ, 512), ENOSPC);
    assert_int_equal(check(r, FAULT_WRITE, 0), ENOSPC);
    rules_free(r);
}

static void one_rule_needs_no_number(void **state)
{
    struct err *e = NULL;
    struct rules *r = LOAD("set-state.event=none", "set-state.new_state=7", "align=4k",
                           "inject-error.event=none", "inject-error.immediately=on");

    assert_non_null(r);
    assert_int_equal(rules_count(r), 2);
    rules_event(r, EV_NONE, NULL);
    assert_int_equal(rules_state(r), 7);
    assert_true(rules_check(r, FAULT_READ, 0, 512).immediately);
    assert_int_equal(limits.align, 4096);
    rules_free(r);
}

static void rules_of_the_file_come_first(void **state)
{
    char path[] = "/tmp/options-XXXXXX", config[64], line[200];
    const char *text = INJECT "event = \"none\"\n" SET_STATE "event = \"none\"\n";
    struct err *e = NULL;
    int fd = mkstemp(path);

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    snprintf(config, sizeof(config), "config=%s", path);
    struct rules *r = LOAD("inject-error.event=none", "set-state.event=none", config);
    unlink(path);
    assert_non_null(r);
    assert_int_equal(rules_count(r), 4);
    static const char *const order[] = {"inject-error", "inject-error", "set-state", "set-state"};
    for (unsigned i = 0; i < 4; i++) {
        assert_true(rules_describe(r, i, line, sizeof(line)));
        assert_non_null(strstr(line, order[i]));
        assert_int_equal(strstr(line, path) != NULL, i % 2 == 0);
    }
    rules_free(r);
}

static void all_limits_are_read(void **state)
{
    struct err *e = NULL;
    struct rules *r = LOAD("align=1", "max-transfer=2", "opt-write-zero=3", "max-write-zero=4",
                           "opt-discard=5", "max-discard=6k");

    assert_non_null(r);
    assert_int_equal(limits.align, 1);
    assert_int_equal(limits.max_transfer, 2);
    assert_int_equal(limits.opt_write_zero, 3);
    assert_int_equal(limits.max_write_zero, 4);
    assert_int_equal(limits.opt_discard, 5);
    assert_int_equal(limits.max_discard, 6144);
    rules_free(r);
}

static void what_cannot_be_is_refused_in_blkdebugs_words(void **state)
{
    static const struct {
        const char *options[4], *message;
    } all[] = {
        {{"inject-error.0.event=none", "inject-error.event=none"},
         "Unknown option '0.event' for [inject-error]"},
        {{"inject-error.0.event=none", "inject-error.2.event=none"},
         "Unused option '2.event' for [inject-error]"},
        {{"inject-error.0.event=none", "inject-error.0.foo=none"},
         "[inject-error] section doesn't support the option 'foo'"},
        {{"inject-error.event=none", "inject-error.foo=none"},
         "Unknown option 'foo' for [inject-error]"},
        {{"inject-error.0=none"}, "[inject-error] section (index 0) does not consist of keys"},
        {{"inject-error.event=none", "set-state.errno=1"}, "Unused option 'errno' for [set-state]"},
        {{"foo=1"}, "Block protocol 'blkdebug' doesn't support the option 'foo'"},
        /* The rest in ours. */
        {{"inject-error.00.event=none"}, "Unused option '00.event' for [inject-error]"},
        {{"inject-error.id=none"}, "Unused option 'id' for [inject-error]"},
        {{"inject-error.0.event=nn"}, "inject-error.0: unknown event \"nn\""},
        {{"set-state.new_state=1"}, "set-state: [set-state] lacks its event"},
        {{"inject-error.event=none", "inject-error.errno=x"}, "inject-error: 'errno' must be"},
        {{"align=x"}, "align"},
        {{"align=1", "align=2"}, "blkdebug: 'align' is given twice"},
        {{"config=no/such/file"}, "Could not open rule file 'no/such/file'"},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct err *e = NULL;

        assert_null(load(all[i].options, &limits, &e));
        if (!strstr(err_msg(e), all[i].message))
            fail_msg("\"%s\", not \"%s\"", err_msg(e), all[i].message);
        err_free(e);
    }
}

static void failing_allocations_are_reported(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        struct err *e = NULL;
        struct rules *r = rules_new(&test_names);
        struct fault_option v[] = {{"inject-error.0.event", "none"}, {"set-state.event", "none"}};

        mem_fail_nth(nth, 0);
        bool ok = rules_load_blkdebug(r, v, 2, &limits, &e);
        bool reached = mem_count() >= nth;
        mem_fail_nth(0, 0);
        assert_int_equal(ok, !reached);
        assert_int_equal(rules_count(r), ok ? 2 : 0);
        if (reached)
            assert_int_equal(err_code(e), ENOMEM);
        err_free(e);
        rules_free(r);
        if (ok)
            break;
    }
}

static void file_names_are_split_at_the_first_colon(void **state)
{
    struct err *e = NULL;
    const char *image;
    char *config;

    assert_true(blkdebug_split_name("blkdebug:a.conf:b:c", &config, &image, &e));
    assert_string_equal(config, "a.conf");
    assert_string_equal(image, "b:c");
    mem_free(config);
    assert_true(blkdebug_split_name("blkdebug::b", &config, &image, &e));
    assert_string_equal(config, "");
    assert_string_equal(image, "b");
    mem_free(config);
    assert_true(blkdebug_split_name("disk.qcow2", &config, &image, &e));
    assert_null(config);
    assert_string_equal(image, "disk.qcow2");
    assert_false(blkdebug_split_name("blkdebug:foo", &config, &image, &e));
    assert_string_equal(err_msg(e), "blkdebug requires both config file and image path");
    err_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbered_rules_stand_in_order_of_their_numbers),
        cmocka_unit_test(one_rule_needs_no_number),
        cmocka_unit_test(rules_of_the_file_come_first),
        cmocka_unit_test(all_limits_are_read),
        cmocka_unit_test(what_cannot_be_is_refused_in_blkdebugs_words),
        cmocka_unit_test(failing_allocations_are_reported),
        cmocka_unit_test(file_names_are_split_at_the_first_colon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
