/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backing files: what is found through a chain, and what a chain may not do.
 */
#include <errno.h>

#include "tests/unit/qcow2/files.h"

static void put(struct node *n, uint64_t off, uint64_t len, int byte)
{
    uint8_t *buf = malloc(len);
    memset(buf, byte, len);
    must(node_write(n, off, buf, len, 0) == 0, "write");
    free(buf);
}

static bool holds(struct node *n, uint64_t off, uint64_t len, int byte)
{
    uint8_t *buf = malloc(len);
    bool ok = node_read(n, off, buf, len) == 0;
    for (uint64_t i = 0; i < len; i++)
        ok = ok && buf[i] == (uint8_t)byte;
    free(buf);
    return ok;
}

static void layer(const char *name, uint64_t size, const char *backing, const char *format)
{
    create_file(name, (struct qc_create_opts){
                          .size = size, .backing_name = backing, .backing_format = format});
}

static void refused(const char *name, struct qc_open_opts o, int code, const char *says)
{
    struct err *e = NULL;
    struct node *n = try_open(name, o, &e);
    must(!n, "%s was opened", name);
    must(err_code(e) == code && strstr(err_msg(e), says), "%s: %d %s", name, err_code(e),
         err_msg(e));
    err_free(e);
}

static void chain_body(void *arg)
{
    folder_make();
    sh(0, "mkdir sub && head -c 300000 /dev/zero | tr '\\0' 'r' > sub/raw.img");
    layer("sub/mid.qcow2", 1 * MiB, "raw.img", "raw");
    layer("top.qcow2", 2 * MiB, "sub/mid.qcow2", "qcow2");
    struct node *n = open_file("sub/mid.qcow2", false);
    put(n, 65536, 65536, 'm');
    must(node_zero(n, 131072, 65536, 0) == 0, "zero");
    node_unref(n);
    n = open_file("top.qcow2", false);
    must(holds(n, 0, 65536, 'r') && holds(n, 65536, 65536, 'm') && holds(n, 131072, 65536, 0) &&
             holds(n, 196608, 300000 - 196608, 'r') && holds(n, 300000, 2 * MiB - 300000, 0),
         "content through the chain");
    struct extents x;
    extents_init(&x, 32);
    must(node_status(n, 0, 2 * MiB, &x) == 0 && x.n == 4, "status: %zu extents", x.n);
    must(x.v[0].len == 131072 && x.v[0].flags == 0, "data of both layers below");
    must(x.v[1].len == 65536 && x.v[1].flags == (EXTENT_HOLE | EXTENT_ZERO), "zero in the middle");
    must(x.v[3].flags == (EXTENT_HOLE | EXTENT_ZERO), "beyond the raw file");
    extents_free(&x);
    put(n, 70000, 10, 't');
    must(holds(n, 65536, 70000 - 65536, 'm') && holds(n, 70000, 10, 't'), "copy on write");
    must(node_discard(n, 0, 65536) == 0 && holds(n, 0, 65536, 0), "discard shows backing data");
    must(node_truncate(n, 3 * MiB) == 0 && holds(n, 2 * MiB, 1 * MiB, 0), "growing");
    node_unref(n);
    folder_remove();
}

static void shorter_body(void *arg)
{
    folder_make();
    sh(0, "head -c 400000 /dev/zero | tr '\\0' 'r' > base");
    layer("top.qcow2", 100 * KiB + 512, "base", "raw");
    struct node *n = open_file("top.qcow2", false);
    put(n, 90 * KiB, 512, 't'); /* copies a cluster of which a part lies beyond the disk */
    must(node_truncate(n, 300 * KiB) == 0, "grow");
    must(holds(n, 100 * KiB + 512, 200 * KiB - 512, 0), "growing showed the backing file");
    must(holds(n, 64 * KiB, 26 * KiB, 'r') && holds(n, 90 * KiB, 512, 't'), "old content");
    node_unref(n);
    folder_remove();
}

static void refuse_body(void *arg)
{
    const struct qc_open_opts rw = {0};
    folder_make();
    sh(0, "mkdir in out && head -c 65536 /dev/zero > out/base && cp out/base in/base && "
          "ln -s ../out/base in/link && ln -s ../out in/dir && ln -s base in/good");
    layer("in/up.qcow2", MiB, "../out/base", "raw");
    refused("in/up.qcow2", rw, EACCES, "not beneath");
    layer("in/link.qcow2", MiB, "link", "raw");
    refused("in/link.qcow2", rw, EACCES, "leads out");
    layer("in/dir.qcow2", MiB, "dir/base", "raw");
    refused("in/dir.qcow2", rw, EACCES, "not beneath");
    layer("in/abs.qcow2", MiB, "/etc/passwd", "raw");
    refused("in/abs.qcow2", rw, EACCES, "not beneath");
    layer("in/none.qcow2", MiB, "missing", "raw");
    refused("in/none.qcow2", rw, ENOENT, "missing");
    layer("in/proto.qcow2", MiB, "nbd:unix:/x", "raw");
    refused("in/proto.qcow2", rw, ENOTSUP, "protocol");
    layer("in/json.qcow2", MiB, "json:{}", "raw");
    refused("in/json.qcow2", rw, ENOTSUP, "protocol");
    folder_remove();
}

static void allow_body(void *arg)
{
    struct err *e = NULL;
    folder_make();
    sh(0, "mkdir in out && head -c 65536 /dev/zero | tr '\\0' 'o' > out/base");
    sh(0, "mkdir -p in && ln -s base out/good");
    layer("in/up.qcow2", MiB, "../out/base", "raw");
    struct node *n = try_open("in/up.qcow2", (struct qc_open_opts){.backing_dir = folder}, &e);
    must(n && holds(n, 0, 65536, 'o'), "%s", err_msg(e));
    node_unref(n);
    char abs[256];
    snprintf(abs, sizeof(abs), "%s/out/base", folder);
    layer("in/abs.qcow2", MiB, abs, "raw");
    n = try_open("in/abs.qcow2", (struct qc_open_opts){.backing_dir = folder}, &e);
    must(n && holds(n, 0, 65536, 'o'), "%s", err_msg(e));
    node_unref(n);
    refused("in/up.qcow2", (struct qc_open_opts){.backing_dir = at("in")}, EACCES, "not beneath");
    n = try_open("in/up.qcow2", (struct qc_open_opts){.no_backing = true}, &e);
    must(n && holds(n, 0, 65536, 0), "%s", err_msg(e));
    node_unref(n);
    folder_remove();
}

static void loop_body(void *arg)
{
    char name[32], below[32];
    folder_make();
    layer("self.qcow2", MiB, "self.qcow2", "qcow2");
    refused("self.qcow2", (struct qc_open_opts){.read_only = true}, EINVAL, "loop");
    layer("a.qcow2", MiB, "b.qcow2", "qcow2");
    layer("b.qcow2", MiB, "a.qcow2", "qcow2");
    refused("a.qcow2", (struct qc_open_opts){0}, EINVAL, "loop");
    layer("c0.qcow2", MiB, NULL, NULL);
    for (unsigned i = 1; i < 66; i++) {
        snprintf(name, sizeof(name), "c%u.qcow2", i);
        snprintf(below, sizeof(below), "c%u.qcow2", i - 1);
        layer(name, MiB, below, "qcow2");
    }
    refused("c65.qcow2", (struct qc_open_opts){.read_only = true}, EFBIG, "longer than 64");
    struct node *n = open_file("c0.qcow2", false);
    put(n, 0, MiB, 'b');
    node_unref(n);
    n = open_file("c63.qcow2", false);
    must(holds(n, 0, MiB, 'b'), "content through 64 images");
    node_unref(n);
    folder_remove();
}

static void create_body(void *arg)
{
    struct err *e = NULL;
    struct qc_create_opts o = {.size = MiB};
    folder_make();
    create_file("a.qcow2", o);
    must(!qc_create_file(at("a.qcow2"), &o, false, &e) && err_code(e) == EEXIST, "overwritten");
    err_free(e);
    e = NULL;
    struct node *n = open_file("a.qcow2", false);
    must(!qc_create_file(at("a.qcow2"), &o, true, &e) && err_code(e) == EBUSY, "%s", err_msg(e));
    err_free(e);
    e = NULL;
    node_unref(n);
    o.size = 2 * MiB;
    must(qc_create_file(at("a.qcow2"), &o, true, &e), "%s", err_msg(e));
    n = open_file("a.qcow2", false);
    must(n->size == 2 * MiB, "the old image is still there");
    node_unref(n);
    o.backing_name = "x";
    must(!qc_create_file(at("b.qcow2"), &o, false, &e) && err_code(e) == EINVAL, "no format");
    err_free(e);
    sh(0, "test \"$(ls)\" = \"$(printf 'a.qcow2\\nlog')\"");
    folder_remove();
}

static void content_and_status_come_through_the_chain(void **state)
{
    run_as(REACTOR_AUTO, chain_body, NULL);
}

static void growing_never_shows_the_backing_file(void **state)
{
    run_as(REACTOR_AUTO, shorter_body, NULL);
}

static void backing_files_outside_the_folder_are_refused(void **state)
{
    run_as(REACTOR_AUTO, refuse_body, NULL);
}

static void a_backing_dir_allows_what_is_beneath_it(void **state)
{
    run_as(REACTOR_AUTO, allow_body, NULL);
}

static void loops_and_endless_chains_are_refused(void **state)
{
    run_as(REACTOR_AUTO, loop_body, NULL);
}

static void a_new_file_is_whole_or_absent(void **state)
{
    run_as(REACTOR_AUTO, create_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_and_status_come_through_the_chain),
        cmocka_unit_test(growing_never_shows_the_backing_file),
        cmocka_unit_test(backing_files_outside_the_folder_are_refused),
        cmocka_unit_test(a_backing_dir_allows_what_is_beneath_it),
        cmocka_unit_test(loops_and_endless_chains_are_refused),
        cmocka_unit_test(a_new_file_is_whole_or_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
