/* SPDX-License-Identifier: BSD-3-Clause
 *
 * External data files: on a simulated disk with two parts (where things go, and in which order),
 * and in real files (which of them may be opened; QEMU agrees on what is in them).
 */
#include <errno.h>

#include "tests/unit/qcow2/churn.h"

#define COPIED (UINT64_C(1) << 63)

/* --- Simulated --- */

struct pair {
    struct sim_disk *d;
    struct node *n;
    uint8_t *shadow;
};

static void pair_open(struct pair *p, bool read_only)
{
    struct err *e = NULL;
    struct node *file = sim_open(p->d, read_only, NULL);
    struct node *data = sim_open_second(p->d, read_only, NULL);
    p->n = qc_open(file, &(struct qc_open_opts){.data_file = data, .read_only = read_only}, &e);
    must(p->n, "%s", err_msg(e));
    node_unref(data);
}

static void pair_new(struct pair *p, struct qc_create_opts o)
{
    o.data_file = "second";
    p->d = image_new(&o);
    struct node *data = sim_open_second(p->d, false, NULL);
    must(qc_create_data(data, &o, NULL), "create");
    node_unref(data);
    p->shadow = mem_zalloc(o.size);
    pair_open(p, false);
}

static void pair_free(struct pair *p)
{
    if (p->n)
        node_unref(p->n);
    image_judge(p->d, false, "data file");
    sim_disk_free(p->d);
    mem_free(p->shadow);
}

static void fill(struct pair *p, uint64_t off, uint64_t len, int byte)
{
    memset(p->shadow + off, byte, len);
    must(node_write(p->n, off, p->shadow + off, len, 0) == 0, "write");
}

static void places_body(void *arg)
{
    struct pair p;
    uint8_t b[8];
    pair_new(&p, (struct qc_create_opts){.size = 1 * MiB + 512});
    uint64_t before = sim_disk_size(p.d);
    /* Nothing can be compressed there: it is written all the same. */
    memset(p.shadow, 6, 64 * KiB);
    must(node_write(p.n, 0, p.shadow, 64 * KiB, REQ_COMPRESSED) == 0, "write");
    fill(&p, 0, 100, 1);
    fill(&p, 300 * KiB, 130 * KiB, 2);
    fill(&p, 1 * MiB, 512, 3);
    uint8_t *buf = mem_alloc(p.n->size);
    must(node_read(p.n, 0, buf, p.n->size) == 0 && !memcmp(buf, p.shadow, p.n->size), "content");
    sim_disk_peek(p.d, SIM_SECOND, buf, p.n->size);
    must(!memcmp(buf, p.shadow, p.n->size), "the data are not where the guest has them");
    must(sim_second_size(p.d) == p.n->size, "the data file has %llu bytes",
         (unsigned long long)sim_second_size(p.d));
    must(sim_disk_size(p.d) <= before + 64 * KiB, "more than a table was added to the image");
    mem_free(buf);
    node_unref(p.n);
    p.n = NULL;
    sim_disk_peek(p.d, 40, b, 8);
    sim_disk_peek(p.d, get_be64(b), b, 8);
    sim_disk_peek(p.d, get_be64(b) & ~COPIED, b, 8);
    must(get_be64(b) == COPIED, "the first cluster's entry is 0x%llx",
         (unsigned long long)get_be64(b));
    pair_free(&p);
}

static void order_body(void *arg)
{
    struct pair p;
    pair_new(&p, (struct qc_create_opts){.size = 1 * MiB});
    must(sim_log_mark(p.d), "memory");
    fill(&p, 64 * KiB, 64 * KiB, 7);
    must(node_flush(p.n) == 0, "flush");
    bool flushed = false, linked = false;
    for (uint64_t i = 0; i < sim_log_len(p.d); i++) {
        const struct sim_entry *e = sim_log_at(p.d, i);
        flushed |= e->op == REQ_FLUSH && e->part == 1;
        linked |= e->op == REQ_WRITE && e->kind == KIND_L2 && e->part == 0 &&
                  get_be64((const uint8_t *)e->data + 8);
        must(!linked || flushed, "linked before the data file was flushed");
    }
    must(linked, "not linked");
    pair_free(&p);
}

static void raw_body(void *arg)
{
    struct pair p;
    uint8_t *buf = mem_alloc(1 * MiB);
    pair_new(&p, (struct qc_create_opts){.size = 1 * MiB, .data_file_raw = true});
    fill(&p, 0, 1 * MiB, 9);
    must(node_zero(p.n, 100, 200 * KiB, 0) == 0, "zero");
    memset(p.shadow + 100, 0, 200 * KiB);
    must(node_zero(p.n, 512 * KiB, 128 * KiB, REQ_MAY_UNMAP) == 0, "zero");
    memset(p.shadow + 512 * KiB, 0, 128 * KiB);
    must(node_discard(p.n, 768 * KiB, 64 * KiB) == 0, "discard");
    memset(p.shadow + 768 * KiB, 0, 64 * KiB);
    sim_disk_peek(p.d, SIM_SECOND, buf, 1 * MiB);
    must(!memcmp(buf, p.shadow, 1 * MiB), "the raw file is not the disk");

    struct extents ext;
    extents_init(&ext, 100);
    must(node_status(p.n, 512 * KiB, 512 * KiB, &ext) == 0 && ext.v[0].len == 128 * KiB &&
             ext.v[0].flags == (EXTENT_HOLE | EXTENT_ZERO) && ext.v[1].flags == 0,
         "the holes of the data file are not told");
    extents_free(&ext);
    must(node_truncate(p.n, 2 * MiB) == 0 && sim_second_size(p.d) == 2 * MiB, "grow");
    node_unref(p.n);
    sim_disk_peek(p.d, 88, buf, 8);
    must(get_be64(buf) == 2, "the raw bit is gone");
    p.n = NULL;
    mem_free(buf);
    pair_free(&p);
}

struct race {
    struct pair *p;
    struct co_group group;
};

static void race_zero(void *arg)
{
    struct race *r = arg;
    must(node_zero(r->p->n, 0, 2 * KiB, REQ_MAY_UNMAP) == 0, "zero");
    co_group_done(&r->group);
}

/* The last subcluster with data is zeroed, so that the cluster loses its place; meanwhile another
 * one is written. The space must not be given back under that write. */
static void race_body(void *arg)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct pair p;
        uint8_t buf[2 * KiB];
        pair_new(&p, (struct qc_create_opts){.size = 1 * MiB, .extended_l2 = true});
        fill(&p, 0, 2 * KiB, 4);
        struct race r = {.p = &p};
        sim_set_latency(p.d, 0, 1000000, seed);
        co_group_add(&r.group);
        must(co_start(race_zero, &r), "memory");
        fill(&p, 10 * KiB, 2 * KiB, 5);
        co_group_wait(&r.group);
        memset(p.shadow, 0, 2 * KiB);
        must(node_read(p.n, 10 * KiB, buf, sizeof(buf)) == 0 &&
                 !memcmp(buf, p.shadow + 10 * KiB, sizeof(buf)),
             "seed %llu: what was written is gone", (unsigned long long)seed);
        sim_set_latency(p.d, 0, 0, 0);
        pair_free(&p);
    }
}

static void hostile_body(void *arg)
{
    static const struct {
        const char *name;
        uint64_t entry;
    } rows[] = {
        {"F2 not at its guest offset", COPIED | 0x10000},
        {"F2 compressed", UINT64_C(1) << 62 | 0x50000},
        {"T4 unaligned", COPIED | 0x200},
    };
    uint8_t buf[512] = {0}, b[8];
    for (size_t i = 0; i < ARRAY_LEN(rows) * 3; i++) {
        struct pair p;
        pair_new(&p, (struct qc_create_opts){.size = 1 * MiB});
        fill(&p, 0, 512, 1);
        node_unref(p.n);
        uint64_t len = sim_disk_size(p.d);
        uint8_t *image = malloc(len);
        sim_disk_peek(p.d, 0, image, len);
        uint64_t l2 = get_be64(image + get_be64(image + 40)) & ~COPIED;
        must(get_be64(image + l2) == COPIED, "no entry");
        put_be64(image + l2, rows[i / 3].entry);
        must(sim_disk_load(p.d, image, len), "memory");
        free(image);
        pair_open(&p, false);
        int r = i % 3 == 0   ? node_read(p.n, 0, buf, 512)
                : i % 3 == 1 ? node_write(p.n, 0, buf, 512, 0)
                             : node_discard(p.n, 0, 64 * KiB);
        must(r == -EIO, "%s: %d", rows[i / 3].name, r);
        sim_disk_peek(p.d, 72, b, 8);
        must(get_be64(b) & 2, "%s: not marked corrupt", rows[i / 3].name);
        node_unref(p.n);
        sim_disk_free(p.d);
        mem_free(p.shadow);
    }
}

/* --- Real files --- */

static void refused(const char *image, struct qc_open_opts o, int code, const char *says)
{
    struct err *e = NULL;
    struct node *n = try_open(image, o, &e);
    must(!n && err_code(e) == code && strstr(err_msg(e), says), "%s: %d, %s", image,
         n ? 0 : err_code(e), n ? "opened" : err_msg(e));
    err_free(e);
}

static void rules_body(void *arg)
{
    struct qc_open_opts rw = {0}, ro = {.read_only = true};
    folder_make();
    sh(0,
       "mkdir in out && make() { (cd in && qemu-img create -f qcow2 -o data_file=\"$1\" t 1M && "
       "mv t \"$2\"); }; "
       "make $PWD/out/x.raw abs.qcow2 && make ../out/x.raw up.qcow2 && make near.raw near.qcow2 && "
       "make $PWD/in/near.raw near_abs.qcow2 && ln -s ../out/x.raw in/link.raw && "
       "make link.raw link.qcow2 && make $PWD/out/gone gone.qcow2 && rm out/gone");
    refused("in/abs.qcow2", rw, EACCES, "is not beneath");
    refused("in/abs.qcow2", ro, EACCES, "is not beneath");
    refused("in/up.qcow2", ro, EACCES, "is not beneath");
    refused("in/link.qcow2", ro, EACCES, "leads out");
    char dir[300];
    snprintf(dir, sizeof(dir), "%s", folder);
    struct err *e = NULL;
    static const char *const fine[] = {"in/near.qcow2", "in/near_abs.qcow2"};
    for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
        struct node *n = try_open(fine[i], rw, &e);
        must(n, "%s: %s", fine[i], err_msg(e));
        node_unref(n);
    }
    struct node *n = try_open("in/abs.qcow2", (struct qc_open_opts){.backing_dir = dir}, &e);
    must(n, "%s", err_msg(e));
    refused("in/up.qcow2", (struct qc_open_opts){.backing_dir = dir}, EBUSY, "x.raw");
    node_unref(n);
    refused("in/gone.qcow2", (struct qc_open_opts){.backing_dir = dir}, ENOENT, "gone");

    /* CVE-2024-32498, CVE-2024-4467: what a name may say. */
    static const char *const names[][2] = {
        {"/etc/passwd", "is not beneath"},
        {"json:{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}", "protocol"},
        {"nbd://host/x", "protocol"},
        {"in/../../../etc/passwd", "is not beneath"},
        {"self.qcow2", "already in the chain"},
        {"", "does not tell the name"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct qc_create_opts o = {.size = 1 * MiB,
                                         .data_file = *names[i][0] ? names[i][0] : "x"};
        struct file_opts fo = {.path = at("self.qcow2"), .create = true, .truncate = true};
        struct node *file = file_open(&fo, &e);
        must(file && qc_create(file, &o, &e), "%s", err_msg(e));
        if (!*names[i][0]) /* cut the extension's type: an unknown one */
            must(node_write(file, 112, "NONE", 4, 0) == 0, "write");
        node_unref(file);
        int code = !strcmp(names[i][1], "protocol") ? ENOTSUP
                   : strstr(names[i][1], "chain")   ? EINVAL
                                                    : EACCES;
        refused("self.qcow2", ro, code, names[i][1]);
        refused("self.qcow2", rw, code, names[i][1]);
    }
    folder_remove();
}

static void agree(const char *qemu_options, struct qc_create_opts o, uint64_t seed)
{
    struct world w = {.size = 3 * MiB + 512, .cluster = 64 * KiB};
    folder_make();
    w.shadow = mem_zalloc(w.size);
    o.size = w.size;
    o.data_file = "d.raw";
    if (qemu_options)
        sh(0, "qemu-img create -f qcow2 -o data_file=d.raw%s x.qcow2 %llu", qemu_options,
           (unsigned long long)w.size);
    else
        create_file("x.qcow2", o);
    churn(&w, "x.qcow2", seed, 150);
    sh(0, "qemu-io -c 'write -P 17 100000 70000' -c 'write -z 131072 65536' -c 'discard 1M 64k' "
          "-c 'write -P 34 3145728 512' x.qcow2");
    memset(w.shadow + 100000, 17, 70000);
    memset(w.shadow + 131072, 0, 65536);
    memset(w.shadow + MiB, 0, 64 * KiB);
    memset(w.shadow + 3 * MiB, 34, 512);
    churn(&w, "x.qcow2", seed + 1, 150);
    if (o.data_file_raw) /* QEMU makes it end with a cluster */
        sh(0, "cmp -n %llu d.raw raw", (unsigned long long)w.size);
    mem_free(w.shadow);
    folder_remove();
}

static void qemu_body(void *arg)
{
    static const struct {
        const char *options;
        struct qc_create_opts o;
    } rows[] = {
        {"", {0}},
        {",data_file_raw=on", {.data_file_raw = true}},
        {",extended_l2=on", {.extended_l2 = true}},
        {",cluster_size=4k", {.cluster_size = 4096}},
        {",preallocation=metadata", {.preallocation = QC_PREALLOC_METADATA}},
        {",data_file_raw=on,extended_l2=on,preallocation=full",
         {.extended_l2 = true, .data_file_raw = true, .preallocation = QC_PREALLOC_FULL}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        agree(rows[i].options, rows[i].o, 10 * i);
        agree(NULL, rows[i].o, 10 * i + 5);
    }
}

static void data_are_at_their_guest_offsets(void **state)
{
    run_sim(places_body, NULL);
}

static void data_are_durable_before_they_are_linked(void **state)
{
    run_sim(order_body, NULL);
}

static void raw_files_are_the_disk(void **state)
{
    run_sim(raw_body, NULL);
}

static void space_is_not_given_back_under_a_write(void **state)
{
    run_sim(race_body, NULL);
}

static void entries_that_cannot_be_are_corruption(void **state)
{
    run_sim(hostile_body, NULL);
}

static void only_allowed_files_are_opened(void **state)
{
    run_as(REACTOR_AUTO, rules_body, NULL);
}

static void qemu_agrees_on_what_is_in_them(void **state)
{
    run_as(REACTOR_AUTO, qemu_body, NULL);
}

int main(void)
{
    if (system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1") != 0) {
        printf("SKIP: qemu-img and qemu-io are not installed\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_are_at_their_guest_offsets),
        cmocka_unit_test(data_are_durable_before_they_are_linked),
        cmocka_unit_test(raw_files_are_the_disk),
        cmocka_unit_test(space_is_not_given_back_under_a_write),
        cmocka_unit_test(entries_that_cannot_be_are_corruption),
        cmocka_unit_test(only_allowed_files_are_opened),
        cmocka_unit_test(qemu_agrees_on_what_is_in_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
