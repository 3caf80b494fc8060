/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Walking crash states: all of them where they are few, only legal ones, the same ones each time.
 */
#include <stdlib.h>

#include "base/rng.h"
#include "block/sim.h"
#include "tests/unit/block/probe.h"

#define SECTOR 512
#define MAX_TEXTS 4096

static struct sim_disk *d;
static struct node *n;

struct texts { /* the states that a walk found, in its order */
    unsigned n;
    char text[MAX_TEXTS][20];
    uint64_t at[MAX_TEXTS];
    unsigned stop_after;
};
static struct texts found, again;

static void open_disk(uint64_t sectors)
{
    d = sim_disk_new(sectors * SECTOR);
    n = sim_open(d, false, NULL);
    assert_non_null(n);
}

static void close_disk(void)
{
    node_unref(n);
    sim_disk_free(d);
}

static void put(uint64_t sector, char value, unsigned count, uint32_t flags)
{
    uint8_t b[8 * SECTOR];
    memset(b, value, sizeof(b));
    assert_int_equal(node_write(n, sector * SECTOR, b, count * SECTOR, flags), 0);
}

static void text_of(const struct sim_disk *disk, char *text)
{
    uint64_t sectors = sim_disk_size(disk) / SECTOR;
    for (uint64_t s = 0; s < sectors; s++) {
        sim_disk_peek(disk, s * SECTOR, &text[s], 1);
        if (!text[s])
            text[s] = '.';
    }
    text[sectors] = 0;
}

static bool collect(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    struct texts *t = arg;
    assert_in_range(t->n, 0, MAX_TEXTS - 1);
    text_of(state, t->text[t->n]);
    t->at[t->n] = how->at;

    /* What it was told rebuilds the state. */
    char rebuilt[20];
    struct sim_disk *same = sim_crash_disk(d, how);
    text_of(same, rebuilt);
    assert_string_equal(rebuilt, t->text[t->n]);
    sim_disk_free(same);

    /* The state is a disk to work with. */
    struct node *w = sim_open(state, false, NULL);
    assert_int_equal(node_write(w, 0, "scratch", 7, 0), 0);
    node_unref(w);
    t->n++;
    return t->n != t->stop_after;
}

static uint64_t walk(struct texts *t, struct sim_explore x)
{
    memset(t, 0, sizeof(*t));
    x.unit = SECTOR;
    uint64_t visited = sim_explore(d, &x, collect, t);
    assert_int_equal(visited, t->n);
    return visited;
}

static bool has(const struct texts *t, const char *text)
{
    for (unsigned i = 0; i < t->n; i++) {
        if (!strcmp(t->text[i], text))
            return true;
    }
    return false;
}

SIM_TEST(all_subsets_of_few_writes_are_visited_once)
{
    open_disk(4);
    put(0, 'a', 1, 0);
    put(1, 'b', 1, 0);
    put(2, 'c', 1, 0);
    assert_int_equal(walk(&found, (struct sim_explore){.seed = 1, .max_full_bits = 8}), 8);
    static const char *const all[] = {"....", "a...", ".b..", "ab..",
                                      "..c.", "a.c.", ".bc.", "abc."};
    for (unsigned i = 0; i < ARRAY_LEN(all); i++)
        assert_true(has(&found, all[i]));
    close_disk();
}

SIM_TEST(writes_to_the_same_sector_give_each_of_its_versions)
{
    open_disk(1);
    put(0, 'a', 1, 0);
    put(0, 'b', 1, 0);
    put(0, 'b', 1, 0);
    assert_int_equal(walk(&found, (struct sim_explore){.seed = 1, .max_full_bits = 8}), 3);
    close_disk();
}

SIM_TEST(each_moment_before_something_became_durable_is_visited)
{
    open_disk(4);
    put(0, 'a', 1, 0);
    assert_int_equal(node_flush(n), 0);
    uint64_t flushed = sim_seq(d);
    put(1, 'b', 1, 0);
    put(2, 'c', 1, REQ_FUA);
    uint64_t fua_done = sim_seq(d);
    put(3, 'd', 1, 0);
    walk(&found, (struct sim_explore){.seed = 7, .max_full_bits = 8});
    assert_int_equal(found.n, 2 + 4 + 4);
    for (unsigned i = 0; i < found.n; i++) {
        const char *t = found.text[i];
        if (found.at[i] >= flushed)
            assert_int_equal(t[0], 'a');
        if (found.at[i] >= fua_done)
            assert_int_equal(t[2], 'c');
        else
            assert_int_equal(t[3], '.');
    }
    assert_true(has(&found, "...."));
    assert_true(has(&found, "a.c."));
    assert_true(has(&found, "a..."));
    assert_true(has(&found, "abcd"));
    close_disk();
}

SIM_TEST(many_writes_are_covered_by_the_choices_that_find_bugs)
{
    open_disk(16);
    for (uint64_t s = 0; s < 16; s++)
        put(s, 'a', 1, 0);
    walk(&found, (struct sim_explore){.seed = 3, .max_full_bits = 8});
    /* 17 prefixes; one or two lost: 16 + 120, one of each a prefix already; one or two kept: as
     * many, the first one and the first two prefixes already. */
    assert_int_equal(found.n, 17 + (16 + 120 - 2) + (16 + 120 - 2));
    assert_true(has(&found, "................"));
    assert_true(has(&found, "aaaaaaa........."));
    assert_true(has(&found, "aaaa.aaaaaaaaaaa"));
    assert_true(has(&found, "aaaa.aaaaaa.aaaa"));
    assert_true(has(&found, "....a..........."));
    assert_true(has(&found, "....a......a...."));
    unsigned without = found.n;
    walk(&found, (struct sim_explore){.seed = 3, .max_full_bits = 8, .samples = 100});
    assert_in_range(found.n, without + 150, without + 200);
    close_disk();
}

SIM_TEST(long_writes_are_torn)
{
    open_disk(8);
    put(0, 'a', 4, 0);
    put(4, 'b', 4, 0);
    walk(&found, (struct sim_explore){.seed = 5, .max_full_bits = 8, .samples = 500});
    unsigned torn_a = 0, torn_b = 0, torn_both = 0;
    for (unsigned i = 0; i < found.n; i++) {
        const char *t = found.text[i];
        bool a = memcmp(t, "aaaa", 4) && memcmp(t, "....", 4) && t[0];
        bool b = strlen(t) == 8 && memcmp(t + 4, "bbbb", 4) && memcmp(t + 4, "....", 4);
        torn_a += a;
        torn_b += b;
        torn_both += a && b;
        assert_int_equal(strspn(t, "a.") + strspn(t + strspn(t, "a."), "b."), strlen(t));
    }
    /* 14 ways to tear each; beside the other whole, lost or torn. */
    assert_true(torn_a > 30);
    assert_true(torn_b > 30);
    assert_true(torn_both > 30);
    close_disk();
}

SIM_TEST(a_walk_is_the_same_for_the_same_seed_and_keeps_its_bounds)
{
    open_disk(16);
    for (uint64_t s = 0; s < 30; s++) {
        put(s % 15, (char)('a' + s), 2, 0);
        if (s % 8 == 7)
            assert_int_equal(node_flush(n), 0);
    }
    struct sim_explore x = {.seed = 11, .max_full_bits = 4, .samples = 20};
    walk(&found, x);
    walk(&again, x);
    assert_memory_equal(&found, &again, sizeof(found));
    uint64_t unbounded = found.n;
    assert_true(unbounded > 300);

    x.max_states = 100;
    walk(&again, x);
    assert_int_equal(again.n, 100);
    /* All moments get their share. */
    uint64_t first = UINT64_MAX, last = 0;
    for (unsigned i = 0; i < again.n; i++) {
        first = again.at[i] < first ? again.at[i] : first;
        last = again.at[i] > last ? again.at[i] : last;
    }
    assert_int_equal(first, sim_log_at(d, 8)->completed);
    assert_int_equal(last, sim_seq(d));

    x.seed = 12;
    x.max_states = 0;
    walk(&again, x);
    assert_memory_not_equal(&found, &again, sizeof(found));
    close_disk();
}

static bool stop_at_once(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    ++*(int *)arg;
    return false;
}

SIM_TEST(the_visitor_can_stop_the_walk)
{
    open_disk(4);
    put(0, 'a', 1, 0);
    assert_int_equal(node_flush(n), 0);
    int calls = 0;
    struct sim_explore x = {.seed = 1, .max_full_bits = 8};
    assert_int_equal(sim_explore(d, &x, stop_at_once, &calls), 1);
    assert_int_equal(calls, 1);
    close_disk();
}

/* The rule, in its simplest form, against random logs: a sector shows the last version that was
 * flushed, or a later one. */
#define SECTORS 6
#define WRITES 24

struct history {
    unsigned n[SECTORS];
    char version[SECTORS][WRITES + 1];
    uint64_t durable[SECTORS]
                    [WRITES + 1]; /* sequence number from which it must be there; 0: never */
};

static bool check_versions(struct sim_disk *state, const struct sim_crash *how, void *arg)
{
    const struct history *h = arg;
    for (unsigned s = 0; s < SECTORS; s++) {
        char c;
        unsigned oldest = 0;
        sim_disk_peek(state, s * SECTOR, &c, 1);
        for (unsigned v = 1; v <= h->n[s]; v++) {
            if (h->durable[s][v] && h->durable[s][v] <= how->at)
                oldest = v;
        }
        bool legal = false;
        for (unsigned v = oldest; v <= h->n[s]; v++)
            legal |= h->version[s][v] == c;
        if (!legal)
            fail_msg("sector %u at %llu: '%c'", s, (unsigned long long)how->at, c);
    }
    return true;
}

SIM_TEST(no_illegal_state_is_ever_visited)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rng r;
        static struct history h;
        rng_seed(&r, seed);
        memset(&h, 0, sizeof(h));
        open_disk(SECTORS);
        for (unsigned w = 0; w < WRITES; w++) {
            uint64_t s = rng_below(&r, SECTORS);
            bool fua = rng_below(&r, 6) == 0;
            put(s, (char)('A' + w), 1, fua ? REQ_FUA : 0);
            h.version[s][++h.n[s]] = (char)('A' + w);
            if (fua)
                h.durable[s][h.n[s]] = sim_seq(d);
            if (rng_below(&r, 5) == 0) {
                assert_int_equal(node_flush(n), 0);
                for (unsigned i = 0; i < SECTORS; i++) {
                    if (!h.durable[i][h.n[i]])
                        h.durable[i][h.n[i]] = sim_seq(d);
                }
            }
        }
        struct sim_explore x = {.seed = seed, .max_full_bits = 6, .samples = 30, .unit = SECTOR};
        assert_true(sim_explore(d, &x, check_versions, &h) > 20);
        close_disk();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_subsets_of_few_writes_are_visited_once),
        cmocka_unit_test(writes_to_the_same_sector_give_each_of_its_versions),
        cmocka_unit_test(each_moment_before_something_became_durable_is_visited),
        cmocka_unit_test(many_writes_are_covered_by_the_choices_that_find_bugs),
        cmocka_unit_test(long_writes_are_torn),
        cmocka_unit_test(a_walk_is_the_same_for_the_same_seed_and_keeps_its_bounds),
        cmocka_unit_test(the_visitor_can_stop_the_walk),
        cmocka_unit_test(no_illegal_state_is_ever_visited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
