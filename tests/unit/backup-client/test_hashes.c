/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backup-client/hashes.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tests/unit/backup-client/fake.h"

#define BLOCKS 20000
#define SIZE (BLOCKS * BACKUP_BLOCK - 100)

static char path[128];
static struct uuid uuid;
static uint8_t model[BLOCKS]; /* enum hash_kind */
static struct digest root;

static int setup(void **state)
{
    uuid_new(&uuid);
    return fake_setup(state);
}

/* Write a file from the model. */
static void write_model(void)
{
    struct err *e = NULL;
    snprintf(path, sizeof(path), "%s/h", fake_repo);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    struct hash_writer *w = hash_writer_new(fd, path, &uuid, SIZE, &e);
    assert_non_null(w);
    for (unsigned b = 0; b < BLOCKS; b++) {
        struct digest d = {{0}};
        put_be32(d.v, b + 1);
        if (model[b] == HASH_DATA)
            assert_true(hash_writer_data(w, b, &d, NULL));
        else if (model[b] == HASH_ZERO)
            assert_true(hash_writer_zeros(w, b, 1, NULL));
    }
    assert_true(hash_writer_end(w, &root, NULL));
    hash_writer_free(w);
    close(fd);
}

static struct hash_reader *open_file(struct err **errp)
{
    return hash_reader_open(AT_FDCWD, path, &uuid, SIZE, errp);
}

static void fill_model(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    memset(model, 0, sizeof(model));
    for (uint64_t b = 0; b < BLOCKS;) {
        uint64_t run = 1 + rng_below(&rng, rng_below(&rng, 4) ? 10 : 6000);
        uint8_t kind = (uint8_t)rng_below(&rng, 3);
        for (; run > 0 && b < BLOCKS; run--, b++)
            model[b] = kind;
    }
}

static void what_is_written_is_read_back_at_any_stride(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rng rng;
        struct digest again;
        fill_model(seed);
        write_model();
        rng_seed(&rng, seed);
        struct hash_reader *r = open_file(NULL);
        assert_non_null(r);
        for (uint64_t b = 0; b < BLOCKS; b += 1 + rng_below(&rng, 50)) {
            enum hash_kind kind;
            uint64_t run;
            const struct digest *d;
            assert_true(hash_reader_at(r, b, &kind, &run, &d, NULL));
            assert_true(run >= 1 && b + run <= BLOCKS);
            for (uint64_t i = 0; i < run; i++) {
                if (model[b + i] != kind)
                    fail_msg("seed %llu: block %llu", (unsigned long long)seed,
                             (unsigned long long)(b + i));
                if (kind == HASH_DATA)
                    assert_int_equal(get_be32(d[i].v), b + i + 1);
            }
        }
        assert_true(hash_reader_finish(r, &again, NULL));
        assert_true(digest_equal(&again, &root));
        hash_reader_free(r);
    }
}

static void blocks_out_of_order_are_refused(void **state)
{
    snprintf(path, sizeof(path), "%s/h", fake_repo);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    struct hash_writer *w = hash_writer_new(fd, path, &uuid, SIZE, NULL);
    assert_true(hash_writer_zeros(w, 5, 3, NULL));
    assert_false(hash_writer_zeros(w, 7, 1, NULL));
    assert_true(hash_writer_zeros(w, 8, 1, NULL));
    hash_writer_free(w);
    close(fd);
}

enum verdict { GOOD, OTHER_ROOT, REFUSED };

/* Read the file to its end. says: what the message of a refusal must hold. */
static enum verdict judge_file(const char *says)
{
    struct err *e = NULL;
    struct digest again;
    struct hash_reader *r = open_file(&e);
    bool ok = r && hash_reader_finish(r, &again, &e);
    hash_reader_free(r);
    if (!ok && (!strstr(err_msg(e), path) || !strstr(err_msg(e), says)))
        fail_msg("the message does not name the file and '%s': %s", says, err_msg(e));
    err_free(e);
    return !ok ? REFUSED : digest_equal(&again, &root) ? GOOD : OTHER_ROOT;
}

static void poke(uint64_t off, const void *p, size_t len)
{
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, p, len, (off_t)off), len);
    close(fd);
}

static void damaged_records_are_found(void **state)
{
    /* One run of data 10..12, one of zeros 20..29, the end: at 64, 64+24+96 and +24. */
    static const struct {
        uint64_t off;
        uint8_t len;
        uint64_t value;
        const char *says;
    } damage[] = {
        {0, 8, 0, "not a hash"},            /* magic */
        {8, 4, 2, "version"},               /* version */
        {12, 4, 4096, "block size"},        /* block size */
        {16, 8, SIZE + 1, "disk size"},     /* disk size */
        {24, 8, 0, "another"},              /* uuid */
        {40, 8, 1, ""},                     /* reserved */
        {64, 4, 9, "type"},                 /* type */
        {64, 4, HASH_NONE, "type"},         /* type 0 */
        {68, 4, 1, ""},                     /* reserved */
        {72, 8, BLOCKS, "first block"},     /* first block past the end */
        {72, 8, UINT64_MAX, ""},            /* overflow */
        {80, 8, 0, "count"},                /* empty run */
        {80, 8, HASH_RUN_MAX + 1, "count"}, /* long run */
        {80, 8, 2, ""},                     /* count and digests disagree */
        {184 + 8, 8, 12, "first block"},    /* overlaps the run before */
        {184 + 16, 8, BLOCKS, "count"},     /* past the end */
        {184 + 16, 8, UINT64_MAX - 5, ""},  /* overflow */
        {208 + 8, 8, 4, "total"},           /* total of data */
        {208 + 16, 8, 11, "total"},         /* total of zeros */
        {208, 4, 2, ""},                    /* no end */
        {90, 1, 1, ""},                     /* a digest: only the root shows it */
    };
    for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
        uint8_t bytes[8];
        memset(model, 0, sizeof(model));
        memset(model + 10, HASH_DATA, 3);
        memset(model + 20, HASH_ZERO, 10);
        write_model();
        assert_int_equal(judge_file(""), GOOD);
        if (damage[i].len == 4)
            put_be32(bytes, (uint32_t)damage[i].value);
        else
            put_be64(bytes, damage[i].value);
        poke(damage[i].off, damage[i].len == 1 ? bytes + 7 : bytes, damage[i].len);
        enum verdict want = damage[i].len == 1 ? OTHER_ROOT : REFUSED;
        if (judge_file(damage[i].says) != want)
            fail_msg("damage %zu was not found", i);
    }
}

static void every_truncation_and_any_tail_is_found(void **state)
{
    struct stat st;
    memset(model, 0, sizeof(model));
    memset(model + 10, HASH_DATA, 3);
    write_model();
    assert_int_equal(stat(path, &st), 0);
    for (off_t len = st.st_size - 1; len >= 0; len -= len > 64 ? 7 : 1) {
        assert_int_equal(truncate(path, len), 0);
        if (judge_file("") != REFUSED)
            fail_msg("%lld of %lld bytes pass", (long long)len, (long long)st.st_size);
    }
    write_model();
    poke((uint64_t)st.st_size, "", 1);
    assert_int_equal(judge_file("follow the end"), REFUSED);
}

static void a_fifo_or_link_in_place_of_the_file_is_refused(void **state)
{
    snprintf(path, sizeof(path), "%s/h", fake_repo);
    unlink(path);
    assert_int_equal(mkfifo(path, 0666), 0);
    assert_int_equal(judge_file("not a regular file"), REFUSED);
    unlink(path);
    assert_int_equal(symlink("/dev/zero", path), 0);
    assert_int_equal(judge_file(""), REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back_at_any_stride),
        cmocka_unit_test(blocks_out_of_order_are_refused),
        cmocka_unit_test(damaged_records_are_found),
        cmocka_unit_test(every_truncation_and_any_tail_is_found),
        cmocka_unit_test(a_fifo_or_link_in_place_of_the_file_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, fake_teardown);
}
