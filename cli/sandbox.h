/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sandbox that a server enters once it is set up: whoever takes it over through a bug gets
 * little more than what it has open.
 *
 * Two walls. System calls (seccomp, where libseccomp was there at build time): what serving needs
 * is allowed; programs, debugging and the like end the process; everything else fails with EPERM,
 * as a call that was forgotten must not cost a server that others write to. Files and sockets
 * (Landlock, where the kernel has it): only below the named paths may files be opened or removed.
 * The walls need each other: io_uring goes around the first, so its rings are restricted to the
 * operations that we use (io/uring.c), and no new one can be made.
 */
#ifndef CLI_SANDBOX_H
#define CLI_SANDBOX_H

#include <stdbool.h>

#include "base/err.h"

#define SANDBOX_RULES_MAX 512

enum sandbox_access {
    SANDBOX_READ = 1,
    SANDBOX_WRITE = 2, /* create, too */
    SANDBOX_REMOVE = 4,
};

struct sandbox {
    struct sandbox_rule {
        char *path; /* a file, or a folder and all that is below it */
        unsigned access;
    } * rules;
    unsigned n_rules;
    bool any_file;   /* do not restrict which files are opened */
    bool any_socket; /* new sockets may be made, and connected */
    bool children;   /* there are some, started before: they may be ended, and waited for */
};

/* sandbox_allow: a path, which need not exist; symbolic links are followed when the sandbox is
 * entered. sandbox_allow_folder_of: the folder that holds it. */
bool sandbox_allow(struct sandbox *s, const char *path, unsigned access, struct err **errp);
bool sandbox_allow_folder_of(struct sandbox *s, const char *path, unsigned access,
                             struct err **errp);
void sandbox_free(struct sandbox *s);

/* sandbox_enter: for good, for this thread and those that it starts. The calls of threads that
 * exist already are restricted, the files are not: there must be none that handles requests. False:
 * not all of it is in force, *errp says what is not; as much as is possible is in force all the
 * same. */
bool sandbox_enter(const struct sandbox *s, struct err **errp);

/* The two walls; for sandbox_enter. */
bool sandbox_files(const struct sandbox *s, struct err **errp);
bool sandbox_calls(const struct sandbox *s, struct err **errp);

#endif
