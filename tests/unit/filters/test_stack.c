/* SPDX-License-Identifier: BSD-3-Clause
 *
 * copy-on-read, compress and blkverify over a small disk of clusters that are either its own or
 * those of an image below.
 */
#include "tests/unit/block/probe.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "block/mem_disk.h"
#include "filters/log_writes.h"
#include "filters/stack.h"

#define UNIT 4096u
#define CLUSTERS 16u
#define SIZE (UNIT * CLUSTERS - 512) /* the last one is cut */

static struct layered {
    uint8_t data[UNIT * CLUSTERS];
    bool below[CLUSTERS];
    unsigned writes, compressed, zeros, cor_events;
    bool slow;
} disk;

static int layered_status(struct req *r)
{
    for (uint64_t off = r->off; off < r->off + r->len;) {
        uint64_t next = min_u64(round_down(off, UNIT) + UNIT, r->off + r->len);
        int ret = extents_add(r->ext, next - off, disk.below[off / UNIT] ? EXTENT_LEVEL : 0);

        if (ret <= 0)
            return ret;
        off = next;
    }
    return 0;
}

/* A compressed write must be of whole clusters. */
static int layered_write(struct req *r)
{
    bool ends = r->len % UNIT == 0 || r->off + r->len == SIZE;

    if (r->flags & REQ_COMPRESSED && (r->off % UNIT || !ends))
        return -EINVAL;
    disk.writes++;
    disk.compressed += r->flags & REQ_COMPRESSED ? 1 : 0;
    disk.zeros += r->op == REQ_ZERO;
    if (r->op == REQ_ZERO)
        memset(disk.data + r->off, 0, r->len);
    else
        memcpy(disk.data + r->off, r->buf, r->len);
    for (uint64_t i = r->off / UNIT; i * UNIT < r->off + r->len; i++)
        disk.below[i] = false;
    return 0;
}

static int layered_submit(struct node *n, struct req *r)
{
    if (r->op == REQ_READ)
        memcpy(r->buf, disk.data + r->off, r->len);
    if (disk.slow)
        co_sleep_until(clock_ns() + NS_PER_MS);
    switch (r->op) {
    case REQ_WRITE:
    case REQ_ZERO:
        return layered_write(r);
    case REQ_STATUS:
        return layered_status(r);
    default:
        return 0;
    }
}

static void layered_event(struct node *n, enum blk_event ev)
{
    disk.cor_events += ev == EV_COR_WRITE;
}

static const struct driver layered_driver = {
    .name = "layered", .submit = layered_submit, .event = layered_event};

static struct node *layered_open(void)
{
    struct node *n = node_new(&layered_driver, "layered", NULL);

    assert_non_null(n);
    memset(&disk, 0, sizeof(disk));
    for (unsigned i = 0; i < sizeof(disk.data); i++)
        disk.data[i] = (uint8_t)(1 + i / 64);
    n->size = SIZE;
    n->limits.cluster = UNIT;
    return n;
}

static uint8_t buf[UNIT * CLUSTERS], want[UNIT * CLUSTERS];

SIM_TEST(reads_keep_whole_clusters_of_the_image_below)
{
    struct node *n = copy_on_read_open(layered_open(), NULL);

    disk.below[1] = disk.below[2] = disk.below[4] = disk.below[15] = true;
    memset(disk.data + 4 * UNIT, 0, UNIT);
    memcpy(want, disk.data, SIZE);
    assert_int_equal(node_read(n, UNIT + 100, buf, 10), 0);
    assert_memory_equal(buf, want + UNIT + 100, 10);
    assert_int_equal(disk.writes, 1);
    assert_false(disk.below[1]);
    assert_true(disk.below[2]);
    assert_int_equal(node_read(n, 0, buf, SIZE), 0);
    assert_memory_equal(buf, want, SIZE);
    assert_memory_equal(disk.data, want, SIZE);
    for (unsigned i = 0; i < CLUSTERS; i++)
        assert_false(disk.below[i]);
    assert_int_equal(disk.writes, 4);
    assert_int_equal(disk.zeros, 1);
    assert_int_equal(disk.cor_events, 4);
    assert_int_equal(node_read(n, 0, buf, SIZE), 0);
    assert_int_equal(disk.writes, 4);
    node_unref(n);
}

struct io {
    struct node *n;
    bool write;
    struct co_group *all;
};

static void do_io(void *arg)
{
    struct io *io = arg;
    static uint8_t got[UNIT];

    assert_int_equal(io->write ? node_write(io->n, 2 * UNIT + 512, want, 512, 0)
                               : node_read(io->n, 2 * UNIT, got, UNIT),
                     0);
    co_group_done(io->all);
}

SIM_TEST(a_write_during_the_copy_is_not_undone)
{
    struct node *n = copy_on_read_open(layered_open(), NULL);
    struct co_group all = {0};
    struct io r = {n, false, &all}, w = {n, true, &all};

    memset(want, 0xee, 512);
    for (unsigned delay = 0; delay < 5; delay++) {
        memset(disk.data + 2 * UNIT, 7, UNIT);
        disk.below[2] = true;
        disk.slow = true;
        co_group_add(&all);
        co_group_add(&all);
        assert_true(co_start(do_io, &r));
        co_sleep_until(clock_ns() + delay * NS_PER_MS + NS_PER_MS / 2);
        assert_true(co_start(do_io, &w));
        co_group_wait(&all);
        assert_memory_equal(disk.data + 2 * UNIT + 512, want, 512);
    }
    node_unref(n);
}

SIM_TEST(a_child_that_cannot_be_written_is_refused)
{
    struct node *child = layered_open();
    struct err *e = NULL;

    child->read_only = true;
    assert_null(copy_on_read_open(child, &e));
    assert_int_equal(err_code(e), EPERM);
    err_free(e);
    node_unref(child);
    child = mem_open(UNIT, NULL);
    assert_null(compress_open(child, NULL));
    node_unref(child);
}

SIM_TEST(writes_are_compressed_in_whole_clusters)
{
    struct node *n = compress_open(layered_open(), NULL);
    struct rng rng;

    rng_seed(&rng, 5);
    memcpy(want, disk.data, SIZE);
    for (unsigned i = 0; i < 500; i++) {
        uint64_t off = rng_below(&rng, SIZE), len = 1 + rng_below(&rng, SIZE - off);

        if (i % 4 == 0) {
            off = round_down(off, UNIT);
            len = i % 8 ? SIZE - off : min_u64(UNIT, SIZE - off);
        }
        memset(buf, (int)i, len);
        memset(want + off, (int)i, len);
        assert_int_equal(node_write(n, off, buf, len, 0), 0);
        assert_memory_equal(disk.data, want, SIZE);
    }
    assert_true(disk.writes > 500);
    assert_int_equal(disk.compressed, disk.writes);
    node_unref(n);
}

static void write_sector(void *arg)
{
    struct io *io = arg;

    assert_int_equal(node_write(io->n, io->write ? 512 : 1024, want, 512, 0), 0);
    co_group_done(io->all);
}

SIM_TEST(two_writes_to_one_compressed_cluster_are_both_there)
{
    struct node *n = compress_open(layered_open(), NULL);
    struct co_group all = {0};
    struct io a = {n, false, &all}, b = {n, true, &all};

    memset(want, 0xdd, 512);
    disk.slow = true;
    co_group_add(&all);
    co_group_add(&all);
    assert_true(co_start(write_sector, &a));
    assert_true(co_start(write_sector, &b));
    co_group_wait(&all);
    assert_memory_equal(disk.data + 512, want, 512);
    assert_memory_equal(disk.data + 1024, want, 512);
    node_unref(n);
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
    snprintf(arg, 200, "%s", line);
}

SIM_TEST(a_difference_between_mirrors_fails_the_read)
{
    struct node *test = mem_open(UNIT, NULL), *raw = mem_open(2 * UNIT, NULL);
    struct node *n = verify_open(test, raw, NULL);
    char line[200] = "";

    memset(buf, 3, UNIT);
    assert_int_equal(node_write(n, 0, buf, 1000, 0), 0);
    assert_int_equal(node_zero(n, 100, 100, 0), 0);
    assert_int_equal(node_discard(n, 0, UNIT), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_read(n, 0, buf, UNIT), 0);
    assert_int_equal(buf[99], 3);
    assert_int_equal(buf[100], 0);
    assert_int_equal(node_read(raw, 0, want, UNIT), 0);
    assert_memory_equal(buf, want, UNIT);
    assert_int_equal(node_write(test, 777, "x", 1, 0), 0);
    log_set_sink(drop_line, line);
    assert_int_equal(node_read(n, 0, buf, 777), 0);
    assert_int_equal(node_read(n, 512, buf, 512), -EIO);
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(line, "contents mismatch at offset 777"));
    node_unref(n);
    test = mem_open(2 * UNIT, NULL);
    raw = mem_open(UNIT, NULL);
    assert_null(verify_open(test, raw, NULL));
    node_unref(test);
    node_unref(raw);
}

static void flush_it(void *arg)
{
    struct io *io = arg;

    assert_int_equal(node_flush(io->n), 0);
    co_group_done(io->all);
}

SIM_TEST(a_write_that_ends_during_a_flush_is_logged_behind_it)
{
    struct node *child = layered_open(), *log = mem_open(1 * MiB, NULL);
    struct node *n = log_writes_open(child, log, 512, 4096, NULL);
    struct co_group all = {0};
    struct io a = {n, false, &all}, b = {n, true, &all};

    assert_non_null(n);
    memset(want, 0xdd, 512);
    assert_int_equal(node_write(n, 0, want, 512, 0), 0);
    disk.slow = true;
    co_group_add(&all);
    co_group_add(&all);
    assert_true(co_start(write_sector, &a));
    co_sleep_until(clock_ns() + NS_PER_MS / 2);
    assert_true(co_start(flush_it, &b));
    co_group_wait(&all);
    assert_int_equal(node_read(log, 0, buf, 4096), 0);
    assert_int_equal(get_le64(buf + 16), 3);
    assert_int_equal(get_le64(buf + 512), 0);       /* sector 0... */
    assert_int_equal(get_le64(buf + 1536 + 16), 1); /* ...then the flush... */
    assert_int_equal(get_le64(buf + 2048), 2);      /* ...and sector 2 */
    assert_memory_equal(buf + 2560, want, 512);
    node_unref(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_keep_whole_clusters_of_the_image_below),
        cmocka_unit_test(a_write_during_the_copy_is_not_undone),
        cmocka_unit_test(a_child_that_cannot_be_written_is_refused),
        cmocka_unit_test(writes_are_compressed_in_whole_clusters),
        cmocka_unit_test(two_writes_to_one_compressed_cluster_are_both_there),
        cmocka_unit_test(a_difference_between_mirrors_fails_the_read),
        cmocka_unit_test(a_write_that_ends_during_a_flush_is_logged_behind_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
