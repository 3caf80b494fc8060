/* SPDX-License-Identifier: BSD-3-Clause
 *
 * [engine] and [fault] sections: what is read, what is refused and with which words, what is warned
 * of, and how rules are told in words. blkdebug's sections beside them stay as strict as they are.
 */
#include "tests/unit/faults/fault_test.h"

#define F "[fault]\n"
#define ERROR "action=error\n"

static void good(const char *text, const char *description)
{
    struct rules *r = rules_of(text);
    char line[400], want[400];

    assert_int_equal(rules_count(r), 1);
    assert_true(rules_describe(r, 0, line, sizeof(line)));
    snprintf(want, sizeof(want), "%s: seen 0, matched 0, fired 0", description);
    assert_string_equal(line, want);
    rules_free(r);
}

static void values_are_written_as_people_write(void **state)
{
    (void)state;
    good(F "op=read\n" ERROR, "rules.conf:1 fault layer=host op=read action=error errno=EIO");
    good("[fault \"a-1\"]\r\n\r\n  # more\r\n\t op = \"read, flush\"  # both\r\naction = error\r\n"
         "errno= 28",
         "rules.conf:1 fault \"a-1\" layer=host op=read,flush action=error "
         "errno=ENOSPC");
    good(F "range = 1M + 4k\nminlen=0x200\nprob=0.25\naction=delay\nms= 5 .. 10\nid=b\n",
         "rules.conf:1 fault \"b\" layer=host op=read,write,zero,trim,flush range=1M+4k "
         "minlen=512 prob=25% action=delay ms=5..10");
    good(F "kind=l2\naction=misdirect\ndelta=-64k\nlimit=2\n",
         "rules.conf:1 fault layer=host op=write kind=l2 limit=2 action=misdirect delta=-64k");
    good(F "kind=l1\naction=corrupt\n",
         "rules.conf:1 fault layer=host op=write kind=l1 action=corrupt bits=1");
    good(F "layer=guest\nfua=on\naction=lost\nnth=2\nevery=3\nonce=yes\n",
         "rules.conf:1 fault layer=guest op=write fua=on nth=2 every=3 limit=1 action=lost");
    good(F "action=misdirect\nto=1M\nswap=on\n",
         "rules.conf:1 fault layer=host op=write action=misdirect to=1M swap=on");
    good(F "op=read\naction=hang\ntimeout=2s\n",
         "rules.conf:1 fault layer=host op=read action=hang timeout=2000ms errno=EIO");
    good(F "op=read\naction=delay\nms=5\nlanes=2\n",
         "rules.conf:1 fault layer=host op=read action=delay ms=5 lanes=2");
    good(F "action=torn\nmask=0x15\n",
         "rules.conf:1 fault layer=host op=write action=torn unit=512 mask=0x15");
    good(F "action=torn\nkeep=prefix:random\nunit=4k\n",
         "rules.conf:1 fault layer=host op=write action=torn unit=4096 keep=prefix:random");
    good(F "action=nospace\nafter=1G\nstate=2\n",
         "rules.conf:1 fault layer=host op=write,zero state=2 action=nospace after=1G");
    good(F "op=status\naction=state\nnew_state=3\n",
         "rules.conf:1 fault layer=host op=status action=state new_state=3");
    good(F "action=short\nbytes=512\nerrno=4095\n",
         "rules.conf:1 fault layer=host op=read,write action=short bytes=512 errno=4095");
}

static void blkdebugs_sections_stay_strict_beside_them(void **state)
{
    static const char text[] = F "op=read\n" ERROR INJECT "event=read_aio\n";
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;
    (void)state;

    assert_false(rules_load(r, "f.conf", text, strlen(text), &e));
    assert_string_equal(err_msg(e), "f.conf:5:1: put a space before '=' in \"event=read_aio\"");
    assert_int_equal(rules_count(r), 0);
    err_free(e);
    rules_free(r);
}

static void refuse(const char *text, const char *message)
{
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;

    if (rules_load(r, "f.conf", text, strlen(text), &e))
        fail_msg("accepted:\n%s", text);
    assert_int_equal(err_code(e), EINVAL);
    if (strcmp(err_msg(e), message) != 0)
        fail_msg("message is \"%s\"", err_msg(e));
    assert_int_equal(rules_count(r), 0);
    err_free(e);
    rules_free(r);
}

static void bad_lines_name_line_and_hint(void **state)
{
    (void)state;
    refuse(F "op=raed\n" ERROR, "f.conf:2:4: unknown op \"raed\": did you mean read?");
    refuse(F "  op = read, wirte # both\n" ERROR,
           "f.conf:2:8: unknown op \"wirte\": did you mean write?");
    refuse(F "acton=error\n", "f.conf:2:1: unknown key 'acton': did you mean action?");
    refuse("[falt]\n", "f.conf:1:2: unknown section [falt]: did you mean [fault]?");
    refuse(F "op=\n" ERROR, "f.conf:2:1: 'op' has no value");
    refuse(F "\nop\n" ERROR, "f.conf:3:1: \"op\" is no setting: write KEY=VALUE");
    refuse(F "op=read\nop=read\n" ERROR, "f.conf:3:1: 'op' is given twice");
    refuse(F "opp=read\n" ERROR, "f.conf:2:1: unknown key 'opp': did you mean op?");
    refuse(F "colour=red\n" ERROR,
           "f.conf:2:1: unknown key 'colour': `breakwater faults actions` lists them");
    refuse(F "event=read_oio\n" ERROR,
           "f.conf:2:7: unknown event \"read_oio\": did you mean read_aio?");
    refuse(F "errno=\"5\n" ERROR, "f.conf:2:7: the value lacks its closing quote");
    refuse(F "errno=\"5\" 6\n" ERROR,
           "f.conf:2:11: nothing but a comment may follow the value, not \"6\"");
    refuse("[engine]\nsede=1\n", "f.conf:2:1: unknown key 'sede' in [engine]: did you mean seed?");
    refuse("[engine]\nseed=1\n[engine]\nseed=1\n", "f.conf:4:6: the seed is given twice");
    refuse("[engine]\nstrict=maybe\n", "f.conf:2:8: 'strict' must be on or off, not \"maybe\"");
    refuse("[engine]\nlayer=hots\n", "f.conf:2:7: unknown layer \"hots\": did you mean host?");
    refuse("[fault]\nop=read\naction=error\n[engine]\nlayer=guest\n",
           "f.conf:5:7: 'layer' in [engine] must stand before the first fault");
    refuse("[engine]\nseed=x\n", "f.conf:2:6: 'seed' must be a number from 0 on, not \"x\"");
    refuse("[fault \"1\"]\n" ERROR, "f.conf:1:9: \"1\" is no id: use letters, digits, '-', '.' and "
                                    "'_', a letter first");
    refuse("[fault \"a\"]\n" ERROR "[fault \"a\"]\n" ERROR,
           "f.conf:3:9: another fault has the id \"a\" already");
}

static void bad_values_name_line_and_hint(void **state)
{
    (void)state;
    refuse(F "action=eror\n", "f.conf:2:8: unknown action \"eror\": did you mean error?");
    refuse(F "layer=wire\n" ERROR, "f.conf:2:7: action=error cannot be done at the wire layer");
    refuse(F "layer=wird\n" ERROR, "f.conf:2:7: unknown layer \"wird\": did you mean wire?");
    refuse(F "action=disconnect\n",
           "f.conf:1:1: action=disconnect cannot be done at the host layer: add layer=wire");
    refuse(F "layer=guest\nevent=l2_load\n" ERROR,
           "f.conf:3:7: 'event' is known under the format only: leave out layer=guest");
    refuse(F "window=5\n" ERROR,
           "f.conf:2:8: 'window' must be TIME..TIME, such as 10s..2m, not \"5\"");
    refuse(F "window=5..1\n" ERROR, "f.conf:2:8: 'window' must end after it begins");
    refuse(F "window=5..x\n" ERROR,
           "f.conf:2:8: 'window' must be a time, such as 500ms, 10s or 2m, not \"x\"");
    refuse(F "action=delay\nms=1..9\nshape=ramp\n",
           "f.conf:4:7: a ramp lacks its window: add window=10s..60s");
    refuse(F "action=delay\nms=1..9\nshape=fixed\n",
           "f.conf:4:7: a fixed delay is one number, not a range");
    refuse(F "action=delay\nms=9\nshape=lognormal\n",
           "f.conf:4:7: a lognormal delay needs ms=N..M: median and what 99 of 100 stay below");
    refuse(F "action=corrupt\nbyte=256\n", "f.conf:3:6: 'byte' must be a number from 0 to 255");
    refuse(F "op=write\naction=corrupt\nstale=on\n",
           "f.conf:2:4: 'stale' and 'stuck' are about reads");
    refuse(F "action=badsector\n",
           "f.conf:2:8: action=badsector lacks its range: add range=OFF+LEN "
           "(the request touches these bytes)");
    refuse(F "op=read\ndrop=unflushed\n" ERROR,
           "f.conf:3:6: 'drop' is about flushes: add op=flush");
    refuse("[cache]\nsize=1k\n", "f.conf:2:6: 'size' must be from 1M to 4G");
    refuse("[cache]\natomic=1k\n", "f.conf:2:8: 'atomic' must be 512 or 4096");
    refuse("[cache]\n[cache]\n", "f.conf:2:1: there is one [cache]");
    refuse("[cache \"x\"]\n", "f.conf:1:9: [cache] has no name");
    refuse("[suspend \"x\"]\n", "f.conf:1:1: [suspend] lacks its event: add a line event = ...");
    refuse("[suspend]\nevent=l2_load\n", "f.conf:1:1: a breakpoint lacks its tag: write [suspend "
                                         "\"tag\"], as it is resumed by that");
    refuse(F "range=5\n" ERROR,
           "f.conf:2:7: 'range' must be OFFSET+LENGTH, such as 1M+4k, not \"5\"");
    refuse(F "range=1+0\n" ERROR, "f.conf:2:7: 'range' must be at least one byte and end below 8E");
    refuse(F "range=7E+1E\n" ERROR,
           "f.conf:2:7: 'range' must be at least one byte and end below 8E");
    refuse(F "minlen=-1\n" ERROR,
           "f.conf:2:8: 'minlen' must be a size in bytes, such as 512, 4k or 1M, not \"-1\"");
    refuse(F "nth=0\n" ERROR, "f.conf:2:5: 'nth' must be a number from 1 on, not \"0\"");
    refuse(F "prob=101%\n" ERROR,
           "f.conf:2:6: 'prob' must be a probability above 0, such as 25% or "
           "0.25, not \"101%\"");
    refuse(F "errno=EIOO\n" ERROR, "f.conf:2:7: unknown errno \"EIOO\": did you mean EIO?");
    refuse(F "errno=4096\n" ERROR,
           "f.conf:2:7: 'errno' must be a number from 1 to 4095, not \"4096\"");
    refuse(F "action=delay\nms=10..5\n",
           "f.conf:3:4: 'ms' must be a number from 10 to 3600000, not \"5\"");
}

static void bad_values_of_damage_name_line_and_hint(void **state)
{
    (void)state;
    refuse(F "action=torn\nunit=1k\n", "f.conf:3:6: 'unit' must be 512 or 4096, not \"1k\"");
    refuse(F "action=torn\nmask=0\n", "f.conf:3:6: 'mask' must be a number from 1 on, not \"0\"");
    refuse(F "action=torn\nmask=1\nkeep=suffix\n",
           "f.conf:3:6: 'keep' and 'mask' exclude each other");
    refuse(F "action=torn\nkeep=mask\n", "f.conf:3:6: unknown keep \"mask\": there are prefix, "
                                         "suffix, random, prefix:random, suffix:random");
    refuse(F "action=lost\nmask=1\n",
           "f.conf:3:6: 'mask' does not go with action=lost; it goes with torn");
    refuse(F "action=torn\nmaks=1\n", "f.conf:3:1: unknown key 'maks': did you mean mask?");
    refuse(F "action=misdirect\ndelta=0\n",
           "f.conf:3:7: 'delta' must not be 0: that is the right place");
    refuse(F "action=misdirect\nto=-1\n",
           "f.conf:3:4: 'to' must be a size in bytes, such as 512, 4k or 1M, not \"-1\"");
    refuse(F "action=misdirect\n",
           "f.conf:1:1: a misdirected write needs either delta=SIZE or to=OFFSET");
    refuse(F "action=misdirect\nto=1M\ndelta=4k\n",
           "f.conf:3:4: a misdirected write needs either delta=SIZE or to=OFFSET");
    refuse(F "action=lost\nto=1M\n",
           "f.conf:3:4: 'to' does not go with action=lost; it goes with misdirect");
    refuse(F "action=misdirect\nto=1M\nswpa=on\n",
           "f.conf:4:1: unknown key 'swpa': did you mean swap?");
    refuse(F "action=hang\ntimeout=0\n", "f.conf:3:9: 'timeout' must not be 0");
    refuse(F "action=hang\ntimeout=10x\n",
           "f.conf:3:9: 'timeout' must be a time, such as 500ms, 10s or 2m, not \"10x\"");
    refuse(F "action=hang\nerrno=EIO\n",
           "f.conf:3:7: a hang ends with an error after its timeout only: add timeout=10s");
    refuse(F "action=hang\ntimeuot=1s\n",
           "f.conf:3:1: unknown key 'timeuot': did you mean timeout?");
    refuse(F "action=delay\nms=1\nlanes=65\n",
           "f.conf:4:7: 'lanes' must be a number from 1 to 64, not \"65\"");
    refuse(F "action=lost\nlanes=1\n",
           "f.conf:3:7: 'lanes' does not go with action=lost; it goes with delay");
    refuse(F "action=delay\nms=1\nlane=1\n", "f.conf:4:1: unknown key 'lane': did you mean lanes?");
    refuse(F "action=corrupt\nbits=65\n",
           "f.conf:3:6: 'bits' must be a number from 1 to 64, not \"65\"");
    refuse(F "once=maybe\n" ERROR, "f.conf:2:6: 'once' must be on or off, not \"maybe\"");
}

static void bad_sections_name_line_and_hint(void **state)
{
    (void)state;
    refuse("\n" F "op=read\n",
           "f.conf:2:1: a fault lacks its action: add action=error or another of "
           "those that `breakwater faults actions` lists");
    refuse(F "action=delay\n",
           "f.conf:2:8: action=delay lacks its ms: add ms=N|N..M (milliseconds, "
           "fixed or drawn from a range)");
    refuse(F ERROR "ms=3\n", "f.conf:3:4: 'ms' does not go with action=error; it goes with delay");
    refuse(F "action=lost\nerrno=5\n",
           "f.conf:3:7: 'errno' does not go with action=lost; it goes with "
           "error or hang or short or reply or script");
    refuse(F "op=read\naction=torn\n", "f.conf:2:4: action=torn can be done to write,zero only");
    refuse(F "op=flush\naction=corrupt\n",
           "f.conf:2:4: action=corrupt can be done to read,write only");
    refuse(F "kind=l2\nlayer=guest\naction=lost\n",
           "f.conf:2:6: 'kind' is known under the format only: leave out layer=guest");
    refuse(F "kind=l2\nop=read\n" ERROR,
           "f.conf:3:4: 'kind' is about writes: op must be write, zero or both");
    refuse(F "fua=on\naction=lost\n", "f.conf:2:5: 'fua' is what clients ask for: add layer=guest "
                                      "(the host file is flushed)");
    refuse(F "action=corrupt\nbits=3\nzero=on\n",
           "f.conf:2:8: 'bits', 'byte', 'zero', 'stale' and 'stuck' exclude each other");
}

static void an_option_is_refused_by_number(void **state)
{
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;
    (void)state;

    assert_false(rules_load_option(r, "op=raed action=error", 3, &e));
    assert_string_equal(err_msg(e), "--fault 3: unknown op \"raed\": did you mean read?");
    err_free(e);
    e = NULL;
    assert_false(rules_load_option(r, "  ", 1, &e));
    assert_non_null(strstr(err_msg(e), "--fault 1: a fault lacks its action"));
    err_free(e);
    assert_true(rules_load_option(r, "  id=a   action=error ", 1, NULL));
    assert_false(rules_load_option(r, "id=a action=error", 2, NULL));
    assert_int_equal(rules_count(r), 1);
    rules_free(r);
}

static void the_engine_says_the_layer_of_faults_that_do_not(void **state)
{
    static const char text[] = "[engine]\nlayer=guest\n[fault]\nop=read\naction=error\n"
                               "[fault]\nlayer=host\nop=write\naction=error\n";
    struct rules *r = rules_new(&test_names);

    assert_true(rules_load(r, "f.conf", text, strlen(text), NULL));
    assert_true(rules_watches(r, FAULT_GUEST, FAULT_READ));
    assert_false(rules_watches(r, FAULT_HOST, FAULT_READ));
    assert_true(rules_watches(r, FAULT_HOST, FAULT_WRITE));
    assert_true(rules_load_option(r, "op=trim action=error", 1, NULL)); /* no part of the file */
    assert_true(rules_watches(r, FAULT_HOST, FAULT_DISCARD));
    rules_free(r);
}

static void too_many_faults_are_refused(void **state)
{
    struct rules *r = rules_new(&test_names);
    struct err *e = NULL;
    size_t one = strlen(F ERROR);
    char *text = calloc(4098, one + 1);
    (void)state;

    for (unsigned i = 0; i < 4097; i++)
        memcpy(text + i * one, F ERROR, one);
    assert_false(rules_load(r, "f.conf", text, 4097 * one, &e));
    assert_string_equal(err_msg(e), "f.conf:8193:1: more than 4096 faults");
    assert_true(rules_load(r, "f.conf", text, 4096 * one, NULL));
    err_free(e);
    rules_free(r);
    free(text);
}

static void every_failing_allocation_is_reported(void **state)
{
    static const char text[] = "[fault \"a\"]\naction=error\n" F "action=lost\n";
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
        assert_true(nth > 4 || !done);
        err_free(e);
        rules_free(r);
    }
}

static char said[2000];

static void say(void *arg, const char *text)
{
    strcat(said, text);
    strcat(said, "\n");
}

static void expect_warnings(const char *text, const char *warnings)
{
    struct rules *r = rules_of(text);

    said[0] = 0;
    rules_warn(r, say, NULL);
    assert_string_equal(said, warnings);
    rules_free(r);
}

static void what_cannot_fire_or_latches_is_warned_of(void **state)
{
    (void)state;
    expect_warnings(INJECT "event = \"read_aio\"\n",
                    "rules.conf:1: it latches: after \"read_aio\" every request fails, of whatever "
                    "type; say iotype, sector or once if that is not meant\n");
    expect_warnings(INJECT "event = \"read_aio\"\nonce = \"on\"\n" INJECT
                           "event = \"none\"\n" INJECT
                           "event = \"read_aio\"\niotype = \"read\"\n" INJECT
                           "event = \"read_aio\"\nerrno = \"0\"\n",
                    "");
    expect_warnings(INJECT "event = \"refblock_update\"\niotype = \"read\"\nstate = \"4\"\n",
                    "rules.conf:1: it can never fire: no rule sets state 4\n"
                    "rules.conf:1: it can never fire: nothing announces \"refblock_update\"\n");
    expect_warnings(INJECT "event = \"none\"\niotype = \"flush\"\nsector = \"0\"\n",
                    "rules.conf:1: it can never fire: a flush touches no sector\n");
    expect_warnings(F "state=2\n" ERROR, "rules.conf:1: it can never fire: no rule sets state 2\n");
    expect_warnings(F "state=2\n" ERROR F "action=state\nnew_state=2\n", "");
    expect_warnings(F "op=flush\nminlen=1\n" ERROR,
                    "rules.conf:1: it can never fire: a flush has neither range nor length\n");
    expect_warnings(F "op=read,write\n" ERROR F "op=flush\n" ERROR F "op=read,flush\n" ERROR,
                    "rules.conf:7: it can never fire: rules.conf:4 takes all such requests "
                    "before\n");
    expect_warnings(F "op=read\nnth=1\n" ERROR F "op=read\n" ERROR, "");
    expect_warnings(F "op=read\naction=log\n" F "layer=guest\nop=read\n" ERROR F "op=read\n" ERROR,
                    "");
}

static void explain(const char *text, const char *words)
{
    struct rules *r = rules_of(text);
    char line[512];

    assert_true(rules_explain(r, 0, line, sizeof(line)));
    assert_string_equal(line, words);
    assert_false(rules_explain(r, 1, line, sizeof(line)));
    rules_free(r);
}

static void rules_are_told_in_words(void **state)
{
    (void)state;
    explain(INJECT "event = \"l2_load\"\nstate = \"2\"\niotype = \"read\"\nsector = \"2\"\n"
                   "errno = \"28\"\nonce = \"on\"\nimmediately = \"on\"\n",
            "rules.conf:1: when \"l2_load\" comes in state 2, what is armed is replaced: from then "
            "on the next read of the host file that touches byte 1024 fails with ENOSPC; the error "
            "comes without a turn of the event loop");
    explain(SET_STATE "event = \"none\"\nnew_state = \"3\"\n",
            "rules.conf:1: when \"none\" comes, the state becomes 3");
    explain(F "op=flush\nlayer=guest\nnth=3\n" ERROR,
            "rules.conf:1: the 3rd flush of the guest disk fails with EIO");
    explain(F "op=write,zero,trim\nnth=12\nevery=2\nrange=1M+4k\nonce=on\naction=log\n",
            "rules.conf:1: the 12th and from there every 2nd write, zero or trim of the host file "
            "that touches 1M+4k, at most 1 time, writes a line to the log, and goes on");
    explain(F "action=misdirect\nto=1M\nswap=on\n",
            "rules.conf:1: every write of the host file goes to 1M, what was there comes to its "
            "place, and succeeds");
    explain(F "action=misdirect\ndelta=-4k\n",
            "rules.conf:1: every write of the host file goes 4k too low, and succeeds");
    explain(F "op=read\naction=hang\ntimeout=2s\nerrno=ENOSPC\n",
            "rules.conf:1: every read of the host file gets no answer for 2000 ms, and then fails "
            "with ENOSPC");
    explain(F "op=read\naction=hang\n",
            "rules.conf:1: every read of the host file gets no answer until the server stops, then "
            "ESHUTDOWN");
    explain(F "op=read\naction=delay\nms=5\nlanes=1\n",
            "rules.conf:1: every read of the host file waits for 5 ms first, behind others if 1 "
            "waits already");
    explain(F "action=torn\nmask=0x15\nunit=4k\n", "rules.conf:1: every write of the host file is "
                                                   "torn: of its units of 4096 bytes only number "
                                                   "1, 3, 5 are written, and it succeeds");
    explain(F "action=torn\nkeep=random\nkind=l2\nprob=1%\n",
            "rules.conf:1: every write of the host file that holds l2, with a probability of 1%, "
            "is torn: of its units of 512 bytes a random choice is written, and it succeeds");
}

static void the_help_lists_all_of_it(void **state)
{
    struct fault_help h;
    unsigned n = 0;
    (void)state;

    for (; fault_action_help(n, &h); n++)
        assert_true(h.name[0] && h.text[0] && h.goes_with[0]);
    assert_int_equal(n, 16);
    for (n = 0; fault_key_help(n, &h); n++)
        assert_true(h.name[0] && h.value[0] && h.text[0]);
    assert_int_equal(n, 48);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_written_as_people_write),
        cmocka_unit_test(blkdebugs_sections_stay_strict_beside_them),
        cmocka_unit_test(bad_lines_name_line_and_hint),
        cmocka_unit_test(bad_values_name_line_and_hint),
        cmocka_unit_test(bad_values_of_damage_name_line_and_hint),
        cmocka_unit_test(bad_sections_name_line_and_hint),
        cmocka_unit_test(an_option_is_refused_by_number),
        cmocka_unit_test(the_engine_says_the_layer_of_faults_that_do_not),
        cmocka_unit_test(too_many_faults_are_refused),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(what_cannot_fire_or_latches_is_warned_of),
        cmocka_unit_test(rules_are_told_in_words),
        cmocka_unit_test(the_help_lists_all_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
