/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backup-client/files.h"
#include "backup-client/merge.h"
#include "base/mem.h"
#include "tests/unit/backup-client/fake.h"

static struct disk_repo d;

static int setup(void **state)
{
    if (fake_setup(state))
        return -1;
    fake_open(&d);
    /* 1 full, 2 on 1, 3 on 2, 4 on 2. */
    fake_backup(&d, 0, 0, 40, 100);
    fake_backup(&d, 1, 10, 5, 200);
    fake_backup(&d, 2, 12, 10, 300);
    fake_backup(&d, 2, 0, 1, 400);
    return 0;
}

static int teardown(void **state)
{
    disk_close(&d);
    return fake_teardown(state);
}

static void expect_broken(uint64_t n, const char *says)
{
    struct chain c;
    struct err *e = NULL;
    struct backup *b = fake_find(&d, n);
    assert_non_null(b);
    bool ok = chain_resolve(&d, b, &c, &e) && chain_check_hashes(&d, &c, &e);
    if (ok)
        fail_msg("backup %llu passes", (unsigned long long)n);
    if (!strstr(err_msg(e), says))
        fail_msg("the message does not say '%s': %s", says, err_msg(e));
    chain_free(&c);
    err_free(e);
}

static void expect_whole(uint64_t n, size_t layers)
{
    struct chain c;
    struct err *e = NULL;
    if (!chain_resolve(&d, fake_find(&d, n), &c, &e) || !chain_check_hashes(&d, &c, &e))
        fail_msg("%s", err_msg(e));
    assert_int_equal(c.n, layers);
    assert_int_equal(c.v[layers - 1]->m.sequence, n);
    assert_false(c.v[0]->m.has_parent);
    chain_free(&c);
}

static void remove_file(uint64_t n, const char *ext)
{
    char file[REPO_NAME_MAX];
    struct uuid u = fake_find(&d, n)->uuid;
    assert_int_equal(unlinkat(d.dir_fd, repo_file(file, &u, ext, false), 0), 0);
    assert_true(disk_scan(&d, NULL));
}

static void a_chain_goes_down_to_its_full_backup(void **state)
{
    expect_whole(1, 1);
    expect_whole(2, 2);
    expect_whole(3, 3);
    expect_whole(4, 3);
    assert_int_equal(disk_latest(&d)->m.sequence, 4);
    assert_int_equal(disk_next_sequence(&d), 5);
}

static void a_missing_file_breaks_all_that_stand_on_it(void **state)
{
    remove_file(3, LAYER_EXT);
    expect_broken(3, "qcow2");
    expect_whole(4, 3);
    remove_file(2, HASH_EXT);
    expect_broken(2, "hash");
    expect_broken(4, "hash");
    expect_whole(1, 1);
    remove_file(2, MANIFEST_EXT);
    expect_broken(4, "is missing");
}

static void an_edited_parent_breaks_its_children(void **state)
{
    fake_edit(&d, 2, "localhost", "elsewhere");
    expect_whole(2, 2);
    expect_broken(3, "was changed");
    expect_broken(4, "was changed");
}

static void a_loop_or_a_later_parent_is_refused(void **state)
{
    char text[UUID_TEXT_LEN + 1], own[UUID_TEXT_LEN + 1];
    uuid_format(&fake_find(&d, 3)->uuid, text);
    uuid_format(&fake_find(&d, 1)->uuid, own);
    /* Give backup 2 a parent that stands on it. */
    fake_edit(&d, 2, own, text);
    expect_broken(2, "changed");
    expect_broken(3, "changed");
    fake_edit(&d, 4, "\"sequence\": 4", "\"sequence\": 1000");
    expect_broken(1000, "changed");
}

static void a_sequence_number_below_the_parents_is_refused(void **state)
{
    fake_backup(&d, 3, 0, 1, 1);
    fake_edit(&d, 5, "\"sequence\": 5", "\"sequence\": 9");
    fake_backup(&d, 9, 0, 1, 1);
    expect_whole(10, 5);
    fake_edit(&d, 10, "\"sequence\": 10", "\"sequence\": 5");
    expect_broken(5, "sequence");
}

static void two_backups_of_one_number_are_refused(void **state)
{
    struct err *e = NULL;
    char file[REPO_NAME_MAX];
    size_t len;
    repo_file(file, &fake_find(&d, 4)->uuid, MANIFEST_EXT, false);
    char *text = file_read_small(d.dir_fd, file, MANIFEST_MAX_BYTES, &len, NULL);
    char *at = strstr(text, "\"sequence\": 4");
    at[strlen("\"sequence\": ")] = '3';
    unlinkat(d.dir_fd, file, 0);
    assert_true(file_write_durable(d.dir_fd, file, text, len, NULL));
    assert_false(disk_scan(&d, &e));
    assert_non_null(strstr(err_msg(e), "sequence number 3"));
    err_free(e);
    mem_free(text);
}

static void a_layer_of_another_length_is_refused(void **state)
{
    char *path = repo_path(&d, &fake_find(&d, 2)->uuid, LAYER_EXT, false);
    assert_int_equal(truncate(path, 4), 0);
    expect_broken(2, "4 bytes long");
    mem_free(path);
}

static void a_swapped_hash_file_is_refused(void **state)
{
    char *a = repo_path(&d, &fake_find(&d, 2)->uuid, HASH_EXT, false);
    char *b = repo_path(&d, &fake_find(&d, 3)->uuid, HASH_EXT, false);
    assert_int_equal(rename(b, a), 0);
    expect_broken(2, "another backup");
    mem_free(a);
    mem_free(b);
}

static void one_bit_of_a_digest_breaks_the_layer(void **state)
{
    char *path = repo_path(&d, &fake_find(&d, 2)->uuid, HASH_EXT, false), byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 64 + 24 + 7), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 64 + 24 + 7), 1);
    close(fd);
    expect_broken(2, "layer_root");
    expect_whole(1, 1);
    mem_free(path);
}

static void damaged_manifests_are_listed_and_not_used(void **state)
{
    struct err *e = NULL;
    fake_edit(&d, 3, "{", "[");
    assert_int_equal(d.n, 4);
    assert_non_null(disk_damaged(&d));
    assert_non_null(disk_damaged(&d)->problem);
    assert_int_equal(disk_latest(&d)->m.sequence, 4);
    assert_int_equal(disk_next_sequence(&d), 6);
    assert_null(disk_find(&d, "latest", &e));
    assert_int_equal(err_code(e), EBADMSG);
    err_free(e);
    expect_whole(4, 3);
}

static void backups_are_found_by_number_uuid_and_latest(void **state)
{
    static const char *const bad[] = {
        "0", "5", "-1", "", "x", "latest ", "../x", "00000000-0000-4000-8000-000000000000"};
    char text[UUID_TEXT_LEN + 1];
    uuid_format(&fake_find(&d, 2)->uuid, text);
    assert_int_equal(disk_find(&d, text, NULL)->m.sequence, 2);
    assert_int_equal(disk_find(&d, "latest", NULL)->m.sequence, 4);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err *e = NULL;
        assert_null(disk_find(&d, bad[i], &e));
        assert_non_null(e);
        err_free(e);
    }
}

static void names_of_backups_are_split(void **state)
{
    static const char *const cases[][4] = {
        {"/r/d@latest", "/r", "d", "latest"},
        {"r/d", "r", "d", NULL},
        {"d", ".", "d", NULL},
        {"/d@3", "/", "d", "3"},
        {"r/x/d//", "r/x", "d", NULL},
        {"r@1/d@2", "r@1", "d", "2"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *repo, *disk, *which;
        assert_true(repo_split(cases[i][0], &repo, &disk, &which, NULL));
        assert_string_equal(repo, cases[i][1]);
        assert_string_equal(disk, cases[i][2]);
        if (cases[i][3])
            assert_string_equal(which, cases[i][3]);
        else
            assert_null(which);
        mem_free(repo);
        mem_free(disk);
        mem_free(which);
    }
    char *r, *k, *w;
    assert_false(repo_split("r/..", &r, &k, &w, NULL));
    assert_false(repo_split("r/@1", &r, &k, &w, NULL));
}

static void the_newest_layer_that_lists_a_block_gives_its_digest(void **state)
{
    /* Through backup 3: 12..21 are its own, 10 and 11 of 2, the rest below 40 of 1, then zeros. */
    struct chain c;
    assert_true(chain_resolve(&d, fake_find(&d, 3), &c, NULL));
    struct merge *m = merge_new(&d, &c, c.n, NULL, FAKE_SIZE, NULL);
    for (uint64_t b = 0; b < 64; b++) {
        const struct digest *got;
        uint64_t run;
        int layer;
        unsigned want = b >= 12 && b < 22 ? 300 : b >= 10 && b < 12 ? 200 : b < 40 ? 100 : 0;
        assert_true(merge_at(m, b, &got, &run, &layer, NULL));
        assert_true(run >= 1 && b + run <= 64);
        if (want) {
            struct digest content = fake_content(want);
            assert_non_null(got);
            assert_true(digest_equal(got, &content));
            assert_int_equal(layer, want / 100 - 1);
        } else {
            assert_null(got);
            assert_int_equal(layer, -1);
        }
    }
    merge_free(m);
    chain_free(&c);
}

static void equal_disks_have_equal_roots(void **state)
{
    /* A full backup of what backup 3 shows has backup 3's root, not backup 2's. */
    struct digest expected, three = fake_find(&d, 3)->m.disk_root;
    struct digest_stream *s = digest_stream_new();
    for (uint64_t b = 0; b < 64; b++) {
        unsigned n = b >= 12 && b < 22 ? 300 : b >= 10 && b < 12 ? 200 : b < 40 ? 100 : 0;
        struct digest one = n ? fake_content(n) : *digest_zero();
        digest_stream_add(s, &one, sizeof(one));
    }
    digest_stream_end(s, &expected);
    digest_stream_free(s);
    assert_true(digest_equal(&expected, &three));
    assert_false(digest_equal(&expected, &fake_find(&d, 2)->m.disk_root));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chain_goes_down_to_its_full_backup),
        TEST(a_missing_file_breaks_all_that_stand_on_it),
        TEST(an_edited_parent_breaks_its_children),
        TEST(a_loop_or_a_later_parent_is_refused),
        TEST(a_sequence_number_below_the_parents_is_refused),
        TEST(two_backups_of_one_number_are_refused),
        TEST(a_layer_of_another_length_is_refused),
        TEST(a_swapped_hash_file_is_refused),
        TEST(one_bit_of_a_digest_breaks_the_layer),
        TEST(damaged_manifests_are_listed_and_not_used),
        TEST(backups_are_found_by_number_uuid_and_latest),
        TEST(names_of_backups_are_split),
        TEST(the_newest_layer_that_lists_a_block_gives_its_digest),
        TEST(equal_disks_have_equal_roots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
