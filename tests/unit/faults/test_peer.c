/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The same rule files and the same requests, once through qemu-io's blkdebug and once through our
 * engine: every request must have the same outcome. The disk is raw, so the events are those that
 * QEMU's raw format and block layer announce, which play() repeats. Skipped without qemu-io.
 */
#include "tests/unit/faults/rules_test.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bytes.h"

#define MAX_COMMANDS 16

static char dir[] = "/tmp/faults-peer-XXXXXX";

struct scenario {
    const char *rules;
    const char *commands[MAX_COMMANDS]; /* qemu-io's, NULL ends */
};

static const struct scenario scenarios[] = {
    {"", {"read 0 512", "write 0 512", "flush"}},
    /* latched, everything but block status */
    {INJECT "event = \"read_aio\"\n",
     {"write 0 512", "read 0 512", "alloc 0 4096", "write 0 512", "write -z 0 4096",
      "discard 0 4096", "flush"}},
    /* armed from the opening on */
    {INJECT "event = \"none\"\niotype = \"write\"\nerrno = \"28\"\n",
     {"read 0 512", "write 0 512", "write -z 0 4096", "discard 0 4096", "flush", "write 0 512"}},
    {INJECT "event = \"none\"\niotype = \"block-status\"\n", {"alloc 0 4096", "read 0 512"}},
    {INJECT "event = \"none\"\niotype = \"discard\"\n", {"write 0 512", "discard 0 4096"}},
    {INJECT "event = \"none\"\niotype = \"write-zeroes\"\nonce = \"on\"\n",
     {"write 0 4096", "write -z 0 4096", "write -z 0 4096"}},
    /* flush: by its events, by type, only after a write */
    {INJECT "event = \"flush_to_disk\"\niotype = \"flush\"\n", {"flush", "write 0 512", "flush"}},
    {INJECT "event = \"flush_to_disk\"\niotype = \"write\"\nerrno = \"28\"\n",
     {"flush", "write 0 512", "flush", "write 0 512"}},
    {INJECT "event = \"flush_to_os\"\niotype = \"write\"\nerrno = \"28\"\n",
     {"flush", "write 0 512", "read 0 512"}},
    {INJECT "event = \"none\"\nsector = \"0\"\n",
     {"write 512 512", "flush", "read 0 512", "read 512 512"}},
    /* pwritev comes before the check, pwritev_done after */
    {INJECT "event = \"pwritev\"\niotype = \"write\"\n", {"read 0 512", "write 0 512"}},
    {INJECT "event = \"pwritev_done\"\n", {"write 0 512", "write 0 512", "read 0 512"}},
    {INJECT "event = \"pwritev_zero\"\nerrno = \"28\"\n",
     {"write 0 512", "write -z 0 4096", "read 0 512"}},
    /* states: the second write and all after it */
    {SET_STATE "event = \"write_aio\"\nstate = \"1\"\nnew_state = \"2\"\n" INJECT
               "event = \"write_aio\"\nstate = \"2\"\nerrno = \"28\"\n",
     {"write 0 512", "write 0 512", "read 0 512", "write 0 512"}},
    /* no cascade; the set-state that stands first wins */
    {SET_STATE "event = \"read_aio\"\nstate = \"1\"\nnew_state = \"2\"\n" SET_STATE
               "event = \"read_aio\"\nnew_state = \"3\"\n" INJECT
               "event = \"read_aio\"\nstate = \"2\"\nerrno = \"28\"\nonce = \"on\"\n" INJECT
               "event = \"write_aio\"\nstate = \"3\"\nerrno = \"22\"\nonce = \"on\"\n",
     {"read 0 512", "write 0 512", "read 0 512", "write 0 512", "read 0 512"}},
    /* new_state omitted is state 0 */
    {SET_STATE "event = \"read_aio\"\n" INJECT "event = \"write_aio\"\nstate = \"1\"\n" INJECT
               "event = \"write_aio\"\nerrno = \"22\"\nonce = \"on\"\n",
     {"read 0 512", "write 0 512", "write 0 512"}},
    /* order in the file, replaced lists, shields */
    {INJECT "event = \"read_aio\"\nerrno = \"28\"\nsector = \"2\"\n" INJECT
            "event = \"read_aio\"\nerrno = \"0\"\nsector = \"3\"\nonce = \"on\"\n" INJECT
            "event = \"read_aio\"\nerrno = \"22\"\n" INJECT
            "event = \"write_aio\"\nsector = \"5\"\n",
     {"read 512 2048", "read 0 512", "read 1536 512", "write 1536 512", "write 2560 512",
      "read 0 512"}},
    {INJECT "event = \"read_aio\"\nonce = \"on\"\nerrno = \"28\"\n" INJECT
            "event = \"read_aio\"\nonce = \"on\"\nerrno = \"22\"\n",
     {"read 0 512", "read 0 512", "read 0 512"}},
    {INJECT "event = \"read_aio\"\nonce = \"on\"\nimmediately = \"on\"\n" INJECT
            "event = \"write_aio\"\niotype = \"read\"\nerrno = \"28\"\n",
     {"write 0 512", "read 0 512", "read 0 512", "write 0 512", "read 0 512"}},
    {INJECT "event = \"read_aio\"\nstate = \"-1\"\n" SET_STATE
            "event = \"write_aio\"\nnew_state = \"0xffffffff\"\n",
     {"read 0 512", "write 0 512", "read 0 512"}},
};

/* Rule files that both must refuse, and one may think otherwise. */
static const char *const refused[] = {
    INJECT,
    INJECT "event = \"nope\"\n",
    INJECT "event = \"none\"\nerrno = 5\n",
    INJECT "event = \"none\"\nerrno=\"5\"\n",
    INJECT "event = \"none\"\nerrno = \"5 \"\n",
    INJECT "event = \"none\"\nonce = \"1\"\n",
    INJECT "event = \"none\"\nnew_state = \"1\"\n",
    INJECT "event = \"none\"\n \n",
    INJECT "event = \"none\"\n # c\n",
    "event = \"none\"\n",
    "[]\n",
    "[cach]\n",
    " [inject-error]\nevent = \"none\"\n",
    "[inject-error ]\nevent = \"none\"\n",
    "[inject-error \"1\"]\nevent = \"none\"\n",
    "[inject-error \"a\"]\nevent = \"none\"\n[inject-error \"a\"]\nevent = \"none\"\n",
};

/* --- Ours --- */

struct player {
    struct rules *rules;
    bool written;
};

static int check(struct player *p, enum fault_io io, uint64_t off, uint64_t len)
{
    return rules_check(p->rules, io, off, len).error;
}

static int check_write(struct player *p, enum blk_event ev, enum fault_io io, uint64_t off,
                       uint64_t len)
{
    int error;

    rules_event(p->rules, ev, NULL);
    error = check(p, io, off, len);
    p->written = true;
    rules_event(p->rules, EV_PWRITEV_DONE, NULL);
    return error;
}

static int play_flush(struct player *p)
{
    int error;

    rules_event(p->rules, EV_FLUSH_TO_OS, NULL);
    if (!p->written)
        return 0;
    rules_event(p->rules, EV_FLUSH_TO_DISK, NULL);
    error = check(p, FAULT_FLUSH, 0, 0);
    if (error == 0)
        p->written = false;
    return error;
}

static int play(struct player *p, const char *command)
{
    unsigned off, len;

    if (strcmp(command, "flush") == 0)
        return play_flush(p);
    if (sscanf(command, "read %u %u", &off, &len) == 2) {
        rules_event(p->rules, EV_READ_AIO, NULL);
        return check(p, FAULT_READ, off, len);
    }
    if (sscanf(command, "write -z %u %u", &off, &len) == 2)
        return check_write(p, EV_PWRITEV_ZERO, FAULT_WRITE_ZEROES, off, len);
    if (sscanf(command, "write %u %u", &off, &len) == 2) {
        rules_event(p->rules, EV_WRITE_AIO, NULL);
        return check_write(p, EV_PWRITEV, FAULT_WRITE, off, len);
    }
    if (sscanf(command, "discard %u %u", &off, &len) == 2) {
        p->written = true;
        return check(p, FAULT_DISCARD, off, len);
    }
    assert_int_equal(sscanf(command, "alloc %u %u", &off, &len), 2);
    return check(p, FAULT_BLOCK_STATUS, off, len);
}

/* --- Theirs --- */

/* Run the first n commands. lines: what was printed about failures, one line each. */
static int run_qemu_io(const char *rules, const char *const *commands, int n, char *lines,
                       size_t lines_len)
{
    char path[64], shell[2000];
    size_t used;
    FILE *f;

    snprintf(path, sizeof(path), "%s/rules", dir);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(rules, f);
    fclose(f);
    used = snprintf(shell, sizeof(shell), "qemu-io -f raw -t writeback -d unmap");
    for (int i = 0; i < n; i++)
        used += snprintf(shell + used, sizeof(shell) - used, " -c '%s'", commands[i]);
    snprintf(shell + used, sizeof(shell) - used, " blkdebug:%s:%s/disk 2>&1", path, dir);
    f = popen(shell, "r");
    assert_non_null(f);
    *lines = 0;
    for (char line[300]; fgets(line, sizeof(line), f);)
        if (strstr(line, "failed: ") || strstr(line, "can't open"))
            strncat(lines, line, lines_len - strlen(lines) - 1);
    return pclose(f);
}

static void outcome_line(char *out, size_t len, const char *command, int error)
{
    const char *word = strncmp(command, "alloc", 5) == 0 ? "is_allocated" : command;
    int n = strcspn(word, " ");

    /* A flush that fails prints nothing: only the exit status tells. */
    if (strcmp(command, "flush") != 0)
        snprintf(out, len, "%.*s failed: %s\n", n, word, strerror(error));
}

static void requests_end_as_under_blkdebug(void **state)
{
    (void)state;
    for (size_t s = 0; s < ARRAY_LEN(scenarios); s++) {
        const struct scenario *sc = &scenarios[s];
        struct player p = {.rules = rules_of(sc->rules)};
        char want[2000], ours[2000] = "";
        bool failed = false;

        rules_event(p.rules, EV_NONE, NULL);
        for (int n = 0; sc->commands[n]; n++) {
            int error = play(&p, sc->commands[n]);
            int status = run_qemu_io(sc->rules, sc->commands, n + 1, want, sizeof(want));

            if (error > 0)
                outcome_line(ours + strlen(ours), sizeof(ours) - strlen(ours), sc->commands[n],
                             error);
            failed = failed || error > 0;
            if (strcmp(want, ours) != 0 || failed != (status != 0))
                fail_msg("scenario %zu up to '%s': qemu-io (status %d) says\n%swe say (%d)\n%s", s,
                         sc->commands[n], status, want, failed, ours);
        }
        rules_free(p.rules);
    }
}

static void files_are_refused_as_by_blkdebug(void **state)
{
    char lines[2000];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct rules *r = rules_new(&test_names);

        assert_int_not_equal(run_qemu_io(refused[i], NULL, 0, lines, sizeof(lines)), 0);
        assert_non_null(strstr(lines, "can't open"));
        assert_false(rules_load(r, "f", refused[i], strlen(refused[i]), NULL));
        rules_free(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_end_as_under_blkdebug),
        cmocka_unit_test(files_are_refused_as_by_blkdebug),
    };
    char path[64];
    FILE *f;
    int ret;

    if (system("command -v qemu-io > /dev/null") != 0) {
        fprintf(stderr, "SKIP: qemu-io is not installed\n");
        return 77;
    }
    if (!mkdtemp(dir))
        return 1;
    snprintf(path, sizeof(path), "%s/disk", dir);
    f = fopen(path, "w");
    if (!f || ftruncate(fileno(f), 1 << 20) != 0 || fclose(f) != 0)
        return 1;
    ret = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    snprintf(path, sizeof(path), "%s/rules", dir);
    unlink(path);
    rmdir(dir);
    return ret;
}
