/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Entering the sandbox, and which files stay within reach (Landlock): see sandbox.h.
 *
 * The C library has no functions for Landlock, and the headers of distributions are older than the
 * kernels that they run on: so system calls and constants are written out here, from the kernel's
 * Documentation/userspace-api/landlock.rst.
 */
#include "cli/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"

#define CREATE_RULESET 444 /* the same on all architectures */
#define ADD_RULE 445
#define RESTRICT_SELF 446
#define VERSION_FLAG 1u
#define RULE_PATH_BENEATH 1

enum { /* rights on files */
       FS_EXECUTE = 1 << 0,
       FS_WRITE_FILE = 1 << 1,
       FS_READ_FILE = 1 << 2,
       FS_READ_DIR = 1 << 3,
       FS_REMOVE_DIR = 1 << 4,
       FS_REMOVE_FILE = 1 << 5,
       FS_MAKE_REG = 1 << 8,
       FS_REFER = 1 << 13,    /* second version */
       FS_TRUNCATE = 1 << 14, /* third */
       FS_IOCTL_DEV = 1 << 15 /* fifth */
};
#define FS_FIRST ((1u << 13) - 1)
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define NET_TCP 3                                 /* bind, connect; fourth version */
enum { SCOPED_ABSTRACT = 1, SCOPED_SIGNALS = 2 }; /* sixth version */

struct ruleset { /* struct landlock_ruleset_attr */
    uint64_t fs, net, scoped;
};

struct path_rule { /* struct landlock_path_beneath_attr */
    uint64_t access;
    int32_t fd;
} __attribute__((packed));

bool sandbox_allow(struct sandbox *s, const char *path, unsigned access, struct err **errp)
{
    struct sandbox_rule *rules;

    if (s->n_rules == SANDBOX_RULES_MAX)
        return err_set(errp, E2BIG, "the sandbox has at most %d paths", SANDBOX_RULES_MAX);
    rules = mem_realloc(s->rules, (s->n_rules + 1) * sizeof(*rules));
    if (rules)
        s->rules = rules;
    char *copy = rules ? mem_strdup(path) : NULL;
    if (!copy)
        return err_set(errp, ENOMEM, "out of memory for the sandbox");
    rules[s->n_rules++] = (struct sandbox_rule){copy, access};
    return true;
}

bool sandbox_allow_folder_of(struct sandbox *s, const char *path, unsigned access,
                             struct err **errp)
{
    AUTO_FREE char *copy = mem_strdup(path);

    if (!copy)
        return err_set(errp, ENOMEM, "out of memory for the sandbox");
    return sandbox_allow(s, dirname(copy), access, errp);
}

void sandbox_free(struct sandbox *s)
{
    for (unsigned i = 0; i < s->n_rules; i++)
        mem_free(s->rules[i].path);
    mem_free(s->rules);
    *s = (struct sandbox){0};
}

static uint64_t rights(unsigned access)
{
    uint64_t fs = 0;

    if (access & SANDBOX_READ)
        fs |= FS_READ_FILE | FS_READ_DIR;
    if (access & SANDBOX_WRITE)
        fs |= FS_WRITE_FILE | FS_MAKE_REG | FS_TRUNCATE | FS_IOCTL_DEV;
    if (access & SANDBOX_REMOVE)
        fs |= FS_REMOVE_FILE | FS_REMOVE_DIR;
    return fs;
}

static bool add_rule(int set, uint64_t handled, const struct sandbox_rule *rule, struct err **errp)
{
    struct path_rule p = {.access = rights(rule->access) & handled};
    struct stat st;
    AUTO_CLOSE int fd = open(rule->path, O_PATH | O_CLOEXEC);

    if (fd < 0)
        return true; /* nothing there that could be opened */
    if (fstat(fd, &st) < 0)
        return err_set_errno(errp, errno, "the sandbox's path '%s'", rule->path);
    if (!S_ISDIR(st.st_mode))
        p.access &= FS_OF_FILES;
    p.fd = fd;
    return !p.access || syscall(ADD_RULE, set, RULE_PATH_BENEATH, &p, 0) == 0 ||
           err_set_errno(errp, errno, "the sandbox's path '%s'", rule->path);
}

static uint64_t handled_files(const struct sandbox *s, long version)
{
    uint64_t fs = FS_FIRST;

    if (s->any_file)
        return FS_EXECUTE; /* a server starts no programs */
    if (version >= 2)
        fs |= FS_REFER;
    if (version >= 3)
        fs |= FS_TRUNCATE;
    if (version >= 5)
        fs |= FS_IOCTL_DEV;
    return fs;
}

bool sandbox_files(const struct sandbox *s, struct err **errp)
{
    struct ruleset r = {0};
    long version = syscall(CREATE_RULESET, NULL, 0, VERSION_FLAG);

    if (version < 1)
        return err_set_errno(errp, version < 0 ? errno : ENOTSUP, "this kernel has no Landlock");
    r.fs = handled_files(s, version);
    if (version >= 4 && !s->any_socket)
        r.net = NET_TCP;
    if (version >= 6 && !s->any_socket)
        r.scoped = SCOPED_ABSTRACT | (s->children ? 0 : SCOPED_SIGNALS);
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    AUTO_CLOSE int set = (int)syscall(CREATE_RULESET, &r, size, 0);
    if (set < 0)
        return err_set_errno(errp, errno, "Landlock");
    for (unsigned i = 0; i < s->n_rules; i++) {
        if (!add_rule(set, r.fs, &s->rules[i], errp))
            return false;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(RESTRICT_SELF, set, 0) < 0)
        return err_set_errno(errp, errno, "Landlock");
    return true;
}

bool sandbox_enter(const struct sandbox *s, struct err **errp)
{
    struct err *e = NULL;
    bool files = sandbox_files(s, errp);
    bool calls = sandbox_calls(s, files ? errp : &e);

    err_free(e);
    return files && calls;
}
