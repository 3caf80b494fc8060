/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Hash files of backups. The disk's size and the uuid that the header names are taken as expected,
 * so that the records behind it are reached; then the file is walked block by block and by runs.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup-client/hashes.h"
#include "base/bytes.h"
#include "fuzz/fuzz.h"

static char path[64];

static void forget(void)
{
    unlink(path);
}

static int new_file(void)
{
    if (!path[0]) {
        snprintf(path, sizeof(path), "/tmp/bw-fuzz-hashes-%ld", (long)getpid());
        atexit(forget);
    }
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
}

static void walk(struct hash_reader *r, uint64_t blocks)
{
    struct digest root;
    for (uint64_t block = 0, run, n = 0; block < blocks && n < 10000; block += run, n++) {
        enum hash_kind kind;
        const struct digest *digests;
        struct err *e = NULL;
        if (!hash_reader_at(r, block, &kind, &run, &digests, &e)) {
            err_free(e);
            return;
        }
        if (run == 0 || run > blocks - block || (kind == HASH_DATA) != (digests != NULL))
            abort();
        /* Touch all of them, for the sanitizer. */
        unsigned sum = 0;
        for (uint64_t i = 0; digests && i < run; i++)
            sum += digests[i].v[DIGEST_LEN - 1];
        if (sum > 255 * HASH_RUN_MAX)
            abort();
    }
    (void)hash_reader_finish(r, &root, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct uuid uuid = {{0}};
    uint64_t disk_size = 65536;
    struct err *e = NULL;
    int fd = new_file();

    if (fd < 0 || !digest_init(NULL) || write(fd, data, size) != (ssize_t)size)
        abort();
    close(fd);
    if (size >= 40) {
        disk_size = get_be64(data + 16) & INT64_MAX;
        memcpy(uuid.v, data + 24, UUID_LEN);
    }
    struct hash_reader *r = hash_reader_open(AT_FDCWD, path, &uuid, disk_size, &e);
    if (r)
        walk(r, div_round_up(disk_size, BACKUP_BLOCK));
    else if (!e)
        abort();
    err_free(e);
    hash_reader_free(r);
    return 0;
}
