/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The fault engine's semantics: what arms, what fires, in which order.
 */
#include "tests/unit/faults/rules_test.h"

static int io(struct rules *r, enum fault_io type)
{
    return rules_check(r, type, 0, 512).error;
}

static int read_at(struct rules *r, uint64_t off, uint64_t len)
{
    return rules_check(r, FAULT_READ, off, len).error;
}

static void nothing_fires_before_its_event(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"read_aio\"\n");
    (void)state;

    assert_true(rules_idle(r));
    assert_true(rules_listens(r, EV_READ_AIO));
    assert_false(rules_listens(r, EV_WRITE_AIO));
    assert_int_equal(io(r, FAULT_READ), 0);
    rules_event(r, EV_WRITE_AIO, NULL);
    assert_int_equal(io(r, FAULT_READ), 0);
    rules_event(r, EV_READ_AIO, NULL);
    assert_false(rules_idle(r));
    assert_int_equal(io(r, FAULT_READ), EIO);
    rules_free(r);
}

static void armed_rules_latch_and_hit_everything_but_block_status(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"read_aio\"\nerrno = \"28\"\n");
    (void)state;

    rules_event(r, EV_READ_AIO, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(io(r, FAULT_READ), ENOSPC);
        assert_int_equal(io(r, FAULT_WRITE), ENOSPC);
        assert_int_equal(io(r, FAULT_WRITE_ZEROES), ENOSPC);
        assert_int_equal(io(r, FAULT_DISCARD), ENOSPC);
        assert_int_equal(rules_check(r, FAULT_FLUSH, 0, 0).error, ENOSPC);
        assert_int_equal(io(r, FAULT_BLOCK_STATUS), 0);
        rules_event(r, EV_WRITE_AIO, NULL); /* arms nothing, so disarms nothing */
    }
    rules_free(r);
}

static void iotype_selects_one_kind(void **state)
{
    static const char *const name[] = {"read",    "write", "write-zeroes",
                                       "discard", "flush", "block-status"};
    (void)state;

    for (int want = 0; want < FAULT_IO_COUNT; want++) {
        char text[100];
        struct rules *r;

        snprintf(text, sizeof(text), INJECT "event = \"none\"\niotype = \"%s\"\n", name[want]);
        r = rules_of(text);
        rules_event(r, EV_NONE, NULL);
        for (int i = 0; i < FAULT_IO_COUNT; i++)
            assert_int_equal(io(r, i), i == want ? EIO : 0);
        rules_free(r);
    }
}

static void an_event_that_arms_replaces_what_was_armed(void **state)
{
    struct rules *r =
        rules_of(INJECT "event = \"read_aio\"\nerrno = \"5\"\n" INJECT
                        "event = \"write_aio\"\nerrno = \"28\"\n"
                        "iotype = \"write\"\n" INJECT "event = \"l2_load\"\nstate = \"7\"\n");
    (void)state;

    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(io(r, FAULT_WRITE), EIO);
    rules_event(r, EV_L2_LOAD, NULL); /* has an inject rule, but for another state */
    assert_int_equal(io(r, FAULT_WRITE), EIO);
    rules_event(r, EV_WRITE_AIO, NULL);
    assert_int_equal(io(r, FAULT_WRITE), ENOSPC);
    assert_int_equal(io(r, FAULT_READ), 0);
    rules_free(r);
}

static void the_first_in_the_file_wins(void **state)
{
    struct rules *r =
        rules_of(INJECT "event = \"read_aio\"\nerrno = \"28\"\nsector = \"1\"\n" INJECT
                        "event = \"read_aio\"\nerrno = \"22\"\n" INJECT
                        "event = \"read_aio\"\nerrno = \"5\"\n");
    (void)state;

    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(read_at(r, 0, 1024), ENOSPC);
    assert_int_equal(read_at(r, 0, 512), EINVAL);
    rules_free(r);
}

static void of_several_set_states_the_first_in_the_file_wins(void **state)
{
    struct rules *r = rules_of(SET_STATE "event = \"read_aio\"\nnew_state = \"2\"\n" SET_STATE
                                         "event = \"read_aio\"\nnew_state = \"3\"\n");
    (void)state;

    assert_int_equal(rules_state(r), 1);
    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(rules_state(r), 2);
    rules_free(r);
}

static void the_new_state_holds_from_the_next_event_on(void **state)
{
    /* If the state changed within the event, the chain would run through at once. */
    struct rules *r =
        rules_of(SET_STATE "event = \"write_aio\"\nstate = \"1\"\n"
                           "new_state = \"2\"\n" SET_STATE "event = \"write_aio\"\nstate = \"2\"\n"
                           "new_state = \"3\"\n" INJECT "event = \"write_aio\"\nstate = \"2\"\n"
                           "errno = \"28\"\n" INJECT "event = \"write_aio\"\nstate = \"3\"\n");
    (void)state;

    rules_event(r, EV_WRITE_AIO, NULL);
    assert_int_equal(rules_state(r), 2);
    assert_int_equal(io(r, FAULT_WRITE), 0);
    rules_event(r, EV_WRITE_AIO, NULL);
    assert_int_equal(rules_state(r), 3);
    assert_int_equal(io(r, FAULT_WRITE), ENOSPC);
    rules_event(r, EV_WRITE_AIO, NULL);
    assert_int_equal(io(r, FAULT_WRITE), EIO);
    rules_free(r);
}

static void new_state_omitted_leaves_only_stateless_rules(void **state)
{
    struct rules *r =
        rules_of(SET_STATE "event = \"read_aio\"\n" INJECT "event = \"write_aio\"\nstate = \"1\"\n"
                           "errno = \"28\"\n" INJECT "event = \"write_aio\"\n");
    (void)state;

    rules_event(r, EV_WRITE_AIO, NULL);
    assert_int_equal(io(r, FAULT_WRITE), ENOSPC);
    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(rules_state(r), 0);
    rules_event(r, EV_WRITE_AIO, NULL);
    assert_int_equal(io(r, FAULT_WRITE), EIO);
    rules_free(r);
}

static void errno_zero_shields_and_is_never_used_up(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"none\"\nerrno = \"0\"\nsector = \"2\"\n"
                                      "once = \"on\"\n" INJECT "event = \"none\"\n");
    (void)state;

    rules_event(r, EV_NONE, NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(read_at(r, 1024, 512), 0);
        assert_int_equal(read_at(r, 512, 512), EIO);
    }
    rules_free(r);
}

static void once_fires_once_even_when_its_event_comes_again(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"read_aio\"\nonce = \"on\"\nerrno = \"28\"\n" INJECT
                                      "event = \"write_aio\"\n");
    (void)state;

    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(io(r, FAULT_READ), ENOSPC);
    assert_int_equal(io(r, FAULT_READ), 0);
    assert_true(rules_idle(r));
    assert_false(rules_listens(r, EV_READ_AIO));
    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(io(r, FAULT_READ), 0);
    /* A spent rule does not empty the list either. */
    rules_event(r, EV_WRITE_AIO, NULL);
    rules_event(r, EV_READ_AIO, NULL);
    assert_int_equal(io(r, FAULT_READ), EIO);
    rules_free(r);
}

static void once_in_the_middle_leaves_its_neighbours_armed(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"none\"\nsector = \"1\"\nerrno = \"1\"\n" INJECT
                                      "event = \"none\"\nsector = \"2\"\nonce = \"on\"\n"
                                      "errno = \"2\"\n" INJECT
                                      "event = \"none\"\nsector = \"3\"\nerrno = \"3\"\n");
    (void)state;

    rules_event(r, EV_NONE, NULL);
    assert_int_equal(read_at(r, 1024, 512), 2);
    assert_int_equal(read_at(r, 1024, 512), 0);
    assert_int_equal(read_at(r, 1536, 512), 3);
    assert_int_equal(read_at(r, 512, 512), 1);
    rules_event(r, EV_NONE, NULL);
    assert_int_equal(read_at(r, 1024, 512), 0);
    assert_int_equal(read_at(r, 1536, 512), 3);
    assert_int_equal(read_at(r, 512, 512), 1);
    rules_free(r);
}

static void sector_must_lie_in_the_request(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"none\"\nsector = \"0x10\"\n");
    (void)state;

    rules_event(r, EV_NONE, NULL);
    assert_int_equal(read_at(r, 8192, 1), EIO);
    assert_int_equal(read_at(r, 0, 8193), EIO);
    assert_int_equal(read_at(r, 0, 8192), 0);
    assert_int_equal(read_at(r, 8193, 512), 0);
    assert_int_equal(rules_check(r, FAULT_FLUSH, 0, 0).error, 0);
    assert_int_equal(rules_check(r, FAULT_FLUSH, 8192, 0).error, 0);
    assert_int_equal(read_at(r, 8000, UINT64_MAX), EIO); /* no wrap */
    rules_free(r);
}

static void immediately_is_handed_on(void **state)
{
    struct rules *r = rules_of(INJECT "event = \"none\"\niotype = \"read\"\n"
                                      "immediately = \"yes\"\n" INJECT "event = \"none\"\n");
    (void)state;

    rules_event(r, EV_NONE, NULL);
    assert_true(rules_check(r, FAULT_READ, 0, 1).immediately);
    assert_false(rules_check(r, FAULT_WRITE, 0, 1).immediately);
    rules_free(r);
}

static void counters_tell_what_happened(void **state)
{
    struct rules *r = rules_of("# comment\n\n" INJECT "event = \"read_aio\"\nstate = \"1\"\n"
                               "iotype = \"read\"\nsector = \"8\"\nonce = \"on\"\n" SET_STATE
                               "event = \"write_aio\"\nnew_state = \"4\"\n" INJECT
                               "event = \"l2_load\"\nerrno = \"0\"\nimmediately = \"on\"\n");
    char line[200], small[12];
    (void)state;

    rules_event(r, EV_READ_AIO, NULL);
    rules_event(r, EV_READ_AIO, NULL);
    rules_event(r, EV_WRITE_AIO, NULL);
    rules_event(r, EV_READ_AIO, NULL); /* seen, but the state is 4 */
    assert_int_equal(read_at(r, 4096, 512), EIO);
    assert_int_equal(read_at(r, 4096, 512), 0);
    assert_int_equal(rules_count(r), 3);
    assert_true(rules_describe(r, 0, line, sizeof(line)));
    assert_string_equal(line, "rules.conf:3 inject-error event=read_aio state=1 iotype=read "
                              "errno=5 sector=8 once: seen 3, armed 2, fired 1 (spent)");
    /* Injections come before state changes, as they are added in that order. */
    assert_true(rules_describe(r, 1, line, sizeof(line)));
    assert_string_equal(line, "rules.conf:12 inject-error event=l2_load errno=0 immediately: "
                              "seen 0, armed 0, fired 0");
    assert_true(rules_describe(r, 2, line, sizeof(line)));
    assert_string_equal(line, "rules.conf:9 set-state event=write_aio new_state=4: seen 1, "
                              "applied 1");
    assert_false(rules_describe(r, 3, line, sizeof(line)));
    assert_true(rules_describe(r, 0, small, sizeof(small)));
    assert_string_equal(small, "rules.conf:");
    rules_free(r);
}

/* An event none of whose rules match is not looked at again in that state: it must not show. */
static void rules_of_another_state_count_and_wake(void **state)
{
    static const char more[] = INJECT "event = \"l2_load\"\nstate = \"1\"\n";
    struct rules *r = rules_of(INJECT "event = \"l2_load\"\nstate = \"2\"\n" SET_STATE
                                      "event = \"write_aio\"\nnew_state = \"2\"\n");
    struct rules_sleeper s = {0}, *woken;
    char line[256];
    (void)state;

    for (int i = 0; i < 5; i++)
        rules_event(r, EV_L2_LOAD, NULL);
    assert_true(rules_describe(r, 0, line, sizeof(line)));
    assert_non_null(strstr(line, ": seen 5, armed 0"));
    /* What is added meanwhile is met, and has not seen what was before. */
    assert_int_equal(rules_break(r, EV_L2_LOAD, "A"), 0);
    rules_event(r, EV_L2_LOAD, &s);
    assert_int_equal(s.left, 1);
    assert_int_equal(rules_resume(r, "A", &woken), 0);
    rules_event(r, EV_L2_LOAD, NULL);
    assert_true(rules_load(r, "more", more, strlen(more), NULL));
    rules_event(r, EV_L2_LOAD, NULL);
    assert_true(rules_describe(r, 2, line, sizeof(line)));
    assert_non_null(strstr(line, ": seen 1, armed 1"));
    /* Another state wakes the first. */
    rules_event(r, EV_WRITE_AIO, NULL);
    rules_event(r, EV_L2_LOAD, NULL);
    assert_true(rules_describe(r, 0, line, sizeof(line)));
    assert_non_null(strstr(line, ": seen 9, armed 1"));
    rules_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_fires_before_its_event),
        cmocka_unit_test(armed_rules_latch_and_hit_everything_but_block_status),
        cmocka_unit_test(iotype_selects_one_kind),
        cmocka_unit_test(an_event_that_arms_replaces_what_was_armed),
        cmocka_unit_test(the_first_in_the_file_wins),
        cmocka_unit_test(of_several_set_states_the_first_in_the_file_wins),
        cmocka_unit_test(the_new_state_holds_from_the_next_event_on),
        cmocka_unit_test(new_state_omitted_leaves_only_stateless_rules),
        cmocka_unit_test(errno_zero_shields_and_is_never_used_up),
        cmocka_unit_test(once_fires_once_even_when_its_event_comes_again),
        cmocka_unit_test(once_in_the_middle_leaves_its_neighbours_armed),
        cmocka_unit_test(sector_must_lie_in_the_request),
        cmocka_unit_test(immediately_is_handed_on),
        cmocka_unit_test(rules_of_another_state_count_and_wake),
        cmocka_unit_test(counters_tell_what_happened),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
