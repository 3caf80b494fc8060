/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Feeds files to a fuzz target, where libFuzzer is not at hand: the arguments are files and
 * directories of files. Fails if there is nothing to feed, since a test of nothing proves nothing.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz/fuzz.h"

static unsigned fed;

static int feed_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data;
    long size;

    if (!f || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0) {
        perror(path);
        if (f)
            fclose(f);
        return 1;
    }
    rewind(f);
    /* Exactly as many bytes as there are, so that a sanitizer sees a read past them. */
    data = malloc(size);
    if ((size > 0 && !data) || fread(data, 1, size, f) != (size_t)size) {
        perror(path);
        free(data);
        fclose(f);
        return 1;
    }
    fclose(f);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    fed++;
    return 0;
}

static int feed(const char *path)
{
    struct dirent **names;
    struct stat st;
    int n, ret = 0;

    if (stat(path, &st) != 0) {
        perror(path);
        return 1;
    }
    if (!S_ISDIR(st.st_mode))
        return feed_file(path);
    n = scandir(path, &names, NULL, alphasort);
    if (n < 0) {
        perror(path);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char file[4096];

        snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            ret |= feed(file);
        free(names[i]);
    }
    free(names);
    return ret;
}

int main(int argc, char **argv)
{
    int ret = 0;

    for (int i = 1; i < argc; i++)
        ret |= feed(argv[i]);
    if (fed == 0) {
        fprintf(stderr, "no input files given\n");
        return 1;
    }
    return ret;
}
