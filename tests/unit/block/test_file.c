/* SPDX-License-Identifier: BSD-3-Clause */
#include "block/file_priv.h"
#include "tests/unit/block/host.h"

static char buf[256 * 1024] __attribute__((aligned(4096)));
static char got[256 * 1024] __attribute__((aligned(4096)));

static struct node *create(const char *name)
{
    struct file_opts o = {.path = host_path(name), .create = true};
    struct err *err = NULL;
    struct node *n = file_open(&o, &err);
    if (!n)
        fail_msg("%s", err_msg(err));
    return n;
}

static uint64_t size_on_host(const char *name)
{
    struct stat st;
    assert_int_equal(stat(host_path(name), &st), 0);
    return (uint64_t)st.st_size;
}

static void fail_open(struct file_opts o, int code, const char *text)
{
    struct err *err = NULL;
    assert_null(file_open(&o, &err));
    assert_int_equal(err_code(err), code);
    if (!strstr(err_msg(err), text) || !strstr(err_msg(err), strrchr(o.path, '/') + 1))
        fail_msg("message: %s", err_msg(err));
    err_free(err);
}

HOST_TEST(a_file_gives_back_what_was_written)
{
    struct node *n = create("disk");
    memset(buf, 'x', sizeof(buf));
    assert_int_equal(n->size, 0);
    assert_int_equal(node_write(n, 1000, buf, 100000, 0), 0);
    assert_int_equal(n->size, 101000);
    assert_int_equal(size_on_host("disk"), 101000);
    memset(got, 1, sizeof(got));
    assert_int_equal(node_read(n, 0, got, 200000), 0);
    assert_true(bytes_are_zero(got, 1000));
    assert_memory_equal(got + 1000, buf, 100000);
    assert_true(bytes_are_zero(got + 101000, 99000));
    assert_int_equal(node_write(n, 50, "y", 1, REQ_FUA), 0);
    assert_int_equal(node_flush(n), 0);
    assert_int_equal(node_truncate(n, 1001), 0);
    assert_int_equal(size_on_host("disk"), 1001);
    assert_int_equal(node_truncate(n, 5000), 0);
    assert_int_equal(node_read(n, 1000, got, 4000), 0);
    assert_int_equal(got[0], 'x');
    assert_true(bytes_are_zero(got + 1, 3999));
    node_unref(n);

    struct file_opts o = {.path = host_path("disk"), .read_only = true};
    n = file_open(&o, NULL);
    assert_non_null(n);
    assert_int_equal(n->size, 5000);
    assert_int_equal(node_write(n, 0, buf, 1, 0), -EPERM);
    assert_int_equal(node_read(n, 50, got, 1), 0);
    assert_int_equal(got[0], 'y');
    node_unref(n);
}

HOST_TEST(zero_and_discard_leave_holes_that_status_sees)
{
    struct node *n = create("disk");
    memset(buf, 'x', sizeof(buf));
    assert_int_equal(node_write(n, 0, buf, 256 * KiB, 0), 0);
    assert_int_equal(node_zero(n, 64 * KiB, 64 * KiB, REQ_MAY_UNMAP), 0);
    assert_int_equal(node_zero(n, 1000, 1000, 0), 0);
    assert_int_equal(node_discard(n, 192 * KiB, 10 * MiB), 0);
    assert_int_equal(n->size, 256 * KiB);
    assert_int_equal(node_read(n, 0, got, 256 * KiB), 0);
    memset(buf + 1000, 0, 1000);
    memset(buf + 64 * KiB, 0, 64 * KiB);
    memset(buf + 192 * KiB, 0, 64 * KiB);
    assert_memory_equal(got, buf, 256 * KiB);

    struct extents x;
    extents_init(&x, 8);
    assert_int_equal(node_status(n, 10, 300 * KiB, &x), 0);
    assert_int_equal(x.total, 300 * KiB);
    if (!((struct file_state *)n->state)->no_discard) {
        assert_int_equal(x.n, 4);
        assert_int_equal(x.v[0].len, 64 * KiB - 10);
        assert_int_equal(x.v[0].flags, 0);
        assert_int_equal(x.v[1].len, 64 * KiB);
        assert_int_equal(x.v[1].flags, EXTENT_HOLE | EXTENT_ZERO);
        assert_int_equal(x.v[2].len, 64 * KiB);
        assert_int_equal(x.v[3].flags, EXTENT_HOLE | EXTENT_ZERO);
    }
    extents_free(&x);
    /* Zeros may be what makes it grow, hole or not. */
    assert_int_equal(node_zero(n, 300 * KiB, 100, REQ_MAY_UNMAP), 0);
    assert_int_equal(n->size, 300 * KiB + 100);
    assert_int_equal(size_on_host("disk"), 300 * KiB + 100);
    node_unref(n);
}

HOST_TEST(status_of_many_extents_comes_in_parts)
{
    struct node *n = create("disk");
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(node_write(n, (2 * i + 1) * 64 * KiB, "x", 1, 0), 0);
    struct extents x;
    extents_init(&x, 1000);
    uint64_t off = 0, parts = 0, data = 0;
    for (; off < n->size; parts++) {
        assert_int_equal(node_status(n, off, n->size - off, &x), 0);
        assert_true(x.total > 0 && x.total <= n->size - off);
        for (size_t i = 0; i < x.n; i++)
            data += x.v[i].flags == 0;
        off += x.total;
    }
    assert_int_equal(off, n->size);
    if (parts > 1) /* the file system tells holes */
        assert_int_equal(data, 40);
    extents_free(&x);
    node_unref(n);
}

static int syncs;

static int broken_sync(int fd)
{
    syncs++;
    return syncs == 1 ? -EIO : 0;
}

HOST_TEST(a_flush_that_failed_stays_failed_until_reopen)
{
    struct node *n = create("disk");
    syncs = 0;
    ((struct file_state *)n->state)->sync = broken_sync;
    assert_int_equal(node_write(n, 0, "x", 1, 0), 0);
    assert_int_equal(node_flush(n), -EIO);
    assert_int_equal(node_flush(n), -EIO);
    assert_int_equal(node_write(n, 0, "x", 1, REQ_FUA), -EIO);
    assert_int_equal(syncs, 1);
    node_unref(n);

    struct file_opts o = {.path = host_path("disk"), .no_flush = true};
    n = file_open(&o, NULL);
    ((struct file_state *)n->state)->sync = broken_sync;
    assert_int_equal(node_write(n, 0, "x", 1, REQ_FUA), 0);
    assert_int_equal(syncs, 1);
    node_unref(n);
}

HOST_TEST(what_cannot_be_opened_is_refused_in_plain_words)
{
    fail_open((struct file_opts){.path = host_path("none")}, ENOENT, "No such file");
    assert_int_equal(mkdir(host_path("dir"), 0755), 0);
    fail_open((struct file_opts){.path = host_path("dir"), .read_only = true}, EISDIR,
              "is a directory");
    assert_int_equal(mkfifo(host_path("fifo"), 0644), 0);
    fail_open((struct file_opts){.path = host_path("fifo")}, EINVAL, "neither a regular file");
    node_unref(create("disk"));
    fail_open((struct file_opts){.path = host_path("disk"), .create = true}, EEXIST, "exists");
}

HOST_TEST(create_with_truncate_empties_a_file_only_after_locking_it)
{
    struct node *n = create("disk");
    assert_int_equal(node_write(n, 0, "precious", 8, 0), 0);
    struct file_opts o = {.path = host_path("disk"), .create = true, .truncate = true};
    fail_open(o, EBUSY, "in use");
    assert_int_equal(size_on_host("disk"), 8);
    node_unref(n);
    n = file_open(&o, NULL);
    assert_non_null(n);
    assert_int_equal(n->size, 0);
    assert_int_equal(size_on_host("disk"), 0);
    node_unref(n);
}

HOST_TEST(a_path_cannot_leave_the_directory_it_is_bound_to)
{
    node_unref(create("outside"));
    assert_int_equal(mkdir(host_path("in"), 0755), 0);
    assert_int_equal(symlink("../outside", host_path("in/link")), 0);
    assert_int_equal(symlink("disk", host_path("in/fine")), 0);
    int dir = open(host_path("in"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir > 0);

    struct file_opts o = {.path = "disk", .dir_fd = dir, .create = true};
    struct node *n = file_open(&o, NULL);
    assert_non_null(n);
    node_unref(n);
    o = (struct file_opts){.path = "./fine", .dir_fd = dir};
    n = file_open(&o, NULL);
    assert_non_null(n);
    node_unref(n);
    o.path = "../outside";
    fail_open(o, EACCES, "leads out");
    o.path = "./link";
    fail_open(o, EACCES, "leads out");
    o.path = host_path("outside");
    fail_open(o, EACCES, "leads out");
    close(dir);
}

HOST_TEST(two_readers_coexist_and_a_writer_is_alone)
{
    node_unref(create("disk"));
    struct file_opts ro = {.path = host_path("disk"), .read_only = true};
    struct file_opts rw = {.path = host_path("disk")};
    struct node *a = file_open(&ro, NULL), *b = file_open(&ro, NULL);
    assert_non_null(a);
    assert_non_null(b);
    fail_open(rw, EBUSY, "in use by another program");
    node_unref(a);
    fail_open(rw, EBUSY, "in use by another program");
    node_unref(b);
    a = file_open(&rw, NULL);
    assert_non_null(a);
    fail_open(rw, EBUSY, "in use by another program");
    fail_open(ro, EBUSY, "in use by another program");
    ro.no_lock = true;
    b = file_open(&ro, NULL);
    assert_non_null(b);
    node_unref(a);
    node_unref(b);
}

HOST_TEST(direct_io_works_at_any_offset_and_from_any_memory)
{
    node_unref(create("disk"));
    struct file_opts o = {.path = host_path("disk"), .direct = true};
    struct err *err = NULL;
    struct node *n = file_open(&o, &err);
    if (!n && err_code(err) == EINVAL) {
        print_message("not tested: %s\n", err_msg(err));
        err_free(err);
        return;
    }
    assert_non_null(n);
    uint32_t align = n->limits.align;
    assert_in_range(align, 2, 4096);
    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = (char)(i * 3 / 2);
    assert_int_equal(node_write(n, 0, buf, 65536, 0), 0);
    assert_int_equal(node_write(n, 65536 + 3, buf + 65536 + 3, 70000, 0), 0);
    memset(buf + 65536, 0, 3);
    assert_int_equal(n->size, round_up(65536 + 3 + 70000, align));
    assert_int_equal(node_read(n, 0, got, 65536 + 3 + 70000), 0);
    assert_memory_equal(got, buf, 65536 + 3 + 70000);
    assert_int_equal(node_read(n, 77, got + 1, 1000), 0);
    assert_memory_equal(got + 1, buf + 77, 1000);
    assert_int_equal(node_zero(n, 100, 20000, 0), 0);
    memset(buf + 100, 0, 20000);
    assert_int_equal(node_truncate(n, 100001), 0);
    assert_int_equal(node_read(n, 0, got, 110000), 0);
    assert_memory_equal(got, buf, 100001);
    assert_true(bytes_are_zero(got + 100001, 9999));
    node_unref(n);
}

static void alignment_of_direct_io_is_found_by_trial_too(void **state)
{
    uint32_t off_align = 0, mem_align = 0;
    int fd = open(host_path("disk"), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
    if (fd < 0)
        skip();
    file_probe_align(fd, &off_align, &mem_align);
    assert_true(is_power_of_2(off_align) && off_align <= 4096);
    assert_true(is_power_of_2(mem_align) && mem_align <= 4096);
    /* What it says must work. */
    assert_int_equal(pwrite(fd, buf, off_align, off_align), off_align);
    assert_int_equal(pread(fd, got + mem_align, off_align, off_align), off_align);
    close(fd);
}

/* The name of a loop device over the file, or "" where there can be none. */
static void loop_attach(char *dev, size_t len)
{
    char cmd[400];
    snprintf(cmd, sizeof(cmd), "losetup -f --show '%s' 2>/dev/null", host_path("disk"));
    FILE *f = popen(cmd, "r");
    assert_non_null(f);
    dev[0] = 0;
    if (fgets(dev, (int)len, f))
        dev[strcspn(dev, "\n")] = 0;
    pclose(f);
}

static void use_device(struct node *n)
{
    assert_int_equal(n->size, 4 * MiB);
    memset(buf, 'x', 65536);
    assert_int_equal(node_write(n, 1000, buf, 65536, REQ_FUA), 0);
    assert_int_equal(node_zero(n, 5000, 20000, REQ_MAY_UNMAP), 0);
    assert_int_equal(node_zero(n, 32768, 4096, 0), 0);
    assert_int_equal(node_discard(n, 1 * MiB + 100, 70000), 0);
    assert_int_equal(node_read(n, 1000, got, 65536), 0);
    memset(buf + 4000, 0, 20000);
    memset(buf + 31768, 0, 4096);
    assert_memory_equal(got, buf, 65536);
    assert_int_equal(node_write(n, 4 * MiB - 1, buf, 2, 0), -ENOSPC);
    assert_int_equal(node_truncate(n, 4 * MiB), 0);
    assert_int_equal(node_truncate(n, 8 * MiB), -ENOTSUP);
    struct extents x;
    extents_init(&x, 4);
    assert_int_equal(node_status(n, 0, 4 * MiB, &x), 0);
    assert_int_equal(x.n, 1);
    assert_int_equal(x.v[0].flags, 0);
    extents_free(&x);
}

HOST_TEST(a_block_device_has_its_size_and_keeps_it)
{
    struct node *n = create("disk");
    assert_int_equal(node_truncate(n, 4 * MiB), 0);
    node_unref(n);
    char dev[64];
    loop_attach(dev, sizeof(dev));
    if (!dev[0]) {
        print_message("not tested: no loop device can be set up here\n");
        return;
    }
    for (int direct = 0; direct < 2; direct++) {
        struct file_opts o = {.path = dev, .direct = direct};
        struct err *err = NULL;
        n = file_open(&o, &err);
        if (!n)
            print_message("%s\n", err_msg(err));
        err_free(err);
        if (n)
            use_device(n);
        else
            assert_true(direct);
        node_unref(n);
    }
    char cmd[100];
    snprintf(cmd, sizeof(cmd), "losetup -d '%s'", dev);
    assert_int_equal(system(cmd), 0);
}

#define WRITERS 16
static struct node *shared;
static unsigned ended;

static void writer(void *arg)
{
    unsigned id = (unsigned)(uintptr_t)arg;
    char block[1000];
    memset(block, 'a' + (int)id, sizeof(block));
    for (unsigned k = 0; k < 20; k++)
        assert_int_equal(node_write(shared, (k * WRITERS + id) * 1000, block, 1000, 0), 0);
    ended++;
}

HOST_TEST(many_requests_in_flight_all_arrive)
{
    shared = create("disk");
    ended = 0;
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_true(co_start(writer, (void *)i));
    while (ended < WRITERS)
        co_sleep_until(clock_ns() + NS_PER_MS);
    node_drain_begin(shared);
    assert_int_equal(shared->size, 20 * WRITERS * 1000);
    node_drain_end(shared);
    for (unsigned off = 0; off < 20 * WRITERS * 1000; off += 160000) {
        assert_int_equal(node_read(shared, off, got, 160000), 0);
        for (unsigned i = 0; i < 160000; i++)
            assert_int_equal(got[i], 'a' + (off + i) / 1000 % WRITERS);
    }
    node_unref(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOST_CASES(a_file_gives_back_what_was_written),
        HOST_CASES(zero_and_discard_leave_holes_that_status_sees),
        HOST_CASES(status_of_many_extents_comes_in_parts),
        HOST_CASES(a_flush_that_failed_stays_failed_until_reopen),
        HOST_CASES(what_cannot_be_opened_is_refused_in_plain_words),
        HOST_CASES(create_with_truncate_empties_a_file_only_after_locking_it),
        HOST_CASES(a_path_cannot_leave_the_directory_it_is_bound_to),
        HOST_CASES(two_readers_coexist_and_a_writer_is_alone),
        HOST_CASES(direct_io_works_at_any_offset_and_from_any_memory),
        cmocka_unit_test_setup_teardown(alignment_of_direct_io_is_found_by_trial_too, host_setup,
                                        host_teardown),
        HOST_CASES(a_block_device_has_its_size_and_keeps_it),
        HOST_CASES(many_requests_in_flight_all_arrive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
