/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backup-client/files.h"
#include "backup-client/publish.h"
#include "tests/unit/backup-client/fake.h"

static struct disk_repo d;

static int setup(void **state)
{
    if (fake_setup(state))
        return -1;
    fake_open(&d);
    fake_backup(&d, 0, 0, 4, 1);
    return 0;
}

static int teardown(void **state)
{
    disk_close(&d);
    return fake_teardown(state);
}

static void a_crash_at_any_step_leaves_the_old_or_the_new_state(void **state)
{
    for (unsigned stop = 0; stop <= PUBLISH_STEPS; stop++) {
        struct manifest m;
        struct chain c;
        unsigned tmp, before = (unsigned)d.n, files = fake_files(&d, &tmp);
        bool committed = stop > PUBLISH_COMMIT;
        fake_prepare(&d, disk_latest(&d), 0, 1, stop, &m);
        for (unsigned s = 0; s < stop; s++)
            assert_true(publish_step(&d, &m, s, NULL));

        /* The next process finds: */
        assert_true(disk_scan(&d, NULL));
        assert_int_equal(d.n, before + committed);
        assert_null(disk_damaged(&d));
        assert_int_equal(uuid_equal(&disk_latest(&d)->uuid, &m.uuid), committed);
        assert_true(chain_resolve(&d, disk_latest(&d), &c, NULL));
        assert_true(chain_check_hashes(&d, &c, NULL));
        chain_free(&c);

        unsigned gone = disk_clean(&d);
        assert_int_equal(gone, committed ? 0 : stop > PUBLISH_MANIFEST ? 3 : 2);
        assert_int_equal(fake_files(&d, &tmp), files + (committed ? 3 : 0));
        assert_int_equal(tmp, 0);
        manifest_free(&m);
    }
}

static void a_publication_that_fails_leaves_nothing(void **state)
{
    /* Whatever name is in the way makes one step fail. */
    static const struct {
        const char *ext;
        bool tmp;
    } obstacle[] = {
        {LAYER_EXT, false}, {HASH_EXT, false}, {MANIFEST_EXT, true}, {MANIFEST_EXT, false}};
    for (size_t i = 0; i < sizeof(obstacle) / sizeof(obstacle[0]); i++) {
        struct manifest m;
        struct err *e = NULL;
        char file[REPO_NAME_MAX];
        unsigned tmp;
        fake_prepare(&d, NULL, 0, 1, 7, &m);
        repo_file(file, &m.uuid, obstacle[i].ext, obstacle[i].tmp);
        assert_true(file_write_durable(d.dir_fd, file, "x", 1, NULL));
        assert_false(publish(&d, &m, &e));
        assert_int_equal(err_code(e), EEXIST);
        err_free(e);
        assert_int_equal(fake_files(&d, &tmp), 3);
        assert_int_equal(tmp, 0);
        assert_true(disk_scan(&d, NULL));
        assert_int_equal(d.n, 1);
        manifest_free(&m);
    }
}

static void a_manifest_that_cannot_be_read_back_is_not_published(void **state)
{
    struct manifest m;
    struct err *e = NULL;
    unsigned tmp;
    fake_prepare(&d, NULL, 0, 1, 7, &m);
    m.created = INT64_C(300000000000); /* the year 11476 */
    assert_false(publish(&d, &m, &e));
    assert_non_null(strstr(err_msg(e), "created"));
    err_free(e);
    assert_int_equal(fake_files(&d, &tmp), 3);
    assert_int_equal(tmp, 0);
    manifest_free(&m);
}

static void cleaning_spares_what_is_not_ours_or_still_needed(void **state)
{
    char file[REPO_NAME_MAX];
    unsigned tmp;
    fake_backup(&d, 1, 0, 1, 2);
    /* The parent's manifest got lost: its layer is still what backup 2 stands on. */
    repo_file(file, &fake_find(&d, 1)->uuid, MANIFEST_EXT, false);
    unlinkat(d.dir_fd, file, 0);
    assert_true(file_write_durable(d.dir_fd, "notes.tmp", "x", 1, NULL));
    assert_true(file_write_durable(d.dir_fd, "Gnot-a-uuid.qcow2", "x", 1, NULL));
    assert_true(disk_scan(&d, NULL));
    assert_int_equal(disk_clean(&d), 0);
    assert_int_equal(fake_files(&d, &tmp), 6);
    /* With a damaged manifest nothing but temporary files may go. */
    struct uuid u;
    uuid_new(&u);
    assert_true(file_write_durable(d.dir_fd, repo_file(file, &u, LAYER_EXT, false), "x", 1, NULL));
    assert_true(file_write_durable(d.dir_fd, repo_file(file, &u, HASH_EXT, true), "x", 1, NULL));
    fake_edit(&d, 2, "{", "[");
    assert_int_equal(disk_clean(&d), 1);
    assert_int_equal(fake_files(&d, &tmp), 7);
}

/* Such a backup was published, and its layer may be all that is left of it. */
static void a_layer_whose_manifest_was_lost_is_not_swept_away(void **state)
{
    char file[REPO_NAME_MAX];
    unsigned tmp;
    struct uuid u = fake_backup(&d, 1, 0, 1, 2);
    unlinkat(d.dir_fd, repo_file(file, &u, MANIFEST_EXT, false), 0);
    assert_true(disk_scan(&d, NULL));
    assert_int_equal(disk_clean(&d), 0);
    assert_int_equal(fake_files(&d, &tmp), 5);
}

static void giving_up_may_be_interrupted_too(void **state)
{
    struct manifest m;
    char file[REPO_NAME_MAX], to[REPO_NAME_MAX];
    unsigned tmp;
    fake_prepare(&d, NULL, 0, 1, 7, &m);
    assert_true(publish(&d, &m, NULL));
    /* What publish_abandon does first, after a commit that could not be made durable. */
    repo_file(file, &m.uuid, MANIFEST_EXT, false);
    repo_file(to, &m.uuid, MANIFEST_EXT, true);
    assert_int_equal(renameat(d.dir_fd, file, d.dir_fd, to), 0);
    assert_true(disk_scan(&d, NULL));
    assert_int_equal(disk_clean(&d), 3);
    assert_int_equal(fake_files(&d, &tmp), 3);
    manifest_free(&m);
}

static void one_run_at_a_time_and_the_dead_hold_nothing(void **state)
{
    struct disk_repo other;
    struct err *e = NULL;
    assert_true(disk_lock(&d, NULL));
    fake_open(&other);
    assert_false(disk_lock(&other, &e));
    assert_int_equal(err_code(e), EBUSY);
    err_free(e);
    disk_close(&d);
    pid_t child = fork();
    if (child == 0) {
        fake_open(&d);
        _exit(disk_lock(&d, NULL) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(disk_lock(&other, NULL));
    disk_close(&other);
    fake_open(&d);
}

static void a_repository_that_cannot_be_made_is_an_error(void **state)
{
    struct disk_repo other;
    struct err *e = NULL;
    assert_false(disk_open("/dev/null/x", "d", true, &other, &e));
    assert_non_null(strstr(err_msg(e), "/dev/null/x"));
    err_free(e);
    disk_close(&other);
    e = NULL;
    assert_false(disk_open(fake_repo, "nosuch", false, &other, &e));
    assert_int_equal(err_code(e), ENOENT);
    err_free(e);
    disk_close(&other);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_crash_at_any_step_leaves_the_old_or_the_new_state),
        TEST(a_publication_that_fails_leaves_nothing),
        TEST(a_manifest_that_cannot_be_read_back_is_not_published),
        TEST(cleaning_spares_what_is_not_ours_or_still_needed),
        TEST(a_layer_whose_manifest_was_lost_is_not_swept_away),
        TEST(giving_up_may_be_interrupted_too),
        TEST(one_run_at_a_time_and_the_dead_hold_nothing),
        TEST(a_repository_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
