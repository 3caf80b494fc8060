/* SPDX-License-Identifier: BSD-3-Clause
 *
 * breakwater tls init DIR: what is needed to try TLS, in one command.
 */
#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "cli/args.h"
#include "cli/cli.h"
#include "io/tls_make.h"

#define NAMES_MAX 32
#define DEFAULT_DAYS 3650

enum { OPT_HOST = 256, OPT_USER, OPT_CLIENT, OPT_DAYS };

static const struct option long_options[] = {
    {"host", required_argument, NULL, OPT_HOST},
    {"user", required_argument, NULL, OPT_USER},
    {"client", required_argument, NULL, OPT_CLIENT},
    {"days", required_argument, NULL, OPT_DAYS},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static const char help_text[] =
    "Usage: breakwater tls init [OPTION]... DIR\n"
    "Make certificates and keys for trying TLS: an authority, a server, a client, and a file of\n"
    "pre-shared keys, under the names that QEMU, libnbd and nbdkit look for. Nothing is "
    "overwritten.\n"
    "\n"
    "      --host NAME       the server is also known by this name or IP address; repeatable\n"
    "      --user NAME       a user with a pre-shared key; repeatable [qemu, and who calls]\n"
    "      --client NAME     common name in the client's certificate [client]\n"
    "      --days N          how long the certificates are valid [3650]\n"
    "  -h, --help\n";

struct names {
    const char *v[NAMES_MAX];
    unsigned n;
};

/* A name ends up in a certificate and in a file of lines: no more than names are made of. */
static bool add_name(struct names *l, const char *name, const char *option, const char *special,
                     struct err **errp)
{
    if (!*name || strlen(name) > 64)
        return err_set(errp, EINVAL, "%s: a name has 1 to 64 bytes", option);
    for (const char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr(special, *p))
            return err_set(errp, EINVAL, "%s: '%s': letters, digits and %s make a name", option,
                           name, special);
    }
    for (unsigned i = 0; i < l->n; i++) {
        if (strcmp(l->v[i], name) == 0)
            return true;
    }
    if (l->n == NAMES_MAX)
        return err_set(errp, E2BIG, "%s: at most %d are possible", option, NAMES_MAX);
    l->v[l->n++] = name;
    return true;
}

struct job {
    struct names hosts, users;
    struct tls_make_opts make;
    const char *dir;
};

static bool take_option(struct job *j, int opt, const char *arg, struct err **errp)
{
    struct names client = {.n = 0};
    uint64_t v;

    switch (opt) {
    case OPT_HOST:
        return add_name(&j->hosts, arg, "--host", "-.:*", errp);
    case OPT_USER:
        return add_name(&j->users, arg, "--user", "-._@", errp);
    case OPT_CLIENT:
        j->make.client = arg;
        return add_name(&client, arg, "--client", "-._@ ", errp);
    case OPT_DAYS:
        if (!parse_u64(arg, "--days", 1, 36500, &v, errp))
            return false;
        j->make.days = (unsigned)v;
        return true;
    }
    return err_set(errp, EINVAL, "option %d has no meaning", opt);
}

/* What QEMU and libnbd call themselves when nobody tells them a user. */
static void add_usual_users(struct job *j)
{
    const struct passwd *pw = getpwuid(getuid());

    add_name(&j->users, "qemu", "--user", "", NULL);
    if (pw)
        add_name(&j->users, pw->pw_name, "--user", "-._@", NULL);
}

static enum cli_exit parse(int argc, char **argv, struct job *j)
{
    struct err *e = NULL;
    int opt;

    struct args a = args_begin(argc, argv, ":h", long_options);
    while ((opt = args_next(&a, &e)) != ARGS_END) {
        if (opt == 'h') {
            fputs(help_text, stdout);
            return CLI_OK;
        }
        if (opt == ARGS_WRONG || !take_option(j, opt, optarg, &e)) {
            int code = cli_usage("tls", "%s", err_msg(e));
            err_free(e);
            return (enum cli_exit)code;
        }
    }
    if (optind == argc || strcmp(argv[optind], "init") != 0)
        return cli_usage("tls", "there is one thing to do: init");
    if (optind + 2 != argc)
        return cli_usage("tls",
                         optind + 1 == argc ? "the folder is missing" : "one folder at a time");
    j->dir = argv[optind + 1];
    return CLI_OK;
}

static void explain(const char *dir)
{
    printf("Made in %s: an authority, certificates of a server and a client, and keys.psk.\n"
           "To try it, with certificates on both sides:\n"
           "  breakwater serve --tls-certificates %s --tls-verify-peer IMAGE\n"
           "  nbdinfo 'nbds://localhost/?tls-certificates=%s'\n"
           "or with a pre-shared key:\n"
           "  breakwater serve --tls-psk %s/keys.psk IMAGE\n"
           "  nbdinfo 'nbds://localhost/?tls-psk-file=%s/keys.psk'\n",
           dir, dir, dir, dir, dir);
}

static int tls_run(int argc, char **argv)
{
    struct job j = {.make = {.client = "client", .days = DEFAULT_DAYS}};
    struct err *e = NULL;

    /* Always by these names: who tries it does so on one machine first. */
    add_name(&j.hosts, "localhost", "--host", "", NULL);
    add_name(&j.hosts, "127.0.0.1", "--host", ".", NULL);
    add_name(&j.hosts, "::1", "--host", ":", NULL);
    enum cli_exit code = parse(argc, argv, &j);
    if (code != CLI_OK || !j.dir)
        return code;
    if (j.users.n == 0)
        add_usual_users(&j);
    j.make.hosts = j.hosts.v;
    j.make.n_hosts = j.hosts.n;
    j.make.users = j.users.v;
    j.make.n_users = j.users.n;
    if (!tls_make(j.dir, &j.make, &e))
        return cli_fail(CLI_FAILED, e);
    explain(j.dir);
    return CLI_OK;
}

const struct subcommand tls_command = {
    .name = "tls",
    .summary = "make certificates and keys for trying TLS",
    .run = tls_run,
};
