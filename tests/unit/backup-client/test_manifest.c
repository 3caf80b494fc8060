/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tests/unit/backup-client/fake.h"

static void fill(struct manifest *m, bool incremental)
{
    struct digest d = fake_content(1), e = fake_content(2), f = fake_content(3);
    *m = (struct manifest){
        .sequence = 42,
        .has_parent = incremental,
        .created = 1767225599,
        .size = UINT64_C(1) << 50,
        .has_checkpoint = incremental,
        .live = !incremental,
        .data_bytes = 123456789,
        .zero_bytes = 65536,
        .layer_size = 99,
        .layer_root = d,
        .disk_root = e,
    };
    uuid_new(&m->uuid);
    if (incremental) {
        uuid_new(&m->parent);
        m->parent_manifest = f;
        m->bitmap = mem_strdup("daily \"1\"");
    }
    m->disk = mem_strdup("vm-7.sda");
    m->source_uri = mem_strdup("nbd+unix:///x?socket=/run/d.sock");
    m->source_export = mem_strdup("x/\xc3\xa4");
}

static char *text_of(bool incremental)
{
    struct manifest m;
    fill(&m, incremental);
    char *text = manifest_format(&m);
    assert_non_null(text);
    manifest_free(&m);
    return text;
}

static void what_is_written_is_read_back(void **state)
{
    for (int inc = 0; inc < 2; inc++) {
        struct manifest m, r;
        struct err *e = NULL;
        fill(&m, inc);
        char *text = manifest_format(&m);
        assert_non_null(text);
        if (!manifest_parse(text, strlen(text), "f", &r, &e))
            fail_msg("%s", err_msg(e));
        char *again = manifest_format(&r);
        assert_string_equal(text, again);
        assert_int_equal(r.sequence, 42);
        assert_int_equal(r.has_parent, inc);
        assert_int_equal(r.size, UINT64_C(1) << 50);
        assert_int_equal(r.live, !inc);
        assert_true(digest_equal(&r.disk_root, &m.disk_root));
        assert_true(!inc || digest_equal(&r.parent_manifest, &m.parent_manifest));
        mem_free(text);
        mem_free(again);
        manifest_free(&m);
        manifest_free(&r);
    }
}

/* One edit to a sound manifest, and what the message must name. */
struct edit {
    const char *from, *to, *says;
};

static void expect_refused(const char *text, size_t len, const char *says)
{
    struct manifest m;
    struct err *e = NULL;
    if (manifest_parse(text, len, "Gx.json", &m, &e))
        fail_msg("accepted: %s", text);
    if (!strstr(err_msg(e), says) || !strstr(err_msg(e), "Gx.json"))
        fail_msg("the message does not name file and '%s': %s", says, err_msg(e));
    assert_true(err_code(e) == EBADMSG || err_code(e) == ENOTSUP);
    err_free(e);
}

static void apply(const char *base, const struct edit *ed)
{
    const char *at = strstr(base, ed->from);
    if (!at) {
        fail_msg("nothing to edit for '%s'", ed->says);
        return;
    }
    char *bad = mem_printf("%.*s%s%s", (int)(at - base), base, ed->to, at + strlen(ed->from));
    expect_refused(bad, strlen(bad), ed->says);
    mem_free(bad);
}

static void hostile_fields_are_refused_by_name(void **state)
{
    static const struct edit edits[] = {
        {"\"format\": \"breakwater-backup\"", "\"format\": \"other\"", "format"},
        {"\"format\": \"breakwater-backup\"", "\"format\": 1", "format"},
        {"\"version\": 1", "\"version\": 2", "version"},
        {"\"version\": 1", "\"version\": \"1\"", "version"},
        {"\"sequence\": 42", "\"sequence\": 0", "sequence"},
        {"\"sequence\": 42", "\"sequence\": -1", "sequence"},
        {"\"sequence\": 42", "\"sequence\": 1.5", "sequence"},
        {"\"sequence\": 42", "\"sequence\": 99999999999999999999", "line"},
        {"\"sequence\": 42", "\"sequence\": 42, \"sequence\": 43", "duplicate"},
        {"\"sequence\": 42,", "", "sequence"},
        {"\"uuid\": \"", "\"uuid\": \"../", "uuid"},
        {"2025-12-31T23:59:59Z", "2025-12-31 23:59:59", "created"},
        {"2025-12-31T23:59:59Z", "2025-02-31T23:59:59Z", "created"},
        {"\"disk\": \"vm-7.sda\"", "\"disk\": null", "disk"},
        {"\"disk\": \"vm-7.sda\"", "\"disk\": \"a\\u0000b\"", "line"},
        {"\"level\": \"incremental\"", "\"level\": \"full\"", "parent"},
        {"\"level\": \"incremental\"", "\"level\": \"differential\"", "level"},
        {"\"manifest_sha256\": \"", "\"manifest_sha256\": \"00", "manifest_sha256"},
        {"\"size\": 1125899906842624", "\"size\": 0", "size"},
        {"\"size\": 1125899906842624", "\"size\": 9223372036854775807", "size"},
        {"\"size\": 1125899906842624", "\"size\": 65536", "data_bytes"},
        {"\"block_size\": 65536", "\"block_size\": 4096", "block_size"},
        {"\"algorithm\": \"sha256\"", "\"algorithm\": \"md5\"", "algorithm"},
        {"\"disk_root\": \"", "\"disk_root\": \"g", "disk_root"},
        {"\"layer_root\": \"", "\"layer_rot\": \"", "layer_root"},
        {"\"live\": false", "\"live\": 0", "live"},
        {"\"checkpoint\": \"bw-", "\"checkpoint\": \"bx-", "checkpoint"},
        {"\"source\": {", "\"source\": [], \"sauce\": {", "source"},
    };
    char *base = text_of(true);
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++)
        apply(base, &edits[i]);
    mem_free(base);
}

static void what_is_no_manifest_is_refused(void **state)
{
    static char big[MANIFEST_MAX_BYTES + 2];
    char *deep = mem_alloc(40001);
    memset(deep, '[', 40000);
    deep[40000] = '\0';
    expect_refused("", 0, "line");
    expect_refused("[]", 2, "object");
    expect_refused("null", 4, "line");
    expect_refused("{}", 2, "format");
    expect_refused("{}{}", 4, "line");
    expect_refused(deep, 40000, "nested");
    /* Brackets in a string nest nothing, whatever quotes it holds. */
    memcpy(deep, "[\"\\\"", 4);
    memcpy(deep + 39998, "\"]", 2);
    expect_refused(deep, 40000, "object");
    memset(big, ' ', sizeof(big));
    expect_refused(big, sizeof(big), "longer");
    mem_free(deep);
}

/* Replay: run with the seed that is printed. */
static void mutated_manifests_never_crash(void **state)
{
    char *base = text_of(true);
    size_t len = strlen(base);
    char *copy = mem_alloc(len + 1);
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct rng rng;
        struct manifest m;
        rng_seed(&rng, seed);
        memcpy(copy, base, len + 1);
        for (uint64_t n = 1 + rng_below(&rng, 3); n > 0; n--)
            copy[rng_below(&rng, len)] = (char)rng_below(&rng, 256);
        struct err *e = NULL;
        if (manifest_parse(copy, rng_below(&rng, 8) ? len : rng_below(&rng, len), "f", &m, &e)) {
            char *again = manifest_format(&m);
            if (!again)
                fail_msg("seed %llu: accepted but not writable", (unsigned long long)seed);
            mem_free(again);
            manifest_free(&m);
        }
        err_free(e);
    }
    mem_free(copy);
    mem_free(base);
}

static void no_memory_is_an_error_not_a_crash(void **state)
{
    char *base = text_of(true);
    bool ok = false;
    for (uint64_t nth = 1; !ok; nth++) {
        struct manifest m;
        struct err *e = NULL;
        mem_fail_nth(nth, 0);
        ok = manifest_parse(base, strlen(base), "f", &m, &e);
        mem_fail_nth(0, 0);
        if (ok)
            manifest_free(&m);
        else
            assert_non_null(e);
        err_free(e);
        assert_true(nth < 100);
    }
    mem_free(base);
}

static void disk_names_cannot_leave_the_repository(void **state)
{
    static const char *const good[] = {"disk", "vm 7", "a..b", "x.qcow2", "\xc3\xa4", "a:b"};
    static const char *const bad[] = {"", ".", "..", "../x", "a/b", "/", "-x", ".x", "a@b", "a\n"};
    char longest[DISK_NAME_MAX + 2];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(disk_name_check(good[i], NULL));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err *e = NULL;
        if (disk_name_check(bad[i], &e))
            fail_msg("'%s' was accepted", bad[i]);
        err_free(e);
    }
    memset(longest, 'a', sizeof(longest));
    longest[DISK_NAME_MAX + 1] = '\0';
    assert_false(disk_name_check(longest, NULL));
    longest[DISK_NAME_MAX] = '\0';
    assert_true(disk_name_check(longest, NULL));
}

static int setup(void **state)
{
    return digest_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(hostile_fields_are_refused_by_name),
        cmocka_unit_test(what_is_no_manifest_is_refused),
        cmocka_unit_test(mutated_manifests_never_crash),
        cmocka_unit_test(no_memory_is_an_error_not_a_crash),
        cmocka_unit_test(disk_names_cannot_leave_the_repository),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
