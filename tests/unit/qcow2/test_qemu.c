/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Against QEMU's own tools: images written here pass qemu-img check and read back equal through
 * qemu-img; images made and changed by qemu-img and qemu-io read right here.
 */
#include <errno.h>

#include "base/log.h"
#include "tests/unit/qcow2/churn.h"

static void ours_body(void *arg)
{
    static const struct qc_create_opts all[] = {
        {.version = 2},
        {.cluster_size = 512, .refcount_bits = 1},
        {.cluster_size = 512, .refcount_bits = 64},
        {.cluster_size = 4096, .refcount_bits = 2},
        {.cluster_size = 65536, .refcount_bits = 4},
        {.cluster_size = 65536, .refcount_bits = 8},
        {.cluster_size = 128 * 1024, .refcount_bits = 32},
        {.cluster_size = 2 << 20},
        {.cluster_size = 16384, .extended_l2 = true},
        {.cluster_size = 65536, .extended_l2 = true, .refcount_bits = 1},
        {.cluster_size = 2 << 20, .extended_l2 = true, .zstd = true},
        {.cluster_size = 65536, .extended_l2 = true, .preallocation = QC_PREALLOC_METADATA},
        {.cluster_size = 4096, .preallocation = QC_PREALLOC_FALLOC},
    };
    folder_make();
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct qc_create_opts o = all[i];
        struct world w = {.cluster = o.cluster_size ? o.cluster_size : 65536};
        w.size = o.size = 3 * MiB + 512 + (w.cluster > MiB ? 16 * MiB : 0);
        w.shadow = mem_zalloc(w.size);
        create_file("ours.qcow2", o);
        sh(0, "qemu-img check ours.qcow2");
        churn(&w, "ours.qcow2", 10 + i, 150);
        churn(&w, "ours.qcow2", 50 + i, 150);
        sh(0, "rm ours.qcow2");
        mem_free(w.shadow);
    }
    folder_remove();
}

static void theirs_body(void *arg)
{
    static const char *const options[] = {
        "compat=0.10",
        "compat=1.1,lazy_refcounts=on",
        "cluster_size=512",
        "cluster_size=2M,refcount_bits=1",
        "preallocation=metadata",
        "preallocation=falloc,cluster_size=4k",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k,refcount_bits=64",
        "extended_l2=on,cluster_size=128k,preallocation=metadata"};
    folder_make();
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        struct world w = {.size = 4 * MiB,
                          .cluster = i == 3   ? 2 * MiB
                                     : i == 8 ? 128 * KiB
                                              : 64 * KiB};
        w.shadow = mem_zalloc(w.size);
        sh(0, "qemu-img create -f qcow2 -o %s theirs.qcow2 4M", options[i]);
        sh(0, "qemu-io -c 'write -P 17 100000 70000' -c 'write -z 131072 65536' "
              "-c 'discard 0 65536' -c 'write -P 34 4194000 304' theirs.qcow2");
        memset(w.shadow + 100000, 17, 70000);
        memset(w.shadow + 131072, 0, 65536);
        memset(w.shadow + 4194000, 34, 304);
        w.node = open_file("theirs.qcow2", true);
        uint8_t *buf = mem_alloc(w.size);
        must(node_read(w.node, 0, buf, w.size) == 0 && !memcmp(buf, w.shadow, w.size), "%s",
             options[i]);
        mem_free(buf);
        node_unref(w.node);
        churn(&w, "theirs.qcow2", 90 + i, 150);
        sh(0, "qemu-io -c 'write -P 51 0 1M' theirs.qcow2");
        memset(w.shadow, 51, MiB);
        churn(&w, "theirs.qcow2", 95 + i, 50);
        mem_free(w.shadow);
    }
    folder_remove();
}

static void backing_with(const char *options)
{
    struct world w = {.size = 4 * MiB, .cluster = 64 * KiB};
    folder_make();
    w.shadow = mem_zalloc(w.size);
    sh(0,
       "qemu-img create -f qcow2 base.qcow2 3M && "
       "qemu-io -c 'write -P 1 0 3M' -c 'write -z 1M 512k' base.qcow2 && "
       "qemu-img create -f qcow2 -o %s -b base.qcow2 -F qcow2 mid.qcow2 && "
       "qemu-io -c 'write -P 2 512k 100k' -c 'discard 64k 64k' mid.qcow2 && "
       "qemu-img create -f qcow2 -o %s -b mid.qcow2 -F qcow2 top.qcow2 4M",
       options, options);
    memset(w.shadow, 1, 3 * MiB);
    memset(w.shadow + MiB, 0, 512 * KiB);
    memset(w.shadow + 512 * KiB, 2, 100 * KiB);
    memset(w.shadow + 64 * KiB, 0, 64 * KiB);
    judge(&w, "top.qcow2");
    churn(&w, "top.qcow2", 7, 200);
    sh(0, "qemu-img check base.qcow2 && qemu-img check mid.qcow2");
    mem_free(w.shadow);
    folder_remove();
}

static void backing_body(void *arg)
{
    backing_with("extended_l2=off");
    backing_with("extended_l2=on,cluster_size=32k");
    backing_with("extended_l2=on,preallocation=metadata");
}

static void snapshots_with(const char *options, uint64_t cluster)
{
    struct world w = {.size = 2 * MiB, .cluster = cluster};
    folder_make();
    w.shadow = mem_zalloc(w.size);
    sh(0,
       "qemu-img create -f qcow2 -o %s s.qcow2 2M && "
       "qemu-io -c 'write -P 5 0 1900k' -c 'write -z 64k 64k' s.qcow2 && "
       "qemu-img convert -O raw s.qcow2 before && qemu-img snapshot -c one s.qcow2 && "
       "qemu-io -c 'write -P 6 100k 100k' s.qcow2 && qemu-img snapshot -c two s.qcow2",
       options);
    memset(w.shadow, 5, 1900 * KiB);
    memset(w.shadow + 64 * KiB, 0, 64 * KiB);
    memset(w.shadow + 100 * KiB, 6, 100 * KiB);
    churn(&w, "s.qcow2", 21, 400);
    w.node = open_file("s.qcow2", false);
    must(node_truncate(w.node, 3 * MiB) == 0, "grow"); /* QEMU makes it small again with "one" */
    node_unref(w.node);
    sh(0, "qemu-img snapshot -a one s.qcow2 && qemu-img compare -f qcow2 -F raw s.qcow2 before");
    sh(0, "qemu-img check s.qcow2");
    mem_free(w.shadow);
    folder_remove();
}

static void snapshot_body(void *arg)
{
    snapshots_with("cluster_size=4k", 4 * KiB);
    snapshots_with("cluster_size=16k,extended_l2=on", 16 * KiB);
}

static void grow_body(void *arg)
{
    struct world w = {.size = 8 * MiB, .cluster = 512};
    folder_make();
    w.shadow = mem_zalloc(w.size);
    sh(0, "qemu-img create -f qcow2 -o cluster_size=512,refcount_bits=64 g.qcow2 100k");
    struct node *n = open_file("g.qcow2", false);
    memset(w.shadow, 9, 50 * KiB);
    must(node_write(n, 0, w.shadow, 50 * KiB, 0) == 0, "write");
    must(node_truncate(n, 8 * MiB) == 0, "grow");
    must(node_truncate(n, 7 * MiB) == -ENOTSUP, "shrunk");
    memset(w.shadow + 5 * MiB, 8, 3 * MiB);
    must(node_write(n, 5 * MiB, w.shadow + 5 * MiB, 3 * MiB, 0) == 0, "write");
    node_unref(n);
    judge(&w, "g.qcow2");
    mem_free(w.shadow);
    folder_remove();
}

static void images_written_here_satisfy_qemu(void **state)
{
    run_as(REACTOR_AUTO, ours_body, NULL);
}

static void images_of_qemu_are_read_and_written_right(void **state)
{
    run_as(REACTOR_AUTO, theirs_body, NULL);
}

static void chains_of_qemu_are_read_and_written_right(void **state)
{
    run_as(REACTOR_AUTO, backing_body, NULL);
}

static void snapshots_survive_our_writes(void **state)
{
    run_as(REACTOR_AUTO, snapshot_body, NULL);
}

static void grown_images_satisfy_qemu(void **state)
{
    run_as(REACTOR_AUTO, grow_body, NULL);
}

int main(void)
{
    if (system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1") != 0) {
        printf("SKIP: qemu-img and qemu-io are not installed\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_written_here_satisfy_qemu),
        cmocka_unit_test(images_of_qemu_are_read_and_written_right),
        cmocka_unit_test(chains_of_qemu_are_read_and_written_right),
        cmocka_unit_test(snapshots_survive_our_writes),
        cmocka_unit_test(grown_images_satisfy_qemu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
