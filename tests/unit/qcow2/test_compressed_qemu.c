/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Compressed clusters against QEMU's tools: what qemu-img convert -c writes is read right, alone
 * and by many at once, and can be overwritten; what is compressed here satisfies qemu-img.
 */
#include <errno.h>

#include "io/lock.h"
#include "tests/unit/qcow2/churn.h"

#define READERS 12

/* A third compresses well, a third not at all, a third badly. */
static void fill(struct world *w, uint64_t seed)
{
    rng_seed(&w->rng, seed);
    for (uint64_t off = 0; off < w->size; off += 512) {
        uint64_t kind = off / (5 * 512) % 3, len = min_u64(512, w->size - off);
        for (uint64_t i = 0; i < len && kind; i++)
            w->shadow[off + i] =
                (uint8_t)(kind == 1 ? "block"[i % 5] + off / 4096 : rng_u64(&w->rng));
    }
    FILE *f = fopen(at("raw"), "wb");
    must(f && fwrite(w->shadow, 1, w->size, f) == w->size && fclose(f) == 0, "raw");
}

static void read_random(struct world *w, struct rng *rng, uint64_t max, const char *what)
{
    uint8_t *buf = mem_alloc(max);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t len = 1 + rng_below(rng, max), off = rng_below(rng, w->size - len);
        must(node_read(w->node, off, buf, len) == 0 && !memcmp(buf, w->shadow + off, len),
             "%s: %llu bytes at %llu", what, (unsigned long long)len, (unsigned long long)off);
    }
    mem_free(buf);
}

struct reader {
    struct world *w;
    struct co_group *all;
    uint64_t seed;
    const char *what;
};

static void reader_main(void *arg)
{
    struct reader *r = arg;
    struct rng rng;
    rng_seed(&rng, r->seed);
    read_random(r->w, &rng, r->w->cluster > 4096 ? 20000 : 5000, r->what);
    co_group_done(r->all);
}

static void read_at_once(struct world *w, const char *what)
{
    struct reader v[READERS];
    struct co_group all = {0};
    for (unsigned i = 0; i < READERS; i++) {
        v[i] = (struct reader){.w = w, .all = &all, .seed = i, .what = what};
        co_group_add(&all);
        must(co_start(reader_main, &v[i]), "memory");
    }
    co_group_wait(&all);
}

static void one_image(struct world *w, const char *options, uint64_t seed)
{
    fill(w, seed);
    sh(0, "qemu-img convert -c -f raw -O qcow2 -o %s raw c.qcow2", options);
    sh(0, "qemu-img check c.qcow2 | grep '[1-9][0-9.]*%% compressed clusters'");
    w->node = open_file("c.qcow2", true);
    uint8_t *buf = mem_alloc(w->size);
    must(node_read(w->node, 0, buf, w->size) == 0 && !memcmp(buf, w->shadow, w->size), "%s",
         options);
    mem_free(buf);
    read_at_once(w, options);
    node_unref(w->node);
    churn(w, "c.qcow2", seed + 1, 60);
    sh(0, "qemu-io -c 'write -P 51 3k 200k' c.qcow2");
    memset(w->shadow + 3 * KiB, 51, 200 * KiB);
    churn(w, "c.qcow2", seed + 3, 40);
}

static const struct shape {
    const char *options;
    uint64_t size, cluster;
} shapes[] = {
    {"cluster_size=512", 600 * KiB, 512},
    {"cluster_size=4k,refcount_bits=1", 2 * MiB, 4 * KiB},
    {"cluster_size=64k", 3 * MiB + 512, 64 * KiB},
    {"cluster_size=2M", 13 * MiB, 2 * MiB},
    {"compat=0.10", 2 * MiB, 64 * KiB},
    {"compression_type=zstd,cluster_size=512", 600 * KiB, 512},
    {"compression_type=zstd,cluster_size=64k,refcount_bits=2", 3 * MiB + 512, 64 * KiB},
    {"compression_type=zstd,cluster_size=2M", 13 * MiB, 2 * MiB},
};

static void theirs_body(void *arg)
{
    folder_make();
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct world w = {.size = shapes[i].size, .cluster = shapes[i].cluster};
        w.shadow = mem_zalloc(w.size);
        one_image(&w, shapes[i].options, 100 * i);
        mem_free(w.shadow);
    }
    folder_remove();
}

/* Every cluster compressed by us, some of them twice, some changed in between. */
static void ours_body(void *arg)
{
    folder_make();
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct world w = {.size = shapes[i].size, .cluster = shapes[i].cluster};
        w.shadow = mem_zalloc(w.size);
        fill(&w, 1000 + i);
        sh(0, "qemu-img create -f qcow2 -o %s c.qcow2 %llu", shapes[i].options,
           (unsigned long long)w.size);
        w.node = open_file("c.qcow2", false);
        must(node_write(w.node, 0, w.shadow, w.size, REQ_COMPRESSED) == 0, "%s", shapes[i].options);
        node_unref(w.node);
        judge(&w, "c.qcow2");
        sh(0, "qemu-img check c.qcow2 | grep '[1-9][0-9.]*%% compressed clusters'");
        churn(&w, "c.qcow2", 2000 + i, 30);
        w.node = open_file("c.qcow2", false);
        must(node_write(w.node, 0, w.shadow, w.size, REQ_COMPRESSED) == 0, "%s", shapes[i].options);
        must(node_flush(w.node) == 0, "flush");
        must(node_write(w.node, 0, w.shadow, w.size, REQ_COMPRESSED) == 0, "%s", shapes[i].options);
        node_unref(w.node);
        judge(&w, "c.qcow2");
        churn(&w, "c.qcow2", 3000 + i, 30);
        mem_free(w.shadow);
        sh(0, "rm c.qcow2");
    }
    folder_remove();
}

static void chain_body(void *arg)
{
    struct world w = {.size = 2 * MiB, .cluster = 64 * KiB};
    folder_make();
    w.shadow = mem_zalloc(w.size);
    fill(&w, 5);
    sh(0, "qemu-img convert -c -f raw -O qcow2 raw base.qcow2 && cp base.qcow2 before && "
          "qemu-img create -f qcow2 -b base.qcow2 -F qcow2 top.qcow2");
    churn(&w, "top.qcow2", 6, 100);
    sh(0, "cmp base.qcow2 before");
    mem_free(w.shadow);
    folder_remove();
}

static void snapshot_body(void *arg)
{
    struct world w = {.size = 2 * MiB, .cluster = 4 * KiB};
    folder_make();
    w.shadow = mem_zalloc(w.size);
    fill(&w, 7);
    sh(0, "qemu-img convert -c -f raw -O qcow2 -o cluster_size=4k raw s.qcow2 && cp raw before && "
          "qemu-img snapshot -c one s.qcow2");
    churn(&w, "s.qcow2", 8, 150);
    sh(0, "qemu-img snapshot -a one s.qcow2 && qemu-img compare -f qcow2 -F raw s.qcow2 before && "
          "qemu-img snapshot -d one s.qcow2 && qemu-img check s.qcow2");
    mem_free(w.shadow);
    folder_remove();
}

static void images_compressed_by_qemu_are_read_and_overwritten_right(void **state)
{
    run_as(REACTOR_AUTO, theirs_body, NULL);
}

static void images_compressed_here_satisfy_qemu(void **state)
{
    run_as(REACTOR_AUTO, ours_body, NULL);
}

static void compressed_backing_files_are_copied_from(void **state)
{
    run_as(REACTOR_AUTO, chain_body, NULL);
}

static void compressed_clusters_of_snapshots_survive(void **state)
{
    run_as(REACTOR_THREADS, snapshot_body, NULL);
}

int main(void)
{
    if (system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1") != 0) {
        printf("SKIP: qemu-img and qemu-io are not installed\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_compressed_by_qemu_are_read_and_overwritten_right),
        cmocka_unit_test(images_compressed_here_satisfy_qemu),
        cmocka_unit_test(compressed_backing_files_are_copied_from),
        cmocka_unit_test(compressed_clusters_of_snapshots_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
