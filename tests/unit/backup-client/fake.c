/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/unit/backup-client/fake.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup-client/files.h"
#include "backup-client/hashes.h"
#include "backup-client/merge.h"
#include "backup-client/publish.h"
#include "base/mem.h"

char fake_repo[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

int fake_setup(void **state)
{
    strcpy(fake_repo, "/tmp/bw-test-XXXXXX");
    return mkdtemp(fake_repo) && digest_init(NULL) ? 0 : -1;
}

int fake_teardown(void **state)
{
    return nftw(fake_repo, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void fake_open(struct disk_repo *d)
{
    struct err *e = NULL;
    if (!disk_open(fake_repo, "d", true, d, &e))
        fail_msg("%s", err_msg(e));
}

struct digest fake_content(unsigned n)
{
    struct digest d;
    assert_true(digest_bytes(&n, sizeof(n), &d));
    return d;
}

void fake_prepare(struct disk_repo *d, const struct backup *parent, uint64_t first, uint64_t count,
                  unsigned n, struct manifest *m)
{
    char file[REPO_NAME_MAX];
    struct digest content = fake_content(n);
    struct chain chain = {0};
    *m = (struct manifest){.sequence = disk_next_sequence(d), .size = FAKE_SIZE};
    uuid_new(&m->uuid);
    m->created = 1700000000 + n;
    m->disk = mem_strdup("d");
    m->source_uri = mem_strdup("nbd://localhost/d");
    m->source_export = mem_strdup("d");
    m->has_checkpoint = true;
    m->data_bytes = count * BACKUP_BLOCK;
    m->layer_size = 5;
    if (parent) {
        m->has_parent = true;
        m->parent = parent->uuid;
        m->parent_manifest = parent->manifest_digest;
        assert_true(chain_resolve(d, (struct backup *)parent, &chain, NULL));
    }
    assert_true(file_write_durable(d->dir_fd, repo_file(file, &m->uuid, LAYER_EXT, true), "layer",
                                   5, NULL));
    int fd = openat(d->dir_fd, repo_file(file, &m->uuid, HASH_EXT, true),
                    O_WRONLY | O_CREAT | O_EXCL, 0666);
    struct hash_writer *w = hash_writer_new(fd, file, &m->uuid, m->size, NULL);
    assert_non_null(w);
    for (uint64_t i = 0; i < count; i++)
        assert_true(hash_writer_data(w, first + i, &content, NULL));
    assert_true(hash_writer_end(w, &m->layer_root, NULL));
    hash_writer_free(w);
    close(fd);
    struct merge *mg = merge_new(d, &chain, chain.n, &m->uuid, m->size, NULL);
    assert_non_null(mg);
    assert_true(merge_root(mg, &m->disk_root, NULL));
    merge_free(mg);
    chain_free(&chain);
}

struct backup *fake_find(struct disk_repo *d, uint64_t n)
{
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    return disk_find(d, text, NULL);
}

struct uuid fake_backup(struct disk_repo *d, uint64_t parent_sequence, uint64_t first,
                        uint64_t count, unsigned n)
{
    struct manifest m;
    struct err *e = NULL;
    fake_prepare(d, parent_sequence ? fake_find(d, parent_sequence) : NULL, first, count, n, &m);
    struct uuid u = m.uuid;
    if (!publish(d, &m, &e))
        fail_msg("%s", err_msg(e));
    manifest_free(&m);
    assert_true(disk_scan(d, NULL));
    return u;
}

void fake_edit(struct disk_repo *d, uint64_t n, const char *from, const char *to)
{
    char file[REPO_NAME_MAX];
    size_t len;
    struct backup *b = fake_find(d, n);
    assert_non_null(b);
    repo_file(file, &b->uuid, MANIFEST_EXT, false);
    char *text = file_read_small(d->dir_fd, file, MANIFEST_MAX_BYTES, &len, NULL);
    assert_non_null(text);
    char *at = strstr(text, from);
    if (!at)
        fail_msg("no '%s' in the manifest", from);
    char *edited = mem_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_int_equal(unlinkat(d->dir_fd, file, 0), 0);
    assert_true(file_write_durable(d->dir_fd, file, edited, strlen(edited), NULL));
    mem_free(edited);
    mem_free(text);
    assert_true(disk_scan(d, NULL));
}

unsigned fake_files(struct disk_repo *d, unsigned *tmp)
{
    unsigned n = 0;
    struct dirent *e;
    DIR *dir = opendir(d->path);
    assert_non_null(dir);
    *tmp = 0;
    while ((e = readdir(dir))) {
        n += e->d_name[0] == 'G';
        *tmp += strstr(e->d_name, ".tmp") != NULL;
    }
    closedir(dir);
    return n;
}
