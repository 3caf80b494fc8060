/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Certificates and keys for tests: see tls_files.h.
 */
#include "tests/lib/tls_files.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/tls_make.h"

static char top[] = "/tmp/test_tls.XXXXXX";
char tls_dir[64], tls_other_dir[64]; /* two authorities that know nothing of each tls_other_dir */
uint8_t tls_key[64];                 /* of the user "qemu" in tls_dir */
unsigned tls_key_len;

const char *tls_file(const char *folder, const char *name)
{
    static char path[8][400];
    static unsigned turn;
    char *p = path[turn++ % 8];

    snprintf(p, sizeof(path[0]), "%s/%s", folder, name);
    return p;
}

int tls_files_make(void **state)
{
    static const char *const hosts[] = {"localhost", "127.0.0.1", "::1"};
    static const char *const users[] = {"alice", "qemu"};
    const struct tls_make_opts o = {hosts, 3, users, 2, "a client", 2};
    char line[256];

    assert_non_null(mkdtemp(top));
    snprintf(tls_dir, sizeof(tls_dir), "%s/a", top);
    snprintf(tls_other_dir, sizeof(tls_other_dir), "%s/b", top);
    assert_true(tls_make(tls_dir, &o, NULL));
    assert_true(tls_make(tls_other_dir, &o, NULL));
    FILE *f = fopen(tls_file(tls_dir, "keys.psk"), "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        if (strncmp(line, "qemu:", 5) != 0)
            continue;
        for (const char *p = line + 5; *p && *p != '\n'; p += 2)
            sscanf(p, "%2hhx", &tls_key[tls_key_len++]);
    }
    fclose(f);
    assert_int_equal(tls_key_len, 32);
    return 0;
}

void tls_remove_dir(const char *folder)
{
    struct dirent *e;
    DIR *d = opendir(folder);

    while (d && (e = readdir(d))) {
        if (e->d_name[0] != '.')
            unlink(tls_file(folder, e->d_name));
    }
    if (d)
        closedir(d);
    rmdir(folder);
}

int tls_files_remove(void **state)
{
    tls_remove_dir(tls_dir);
    tls_remove_dir(tls_other_dir);
    tls_remove_dir(top);
    return 0;
}
