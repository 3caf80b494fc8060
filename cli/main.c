/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The program: one table of subcommands, one table of drivers.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "block/file.h"
#include "block/mem_disk.h"
#include "block/nbd.h"
#include "block/null.h"
#include "block/sim.h"
#include "cli/cli.h"
#include "filters/filters.h"
#include "filters/log_writes.h"
#include "filters/stack.h"
#include "filters/throttle.h"
#include "qcow2/qcow2.h"

static const struct subcommand *const subcommands[] = {
    &serve_command,  &backup_command, &restore_command, &verify_command, &image_command,
    &faults_command, &daemon_command, &ctl_command,     &tls_command,    &explore_command,
};

static const struct driver *const drivers[] = {
    &file_driver,   &mem_driver,        &sim_driver,    &qcow2_driver,        &fault_driver,
    &cbw_driver,    &cbw_view_driver,   &offset_driver, &fault_guest_driver,  &raw_driver,
    &null_driver,   &throttle_driver,   &nbd_driver,    &copy_on_read_driver, &compress_driver,
    &verify_driver, &log_writes_driver,
};

int cli_fail(enum cli_exit code, struct err *e)
{
    fprintf(stderr, "breakwater: %s\n", err_msg(e));
    err_free(e);
    return code;
}

int cli_usage(const char *sub, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "breakwater%s%s: ", sub ? " " : "", sub ? sub : "");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nTry 'breakwater%s%s --help'.\n", sub ? " " : "", sub ? sub : "");
    return CLI_USAGE;
}

static int help(void)
{
    printf("Usage: breakwater COMMAND [OPTION]... [ARGUMENT]...\n"
           "Serve qcow2 disk images over NBD, break them on purpose, back them up incrementally.\n"
           "\nCommands:\n");
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
        printf("  %-10s %s\n", subcommands[i]->name, subcommands[i]->summary);
    printf("\n'breakwater COMMAND --help' tells more; so does the manual page breakwater(1).\n");
    return CLI_OK;
}

/* Descriptors 0, 1 and 2 exist from here on: else the next file that is opened, maybe a disk image,
 * would get such a number, and messages would be written to it. */
static bool fill_standard_streams(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* is_called: started under this name, as by a link. */
static bool is_called(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');

    return strcmp(slash ? slash + 1 : path, name) == 0;
}

int main(int argc, char **argv)
{
    if (!fill_standard_streams())
        return CLI_FAILED;
    signal(SIGXFSZ, SIG_IGN); /* past a file size limit: an error, as of a full disk */
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        driver_register(drivers[i]);
    if (argc > 0 && is_called(argv[0], "qemu-storage-daemon"))
        return daemon_command.run(argc, argv);
    if (argc > 0 && is_called(argv[0], "qemu-nbd"))
        return qemu_nbd_command.run(argc, argv);
    if (argc < 2)
        return cli_usage(NULL, "a command is missing");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return help();
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("breakwater %s\n", BREAKWATER_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++) {
        if (strcmp(argv[1], subcommands[i]->name) == 0)
            return subcommands[i]->run(argc - 1, argv + 1);
    }
    return cli_usage(NULL, "there is no command '%s'", argv[1]);
}
