/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changing the backing file in the header: a power cut at any moment leaves the old name or the new
 * one, each with its format, and every other extension as it was.
 */
#include <errno.h>

#include "qcow2/inspect.h"
#include "tests/unit/qcow2/image.h"

#define EXT_TYPE UINT32_C(0x1234abcd) /* unknown to everybody */
#define EXT_SKIP UINT32_C(0x736b6970)
#define EXT_NAMES UINT32_C(0x6803f857)
#define MAX_CLUSTER 65536

static const struct change_case {
    uint32_t version, cluster_size, ext_len, names_len;
    const char *from, *to;     /* NULL: none; "raw..." and "qcow2..." tell the format, too */
    unsigned from_pad, to_pad; /* bytes of '/' after the name */
    bool no_room, drops_names;
} cases[] = {
    {3, 4096, 0, 0, NULL, "raw a", 0, 0, false, false},
    {3, 4096, 0, 0, "raw a", "qcow2 longer", 0, 0, false, false},
    {3, 4096, 0, 0, "raw a", NULL, 0, 0, false, false},
    {2, 512, 16, 0, "qcow2 a", "raw b", 0, 0, false, false},
    {3, 4096, 600, 0, NULL, "qcow2 b", 0, 0, false, false},
    {3, 4096, 600, 0, "raw a", "qcow2 b", 0, 0, false, false},
    {3, 4096, 600, 48, "qcow2 a", NULL, 0, 0, false, false},
    {3, 65536, 5000, 336, "raw a", "qcow2 b", 900, 1000, false, false},
    {2, 65536, 100, 0, "qcow2 a", "raw b", 1000, 900, false, false},
    {3, 1024, 0, 336, "raw a", "qcow2 b", 20, 200, false, true},
    {3, 1024, 200, 336, NULL, "qcow2 b", 0, 20, false, true},
    {3, 512, 0, 0, "raw a", "qcow2 b", 0, 500, true, false},
    {3, 1024, 500, 0, "raw a", "qcow2 b", 0, 400, true, false},
};

static const struct change_case *now;
static uint64_t n_old, n_new;

/* "raw a" with 3 bytes of padding: the format "raw", the name "a///". */
static char *name_of(const char *text, unsigned pad, char *format)
{
    const char *blank = strchr(text, ' ');
    char *name = mem_zalloc(strlen(blank) + pad);
    memcpy(format, text, (size_t)(blank - text));
    format[blank - text] = '\0';
    strcpy(name, blank + 1);
    memset(name + strlen(blank + 1), '/', pad);
    return name;
}

static uint8_t *put_ext(uint8_t *p, uint32_t type, uint32_t len)
{
    put_be32(p, type);
    put_be32(p + 4, len);
    for (uint32_t i = 0; i < len; i++)
        p[8 + i] = type == EXT_NAMES ? 0 : (uint8_t)(i * 7 + 1);
    return p + 8 + round_up(len, 8);
}

/* An image with foreign extensions, as other programs leave them. */
static struct sim_disk *make_image(const struct change_case *c)
{
    const struct qc_create_opts o = {
        .size = 65536, .version = c->version, .cluster_size = c->cluster_size};
    struct sim_disk *d = image_new(&o);
    uint64_t len = sim_disk_size(d);
    uint8_t *image = mem_alloc(len);
    char format[16];
    sim_disk_peek(d, 0, image, len);
    uint64_t header_len = c->version < 3 ? 72 : get_be32(image + 100);
    memset(image + header_len, 0, c->cluster_size - header_len);
    uint8_t *p = image + header_len;
    if (c->ext_len)
        p = put_ext(p, EXT_TYPE, c->ext_len);
    char *name = c->from ? name_of(c->from, c->from_pad, format) : NULL;
    if (name) {
        put_be32(p, 0xe2792aca);
        put_be32(p + 4, (uint32_t)strlen(format));
        memcpy(p + 8, format, strlen(format));
        p += 16;
    }
    if (c->names_len)
        p = put_ext(p, EXT_NAMES, c->names_len);
    p += 8;
    if (name) {
        put_be64(image + 8, (uint64_t)(p - image));
        put_be32(image + 16, (uint32_t)strlen(name));
        memcpy(p, name, strlen(name));
        p += strlen(name);
    }
    must(p <= image + c->cluster_size, "the case is too large");
    must(sim_disk_load(d, image, len), "memory");
    mem_free(name);
    mem_free(image);
    return d;
}

/* Find an extension by the rules of the format; 0: there is none. */
static uint64_t find_ext(const uint8_t *image, const struct change_case *c, uint32_t type)
{
    uint64_t at = c->version < 3 ? 72 : get_be32(image + 100), name = get_be64(image + 8);
    uint64_t end = name ? name : c->cluster_size;
    while (at + 8 <= end && get_be32(image + at)) {
        if (get_be32(image + at) == type)
            return at;
        at += 8 + round_up(get_be32(image + at + 4), 8);
    }
    return 0;
}

static bool names(const struct qc_image_info *info, const char *text, unsigned pad)
{
    char format[16];
    if (!text || !info->backing_name)
        return !text && !info->backing_name;
    char *name = name_of(text, pad, format);
    bool same = strcmp(info->backing_name, name) == 0 && info->backing_format &&
                strcmp(info->backing_format, format) == 0;
    mem_free(name);
    return same;
}

/* 0: the old name is there, 1: the new one. */
static int judge(struct sim_disk *d, const struct change_case *c)
{
    static uint8_t first[MAX_CLUSTER];
    struct qc_image_info info = {0};
    struct err *e = NULL;
    struct node *file = sim_open(d, true, &e);
    must(qc_inspect(file, &info, &e), "case %ld: %s", (long)(c - cases), err_msg(e));
    bool is_old = names(&info, c->from, c->from_pad), is_new = names(&info, c->to, c->to_pad);
    must(is_old || is_new, "case %ld: the backing file is '%s' (%s)", (long)(c - cases),
         info.backing_name ? info.backing_name : "none",
         info.backing_format ? info.backing_format : "no format");
    sim_disk_peek(d, 0, first, c->cluster_size);
    uint64_t at = find_ext(first, c, EXT_TYPE);
    must(!c->ext_len || at, "the foreign extension is gone");
    for (uint32_t i = 0; i < c->ext_len; i++)
        must(first[at + 8 + i] == (uint8_t)(i * 7 + 1), "the foreign extension was damaged");
    must(!c->names_len || c->drops_names || find_ext(first, c, EXT_NAMES), "no feature names");
    qc_image_info_free(&info);
    node_unref(file);
    return is_new;
}

static bool visit(struct sim_disk *d, const struct sim_crash *how, void *arg)
{
    if (judge(d, arg))
        n_new++;
    else
        n_old++;
    return true;
}

static bool change(struct sim_disk *d, const struct change_case *c, struct err **errp)
{
    const struct qc_open_opts o = {.no_backing = true};
    struct node *n = image_open(d, &o);
    char format[16];
    char *name = c->to ? name_of(c->to, c->to_pad, format) : NULL;
    bool ok = qc_set_backing(n, name, format, errp);
    mem_free(name);
    node_unref(n);
    return ok;
}

static void one_case(void *arg)
{
    const struct change_case *c = arg;
    static uint8_t first[MAX_CLUSTER];
    struct sim_disk *d = make_image(c);
    struct err *e = NULL;
    must(sim_log_mark(d), "memory");
    bool ok = change(d, c, &e);
    must(ok == !c->no_room, "case %ld: %s", (long)(c - cases), ok ? "no error" : err_msg(e));
    must(ok || err_code(e) == ENOSPC, "%s", err_msg(e));
    err_free(e);
    must(judge(d, c) == ok, "case %ld: the end has another name", (long)(c - cases));
    sim_disk_peek(d, 0, first, c->cluster_size);
    must(!find_ext(first, c, EXT_SKIP), "the skip stays");
    image_judge(d, false, "afterwards");
    n_old = n_new = 0;
    const struct sim_explore x = {.seed = 1, .max_full_bits = 12, .samples = 200, .unit = 512};
    sim_explore(d, &x, visit, (void *)c);
    must(c->no_room || (n_old && n_new), "states: %lu old, %lu new", (unsigned long)n_old,
         (unsigned long)n_new);
    sim_disk_free(d);
}

static void a_power_cut_leaves_the_old_or_the_new_backing_file(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        now = &cases[i];
        run_sim(one_case, (void *)now);
    }
}

static void failing_case(void *arg)
{
    const struct change_case *c = arg;
    for (uint64_t nth = 1, fired = 1; fired; nth++) {
        struct sim_disk *d = make_image(c);
        struct err *e = NULL;
        const struct qc_open_opts o = {.no_backing = true};
        struct node *n = image_open(d, &o);
        char format[16];
        char *name = c->to ? name_of(c->to, c->to_pad, format) : NULL;
        const struct sim_fail f = {.nth = nth, .error = EIO, .partial = nth % 2};
        sim_fail_nth(d, &f);
        bool ok = qc_set_backing(n, name, format, &e);
        fired = sim_fired(d);
        must(ok != fired, "I/O %lu: %s", (unsigned long)nth, err_msg(e));
        err_free(e);
        mem_free(name);
        sim_fail_nth(d, &(struct sim_fail){0});
        node_unref(n);
        judge(d, c);
        sim_disk_free(d);
    }
}

static void a_failed_write_leaves_the_old_or_the_new_backing_file(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (!cases[i].no_room)
            run_sim(failing_case, (void *)&cases[i]);
}

static void bad_names(void *arg)
{
    struct sim_disk *d = make_image(&cases[0]);
    const struct qc_open_opts o = {.no_backing = true};
    struct node *n = image_open(d, &o);
    struct err *e = NULL;
    char name[1100] = "";
    must(!qc_set_backing(n, "", "raw", &e) && err_code(e) == EINVAL, "empty");
    err_free(e);
    e = NULL;
    must(!qc_set_backing(n, "a", NULL, &e) && err_code(e) == EINVAL, "no format");
    err_free(e);
    e = NULL;
    memset(name, 'x', 1024);
    must(!qc_set_backing(n, name, "raw", &e) && err_code(e) == EINVAL, "1024 bytes");
    err_free(e);
    name[1023] = '\0';
    must(qc_set_backing(n, name, "raw", NULL), "1023 bytes");
    node_unref(n);
    sim_disk_free(d);
}

static void names_that_the_format_has_no_place_for_are_refused(void **state)
{
    run_sim(bad_names, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_leaves_the_old_or_the_new_backing_file),
        cmocka_unit_test(a_failed_write_leaves_the_old_or_the_new_backing_file),
        cmocka_unit_test(names_that_the_format_has_no_place_for_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
