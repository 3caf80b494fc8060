/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line: one file per subcommand, a table of them in main.c.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>

#include "base/err.h"

/* Exit codes, documented in breakwater(1). */
enum cli_exit {
    CLI_OK = 0,
    CLI_USAGE = 1,        /* the command line is wrong */
    CLI_FAILED = 2,       /* the work failed; nothing was published */
    CLI_DEGRADED = 3,     /* done, but less than asked: a full backup instead of an incremental */
    CLI_STATE_FAILED = 3, /* explore: a crash state failed the check */
    CLI_MISMATCH = 4,     /* verify: content differs from its manifest */
    CLI_BROKEN_CHAIN = 5, /* a layer or manifest of the chain is missing or damaged */
    CLI_RETRY = 75,       /* busy or unreachable: try again later */
};

struct subcommand {
    const char *name;
    const char *summary;               /* one line for `breakwater --help` */
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name; returns enum cli_exit */
};

extern const struct subcommand serve_command, backup_command, restore_command, verify_command,
    image_command, faults_command, daemon_command, ctl_command, tls_command, explore_command;

/* What the program is when it is started under the name qemu-nbd; no word of the command line. */
extern const struct subcommand qemu_nbd_command;

/* cli_fail: print "breakwater: MESSAGE" on standard error, free e, return code. */
int cli_fail(enum cli_exit code, struct err *e);
/* cli_usage: print "breakwater SUB: MESSAGE" and a hint at --help; returns CLI_USAGE. */
int cli_usage(const char *sub, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
