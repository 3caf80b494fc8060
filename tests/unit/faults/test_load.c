/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rule files: which are good, which are refused, and what the message says. What is good or bad
 * here was found out by giving the same texts to QEMU's blkdebug; test_peer repeats that.
 */
#include "tests/unit/faults/rules_test.h"

#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"

#define RULE INJECT "event = \"read_aio\"\n"

static void accept(const char *text, size_t len, unsigned n_rules)
{
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;

    if (!rules_load(r, "f.conf", text, len, &e))
        fail_msg("refused: %s", err_msg(e));
    assert_int_equal(rules_count(r), n_rules);
    rules_free(r);
}

static void refuse(const char *text, size_t len, const char *message)
{
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;

    if (rules_load(r, "f.conf", text, len, &e))
        fail_msg("accepted:\n%s", text);
    assert_int_equal(err_code(e), EINVAL);
    if (strncmp(err_msg(e), message, strlen(message)) != 0)
        fail_msg("message is \"%s\"", err_msg(e));
    assert_int_equal(rules_count(r), 0);
    err_free(e);
    rules_free(r);
}

#define ACCEPT(text, n) accept(text, sizeof(text) - 1, n)
#define REFUSE(text, message) refuse(text, sizeof(text) - 1, message)

static void good_files_load(void **state)
{
    (void)state;
    ACCEPT("", 0);
    ACCEPT("# nothing but a comment", 0);
    ACCEPT("\n\n" RULE "\n", 1);
    ACCEPT(RULE RULE SET_STATE "event = \"none\"\n", 3);
    ACCEPT(RULE "errno =\"5\"\n\terrno\t=\t\"5\" and so on\n", 1);
    ACCEPT(RULE "errno = \"5", 1);
    ACCEPT(RULE "errno = \"wrong\"\nerrno = \"5\"\n", 1);
    ACCEPT("[inject-error \"a\"] junk\nevent = \"none\"\n", 1);
    ACCEPT("[inject-error \"a\"\nevent = \"none\"\n", 1);
    ACCEPT("[ inject-error   \"a-._9\"]\nevent = \"none\"\n", 1);
    ACCEPT("[inject-error \"a\"]\nevent = \"none\"\n[set-state \"a\"]\nevent = \"none\"\n", 2);
    ACCEPT(RULE "id = \"abc\"\n", 1);
    ACCEPT("[inject-error]\r\nevent = \"none\"\r\n", 1);
    ACCEPT(RULE "once = \"y\"\nimmediately = \"false\"\n", 1);
    ACCEPT(RULE "errno = \" +010\"\nsector = \"-1\"\nstate = \"-1\"\n", 1);
    ACCEPT(RULE "errno = \"4095\"\nsector = \"18014398509481983\"\n", 1);
}

#define RELAXED "[engine]\nstrict=off\n"

static void without_strict_settings_are_written_as_in_our_sections(void **state)
{
    (void)state;
    ACCEPT(RELAXED "[inject-error]\nevent=read_aio # why\n  errno = ENOSPC\n\n \n# more\nonce=on",
           1);
    ACCEPT(RELAXED "[set-state \"a\"]\r\nevent = read_aio\r\nnew_state=2\r\n", 1);
    ACCEPT(RELAXED RULE "errno = \"28\"\nerrno = ENOSPC\n", 1);
    REFUSE("[engine]\nstrict=on\n[inject-error]\nevent=read_aio\n",
           "f.conf:4:1: put a space before '=' in \"event=read_aio\"");
    REFUSE(RELAXED "[inject-error]\nevent = read_aoi\n",
           "f.conf:4:9: unknown event \"read_aoi\": did you mean \"read_aio\"?");
    REFUSE(RELAXED "[inject-error]\nevnt=read_aio\n",
           "f.conf:4:1: unknown key 'evnt' in [inject-error]: did you mean event?");
    REFUSE(RELAXED "[inject-error]\nnew_state=1\n",
           "f.conf:4:1: 'new_state' does not belong in [inject-error]");
    REFUSE(RELAXED "[inject-error]\nevent\n",
           "f.conf:4:1: \"event\" is no setting: write KEY=VALUE");
    REFUSE(
        RELAXED RULE "errno = EWHAT\n",
        "f.conf:5:9: 'errno' must be a number (decimal, 0x hexadecimal or 0 octal), not \"EWHAT\"");
}

static void names_of_errors_are_known_without_strict(void **state)
{
    struct rules *r = rules_of(RELAXED "[inject-error]\nevent=none\nerrno=ENOSPC\n");

    (void)state;
    rules_event(r, EV_NONE, NULL);
    assert_int_equal(rules_check(r, FAULT_READ, 0, 1).error, ENOSPC);
    rules_free(r);
}

static void numbers_are_read_as_strtoull_does(void **state)
{
    static const struct {
        const char *text;
        int error;
    } n[] = {{"28", 28}, {"0x1c", 28}, {"034", 28}, {" 28", 28}, {"+28", 28}, {"-0", 0}};
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(n); i++) {
        char text[100];
        struct rules *r;

        snprintf(text, sizeof(text), INJECT "event = \"none\"\nerrno = \"%s\"\n", n[i].text);
        r = rules_of(text);
        rules_event(r, EV_NONE, NULL);
        assert_int_equal(rules_check(r, FAULT_READ, 0, 1).error, n[i].error);
        rules_free(r);
    }
}

static void bad_lines_are_refused_by_number(void **state)
{
    (void)state;
    REFUSE(RULE " \n", "f.conf:3:1: a line of white space only");
    REFUSE(RULE "\r\n", "f.conf:3:1: a line of white space only");
    REFUSE(RULE " # c\n", "f.conf:3:2: a comment must start in the first column");
    REFUSE("[]\n", "f.conf:1:1: a section without a name");
    REFUSE("event = \"none\"\n", "f.conf:1:1: a setting before the first section");
    REFUSE(" [inject-error]\n", "f.conf:1:2: a setting before the first section");
    REFUSE("\xef\xbb\xbf[inject-error]\n", "f.conf:1:1: a setting before the first section");
    REFUSE("[cach]\n", "f.conf:1:2: unknown section [cach]");
    REFUSE("[inject-error\n", "f.conf:1:2: unknown section [inject-error?]");
    REFUSE("[inject-error ]\n", "f.conf:1:2: unknown section [inject-error ]");
    REFUSE("[inject-error \"\"]\n", "f.conf:1:2: unknown section [inject-error \"\"]");
    REFUSE(RULE "errno=\"5\"\n", "f.conf:3:1: put a space before '=' in \"errno=\"5\"\"");
    REFUSE(RULE "errno = 5\n", "f.conf:3:9: write the value in double quotes: errno = \"...\"");
    REFUSE(RULE "errno\n", "f.conf:3:7: write the value in double quotes");
    REFUSE(RULE "errno = \"\"\n", "f.conf:3:10: write the value in double quotes");
    REFUSE(RULE "errno = \"5\nonce = \"on\"\n",
           "f.conf:3:9: the value of 'errno' lacks its closing");
    REFUSE(RULE "colour = \"red\"\n", "f.conf:3:1: unknown key 'colour' in [inject-error]");
    REFUSE(RULE "  errmo = \"5\"\n",
           "f.conf:3:3: unknown key 'errmo' in [inject-error]: did you mean "
           "errno?");
    REFUSE(SET_STATE "\tnewstate = \"2\"\n",
           "f.conf:2:2: unknown key 'newstate' in [set-state]: did you mean new_state?");
    REFUSE("[wall]\n", "f.conf:1:2: unknown section [wall]: there are [inject-error], [set-state]");
    REFUSE(RULE "new_state = \"2\"\n", "f.conf:3:1: 'new_state' does not belong in [inject-error]");
    REFUSE(SET_STATE "errno = \"2\"\n", "f.conf:2:1: 'errno' does not belong in [set-state]");
    REFUSE(RULE "errno = \"5\0\"\n", "f.conf:3:11: the line holds a NUL byte");
}

static void bad_values_are_refused_by_line(void **state)
{
    (void)state;
    REFUSE("\n" INJECT "errno = \"5\"\n\n\n", "f.conf:2:1: [inject-error] lacks its event");
    REFUSE(INJECT RULE, "f.conf:1:1: [inject-error] lacks its event");
    REFUSE(INJECT "event = \"read_oio\"\n",
           "f.conf:2:10: unknown event \"read_oio\": did you mean \"read_aio\"?");
    REFUSE(INJECT "event = \"something\"\n", "f.conf:2:10: unknown event \"something\": docs/");
    REFUSE(RULE "iotype = \"reads\"\n",
           "f.conf:3:11: unknown iotype \"reads\": did you mean \"read\"?");
    REFUSE(RULE "errno = \"EIO\"\n", "f.conf:3:10: 'errno' must be a number");
    REFUSE(RULE "errno = \"5 \"\n", "f.conf:3:10: 'errno' must be a number");
    REFUSE(RULE "errno = \"08\"\n", "f.conf:3:10: 'errno' must be a number");
    REFUSE(RULE "errno = \"0x\"\n", "f.conf:3:10: 'errno' must be a number");
    REFUSE(RULE "errno = \"99999999999999999999\"\n", "f.conf:3:10: 'errno' must be a number");
    REFUSE(RULE "errno = \"-5\"\n", "f.conf:3:10: 'errno' must be 0 to 4095");
    REFUSE(RULE "errno = \"4294967301\"\n", "f.conf:3:10: 'errno' must be 0 to 4095");
    REFUSE(RULE "sector = \"-2\"\n",
           "f.conf:3:11: 'sector' must be -1 (any) or 0 to 18014398509481983");
    REFUSE(RULE "sector = \"18014398509481984\"\n", "f.conf:3:11: 'sector' must be -1");
    REFUSE(RULE "state = \"4294967296\"\n",
           "f.conf:3:10: 'state' is 4294967296: a state has 32 bits");
    REFUSE(RULE "once = \"1\"\n", "f.conf:3:9: 'once' must be \"on\" or \"off\", not \"1\"");
    REFUSE(RULE "immediately = \"On\"\n", "f.conf:3:16: 'immediately' must be \"on\" or \"off\"");
    REFUSE("[inject-error \"1a\"]\nevent = \"none\"\n", "f.conf:1:16: \"1a\" is no id");
    REFUSE("[inject-error \"a b\"]\nevent = \"none\"\n", "f.conf:1:16: \"a b\" is no id");
    REFUSE("[inject-error \"a\"]\nevent = \"none\"\n[inject-error \"a\"]\nevent = \"none\"\n",
           "f.conf:3:16: another [inject-error] has the id \"a\" already");
}

static void one_bad_section_leaves_the_engine_as_it_was(void **state)
{
    static const char bad[] = RULE "errno = \"28\"\n" INJECT "event = \"nope\"\n";
    struct rules *r = rules_of(RULE);
    (void)state;

    assert_false(rules_load(r, "bad.conf", bad, strlen(bad), NULL));
    assert_int_equal(rules_count(r), 1);
    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(rules_check(r, FAULT_READ, 0, 1).error, EIO);
    rules_free(r);
}

static void overlong_lines_are_refused(void **state)
{
    char text[2000];
    (void)state;

    memset(text, 'x', sizeof(text));
    text[0] = '#';
    text[1022] = '\n';
    accept(text, 1023, 0);
    text[1022] = 'x';
    text[1023] = '\n';
    refuse(text, 1024, "f.conf:1:1023: the line is longer than 1022 bytes");
}

static void every_failing_allocation_is_reported(void **state)
{
    static const char text[] = "[inject-error \"a\"]\nevent = \"none\"\n[set-state \"b\"]\n"
                               "event = \"none\"\n";
    bool done = false;
    (void)state;

    for (uint64_t nth = 1; !done; nth++) {
        struct rules *r;
        struct err *e = NULL;

        mem_fail_nth(nth, 0);
        r = rules_new(&test_names);
        done = r && rules_load(r, "f.conf", text, strlen(text), &e);
        mem_fail_nth(0, 0);
        if (r && !done) {
            assert_int_equal(err_code(e), ENOMEM);
            assert_int_equal(rules_count(r), 0);
        }
        assert_true(nth > 1 || !done);
        err_free(e);
        rules_free(r);
    }
}

static void files_are_read_whole_up_to_a_limit(void **state)
{
    char path[] = "/tmp/rules-XXXXXX";
    int fd = mkstemp(path);
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;
    (void)state;

    assert_int_equal(write(fd, RULE, strlen(RULE)), strlen(RULE));
    assert_true(rules_load_file(r, path, NULL));
    assert_int_equal(rules_count(r), 1);
    assert_int_equal(ftruncate(fd, 1 * MiB + 1), 0);
    assert_false(rules_load_file(r, path, &e));
    assert_int_equal(err_code(e), EFBIG);
    err_free(e);
    e = NULL;
    unlink(path);
    assert_false(rules_load_file(r, path, &e));
    assert_int_equal(err_code(e), ENOENT);
    assert_non_null(strstr(err_msg(e), path));
    err_free(e);
    e = NULL;
    assert_false(rules_load_file(r, "/", &e));
    assert_int_equal(err_code(e), EISDIR);
    err_free(e);
    close(fd);
    rules_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_load),
        cmocka_unit_test(without_strict_settings_are_written_as_in_our_sections),
        cmocka_unit_test(names_of_errors_are_known_without_strict),
        cmocka_unit_test(numbers_are_read_as_strtoull_does),
        cmocka_unit_test(bad_lines_are_refused_by_number),
        cmocka_unit_test(bad_values_are_refused_by_line),
        cmocka_unit_test(one_bad_section_leaves_the_engine_as_it_was),
        cmocka_unit_test(overlong_lines_are_refused),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(files_are_read_whole_up_to_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
