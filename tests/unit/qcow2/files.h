/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Images in real files, in a folder of their own.
 */
#ifndef TESTS_UNIT_QCOW2_FILES_H
#define TESTS_UNIT_QCOW2_FILES_H

#include <sys/stat.h>
#include <unistd.h>

#include "block/file.h"
#include "tests/unit/qcow2/image.h"

static char folder[64];

static inline void folder_make(void)
{
    snprintf(folder, sizeof(folder), "/tmp/qcow2-test-XXXXXX");
    must(mkdtemp(folder), "mkdtemp");
}

/* at: the path of a file in the folder; a few may be in use at a time. */
static inline const char *at(const char *name)
{
    static char path[8][256];
    static unsigned next;
    char *p = path[next++ % 8];
    snprintf(p, 256, "%s/%s", folder, name);
    return p;
}

static inline void __attribute__((format(printf, 2, 3))) sh(int want, const char *fmt, ...)
{
    char cmd[2048], full[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    snprintf(full, sizeof(full), "cd %s && { %s; } >log 2>&1", folder, cmd);
    int r = system(full);
    if (WEXITSTATUS(r) != want)
        fprintf(stderr, "see %s/log\n", folder);
    must(WEXITSTATUS(r) == want, "%s: exit %d", cmd, WEXITSTATUS(r));
}

static inline void folder_remove(void)
{
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", folder);
    must(system(cmd) == 0, "%s", cmd);
}

static inline struct node *try_open(const char *name, struct qc_open_opts o, struct err **errp)
{
    char path[256];
    snprintf(path, sizeof(path), "%s", at(name));
    struct file_opts fo = {.path = path, .read_only = o.read_only};
    struct node *file = file_open(&fo, errp);
    must(file, "%s", err_msg(*errp));
    o.path = path;
    struct node *n = qc_open(file, &o, errp);
    if (!n)
        node_unref(file);
    return n;
}

static inline struct node *open_file(const char *name, bool read_only)
{
    struct err *e = NULL;
    struct node *n = try_open(name, (struct qc_open_opts){.read_only = read_only}, &e);
    must(n, "%s", err_msg(e));
    return n;
}

static inline void create_file(const char *name, struct qc_create_opts o)
{
    struct err *e = NULL;
    must(qc_create_file(at(name), &o, false, &e), "%s", err_msg(e));
}

#endif
