/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Parsing of serve's command line. Letters and their meanings are qemu-nbd's, long names of nbdkit
 * are taken as aliases. Everything that can be judged without opening a file is judged here, so
 * that a wrong command line is always told from work that failed.
 */
#include "cli/serve_opts.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/parse.h"
#include "bitmap/bitmap.h"
#include "faults/fault.h"
#include "filters/filters.h"

#define MAX_BITMAPS 64
#define LONGEST_MS (UINT64_C(100) * 365 * 24 * 3600 * 1000)
#define MAX_FAULTS 256
#define DEFAULT_PORT 10809 /* IANA */

enum {
    OPT_FAULTS = 256,
    OPT_FAULT,
    OPT_FAULT_SEED,
    OPT_CHECKPOINTS,
    OPT_NO_CHECKPOINTS,
    OPT_SCRATCH_DIR,
    OPT_SCRATCH_LIMIT,
    OPT_CACHE,
    OPT_DISCARD,
    OPT_HANDSHAKE_LIMIT,
    OPT_MAX_REQUESTS,
    OPT_MAX_BYTES,
    OPT_MAX_CHECKPOINTS,
    OPT_VIEW_GRACE,
    OPT_BACKING_DIR,
    OPT_PID_FILE,
    OPT_FORK,
    OPT_LOG_LEVEL,
    OPT_PRINT_URI,
    OPT_NO_LOCK,
};

static const struct option long_options[] = {
    {"socket", required_argument, NULL, 'k'},
    {"unix", required_argument, NULL, 'k'},
    {"port", required_argument, NULL, 'p'},
    {"bind", required_argument, NULL, 'b'},
    {"ipaddr", required_argument, NULL, 'b'},
    {"export-name", required_argument, NULL, 'x'},
    {"exportname", required_argument, NULL, 'x'},
    {"description", required_argument, NULL, 'D'},
    {"shared", required_argument, NULL, 'e'},
    {"max-connections", required_argument, NULL, 'e'},
    {"persistent", no_argument, NULL, 't'},
    {"read-only", no_argument, NULL, 'r'},
    {"readonly", no_argument, NULL, 'r'},
    {"format", required_argument, NULL, 'f'},
    {"bitmap", required_argument, NULL, 'B'},
    {"nocache", no_argument, NULL, 'n'},
    {"offset", required_argument, NULL, 'o'},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"faults", required_argument, NULL, OPT_FAULTS},
    {"fault", required_argument, NULL, OPT_FAULT},
    {"fault-seed", required_argument, NULL, OPT_FAULT_SEED},
    {"checkpoints", no_argument, NULL, OPT_CHECKPOINTS},
    {"no-checkpoints", no_argument, NULL, OPT_NO_CHECKPOINTS},
    {"scratch-dir", required_argument, NULL, OPT_SCRATCH_DIR},
    {"scratch-limit", required_argument, NULL, OPT_SCRATCH_LIMIT},
    {"cache", required_argument, NULL, OPT_CACHE},
    {"discard", required_argument, NULL, OPT_DISCARD},
    {"handshake-limit", required_argument, NULL, OPT_HANDSHAKE_LIMIT},
    {"max-requests", required_argument, NULL, OPT_MAX_REQUESTS},
    {"max-bytes", required_argument, NULL, OPT_MAX_BYTES},
    {"max-checkpoints", required_argument, NULL, OPT_MAX_CHECKPOINTS},
    {"view-grace", required_argument, NULL, OPT_VIEW_GRACE},
    {"backing-dir", required_argument, NULL, OPT_BACKING_DIR},
    {"pid-file", required_argument, NULL, OPT_PID_FILE},
    {"fork", no_argument, NULL, OPT_FORK},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"print-uri", no_argument, NULL, OPT_PRINT_URI},
    {"no-lock", no_argument, NULL, OPT_NO_LOCK},
    {0},
};

static const char help_text[] =
    "Usage: breakwater serve [OPTION]... IMAGE\n"
    "Serve a disk image over NBD, at localhost:10809 or a Unix socket, until SIGTERM.\n"
    "\n"
    "  -k, --socket PATH         listen on a Unix socket (alias --unix)\n"
    "  -p, --port N              listen on this TCP port; 0: any free one\n"
    "  -b, --bind ADDRESS        ... at this address (alias --ipaddr) [localhost]\n"
    "  -x, --export-name NAME    name of the export (alias --exportname) [empty]\n"
    "  -D, --description TEXT    shown to clients that list the exports\n"
    "  -e, --shared N            at most N clients (alias --max-connections) [0: no limit]\n"
    "  -f, --format FORMAT       qcow2 or raw; never probed [qcow2 if IMAGE ends in .qcow2]\n"
    "  -r, --read-only           refuse writes (alias --readonly)\n"
    "  -o, --offset BYTES        serve the disk from this offset on\n"
    "      --cache MODE          writeback, none (direct I/O), unsafe (flushes do nothing)\n"
    "  -n, --nocache             the same as --cache none\n"
    "      --discard MODE        unmap or ignore [unmap]\n"
    "      --no-lock             take no lock on the image\n"
    "      --backing-dir DIR     where backing files may lie [the folder of IMAGE]\n"
    "      --faults FILE         inject faults by these rules (blkdebug's, and [fault] sections)\n"
    "      --fault 'KEY=VALUE ...'  inject this fault; repeatable. See breakwater-faults(1)\n"
    "      --fault-seed N        of what faults draw [a random one, which is logged]\n"
    "  -B, --bitmap NAME[,granularity=N]\n"
    "                            record changed blocks as qemu:dirty-bitmap:NAME; repeatable\n"
    "      --checkpoints, --no-checkpoints\n"
    "                            EXPORT@NAME is a frozen view, or not [with -B it is]\n"
    "      --max-checkpoints N   remember so many [64]\n"
    "      --view-grace TIME     keep a view so long after its last client [30s]\n"
    "      --scratch-dir DIR     for data that views keep [$TMPDIR, else /var/tmp]\n"
    "      --scratch-limit SIZE  most of it, for each view [1G]\n"
    "      --handshake-limit TIME  a client must be through by then [10s]; 0: no limit\n"
    "      --max-requests N      in flight, for each connection [64]\n"
    "      --max-bytes SIZE      in flight, all together [64M]\n"
    "      --fork                go into the background once ready\n"
    "      --pid-file FILE       write the process id there\n"
    "  -v, --verbose             log more; twice: everything\n"
    "      --log-level LEVEL     error, warn, info, debug [warn; with faults info]\n"
    "  -t, --persistent  --print-uri  stay without clients, print the URI: done anyway\n"
    "  -h, --help  -V, --version\n";

static bool parse_cache(const char *text, enum cache_mode *out, struct err **errp)
{
    if (strcmp(text, "writeback") == 0)
        *out = CACHE_WRITEBACK;
    else if (strcmp(text, "none") == 0)
        *out = CACHE_NONE;
    else if (strcmp(text, "unsafe") == 0)
        *out = CACHE_UNSAFE;
    else
        return err_set(errp, EINVAL, "--cache: '%s' is not known; it is writeback, none or unsafe",
                       text);
    return true;
}

static bool parse_discard(const char *text, bool *ignore, struct err **errp)
{
    *ignore = strcmp(text, "ignore") == 0;
    if (*ignore || strcmp(text, "unmap") == 0)
        return true;
    return err_set(errp, EINVAL, "--discard: '%s' is not known; it is unmap or ignore", text);
}

static bool parse_level(const char *text, enum log_level *out, struct err **errp)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return err_set(errp, EINVAL, "--log-level: '%s' is not known; it is error, warn, info or debug",
                   text);
}

static bool parse_uint(const char *text, const char *what, uint64_t min, uint64_t max,
                       unsigned *out, struct err **errp)
{
    uint64_t v;

    if (!parse_u64(text, what, min, max, &v, errp))
        return false;
    *out = (unsigned)v;
    return true;
}

static bool parse_port(const char *text, uint16_t *out, struct err **errp)
{
    unsigned v;

    if (!parse_uint(text, "--port", 0, 65535, &v, errp))
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool check_bitmap(const struct serve_opts *o, const struct kv_list *l, uint64_t *granularity,
                         struct err **errp)
{
    const char *name = l->n > 0 && !*l->v[0].key ? l->v[0].value : "";

    if (!*name || strlen(name) > BITMAP_NAME_MAX)
        return err_set(errp, EINVAL, "--bitmap: a name of 1 to %d bytes must come first",
                       BITMAP_NAME_MAX);
    if (name[0] == '@')
        return err_set(errp, EINVAL,
                       "--bitmap: '%s': names that begin with '@' are the server's own", name);
    for (unsigned i = 0; i < o->n_bitmaps; i++) {
        if (strcmp(o->bitmaps[i].name, name) == 0)
            return err_set(errp, EEXIST, "--bitmap: '%s' is given twice", name);
    }
    for (size_t i = 1; i < l->n; i++) {
        if (strcmp(l->v[i].key, "granularity") != 0)
            return err_set(errp, EINVAL, "--bitmap: '%s' is not known; there is granularity=N",
                           *l->v[i].key ? l->v[i].key : l->v[i].value);
        if (!parse_size(l->v[i].value, "--bitmap granularity", granularity, errp))
            return false;
        if (!bitmap_check_granularity(*granularity, errp))
            return err_prefix(errp, "--bitmap granularity=%s: ", l->v[i].value);
    }
    return true;
}

static bool add_bitmap(struct serve_opts *o, const char *text, struct err **errp)
{
    struct kv_list l;
    uint64_t granularity = 0;

    if (o->n_bitmaps == MAX_BITMAPS)
        return err_set(errp, E2BIG, "--bitmap: at most %d are possible", MAX_BITMAPS);
    if (!kv_parse(text, "--bitmap", &l, errp))
        return false;
    if (!check_bitmap(o, &l, &granularity, errp)) {
        kv_free(&l);
        return false;
    }
    if (!o->bitmaps)
        o->bitmaps = mem_array(MAX_BITMAPS, sizeof(*o->bitmaps));
    char *name = o->bitmaps ? mem_strdup(l.v[0].value) : NULL;
    kv_free(&l);
    if (!name)
        return err_set(errp, ENOMEM, "out of memory for bitmaps");
    o->bitmaps[o->n_bitmaps].name = name;
    o->bitmaps[o->n_bitmaps++].granularity = (uint32_t)granularity;
    return true;
}

static bool add_fault(struct serve_opts *o, const char *text, struct err **errp)
{
    const char **list;

    if (o->n_fault == MAX_FAULTS)
        return err_set(errp, E2BIG, "--fault: at most %d are possible; --faults takes a file",
                       MAX_FAULTS);
    list = mem_realloc(o->fault, (o->n_fault + 1) * sizeof(o->fault[0]));
    if (!list)
        return err_set(errp, ENOMEM, "out of memory for faults");
    o->fault = list;
    list[o->n_fault++] = text;
    return true;
}

/* They are read once more when the image is opened, together with those of the file. */
static bool check_faults(const struct serve_opts *o, struct err **errp)
{
    struct rules *r = rules_new(fault_names());
    bool ok = r || err_set(errp, ENOMEM, "out of memory for faults");

    for (unsigned i = 0; ok && i < o->n_fault; i++)
        ok = rules_load_option(r, o->fault[i], i + 1, errp);
    rules_free(r);
    return ok;
}

struct choices { /* what must be weighed against each other after all options were seen */
    bool tcp, checkpoints, no_checkpoints, level_given;
    unsigned verbose;
    enum log_level level;
};

static bool take_limit(int opt, const char *arg, struct server_opts *s, struct err **errp)
{
    switch (opt) {
    case OPT_SCRATCH_DIR:
        s->scratch_dir = arg;
        return true;
    case OPT_SCRATCH_LIMIT:
        if (!parse_size(arg, "--scratch-limit", &s->scratch_limit, errp))
            return false;
        return s->scratch_limit >= MiB ||
               err_set(errp, EINVAL, "--scratch-limit: '%s' is below 1M", arg);
    case OPT_HANDSHAKE_LIMIT:
        if (!parse_duration_ms(arg, "--handshake-limit", &s->handshake_timeout_ms, errp))
            return false;
        if (s->handshake_timeout_ms == 0)
            s->handshake_timeout_ms = UINT64_MAX;
        return true;
    case OPT_MAX_REQUESTS:
        return parse_uint(arg, "--max-requests", 1, 65536, &s->max_requests, errp);
    case OPT_MAX_BYTES:
        if (!parse_size(arg, "--max-bytes", &s->max_bytes, errp))
            return false;
        return s->max_bytes >= MiB || err_set(errp, EINVAL, "--max-bytes: '%s' is below 1M", arg);
    case OPT_MAX_CHECKPOINTS:
        return parse_uint(arg, "--max-checkpoints", 2, 65536, &s->max_checkpoints, errp);
    case OPT_VIEW_GRACE:
        if (!parse_duration_ms(arg, "--view-grace", &s->view_grace_ms, errp))
            return false;
        /* 0 would be the server's default; a millisecond is as good as none. */
        s->view_grace_ms = max_u64(1, min_u64(s->view_grace_ms, LONGEST_MS));
        return true;
    }
    return false;
}

static bool take_image_option(int opt, const char *arg, struct serve_opts *o, struct err **errp)
{
    switch (opt) {
    case 'f':
        return format_parse(arg, "--format", &o->format, errp);
    case 'r':
        o->read_only = true;
        return true;
    case 'o':
        return parse_size(arg, "--offset", &o->offset, errp);
    case 'n':
        o->cache = CACHE_NONE;
        return true;
    case OPT_CACHE:
        return parse_cache(arg, &o->cache, errp);
    case OPT_DISCARD:
        return parse_discard(arg, &o->ignore_discard, errp);
    case OPT_NO_LOCK:
        o->no_lock = true;
        return true;
    case OPT_BACKING_DIR:
        o->backing_dir = arg;
        return true;
    case OPT_FAULTS:
        o->faults = arg;
        return true;
    case OPT_FAULT:
        return add_fault(o, arg, errp);
    case OPT_FAULT_SEED:
        o->fault_seed_given = true;
        return parse_u64(arg, "--fault-seed", 0, UINT64_MAX, &o->fault_seed, errp);
    case 'B':
        return add_bitmap(o, arg, errp);
    }
    return take_limit(opt, arg, &o->server, errp);
}

static bool take_option(int opt, const char *arg, struct serve_opts *o, struct choices *ch,
                        struct err **errp)
{
    switch (opt) {
    case 'k':
        o->socket_path = arg;
        return true;
    case 'p':
        ch->tcp = true;
        return parse_port(arg, &o->port, errp);
    case 'b':
        ch->tcp = true;
        o->host = arg;
        return true;
    case 'x':
        o->name = arg;
        return true;
    case 'D':
        o->description = arg;
        return true;
    case 'e':
        return parse_uint(arg, "--shared", 0, 100000, &o->max_connections, errp);
    case 't':
    case OPT_PRINT_URI:
        return true; /* what is done anyway */
    case OPT_CHECKPOINTS:
        ch->checkpoints = true;
        return true;
    case OPT_NO_CHECKPOINTS:
        ch->no_checkpoints = true;
        return true;
    case OPT_PID_FILE:
        o->pid_file = arg;
        return true;
    case OPT_FORK:
        o->fork = true;
        return true;
    case 'v':
        ch->verbose++;
        return true;
    case OPT_LOG_LEVEL:
        ch->level_given = true;
        return parse_level(arg, &ch->level, errp);
    }
    return take_image_option(opt, arg, o, errp);
}

static bool finish(struct serve_opts *o, const struct choices *ch, struct err **errp)
{
    if (!format_settle(o->image, "-f", &o->format, errp))
        return false;
    if (o->socket_path && ch->tcp)
        return err_set(errp, EINVAL, "--socket and --port or --bind exclude each other");
    if (ch->checkpoints && ch->no_checkpoints)
        return err_set(errp, EINVAL, "--checkpoints and --no-checkpoints exclude each other");
    o->checkpoints = ch->checkpoints || (o->n_bitmaps > 0 && !ch->no_checkpoints);
    if (strlen(o->name) > 4096 || (o->description && strlen(o->description) > 4096))
        return err_set(errp, EINVAL, "--export-name and --description have at most 4096 bytes");
    if (!check_faults(o, errp))
        return false;
    /* Clients that only look (nbdinfo --list) need room beside those that are served. */
    if (o->max_connections > 90)
        o->server.max_connections = o->max_connections + 10;
    /* Who injects faults wants to see the rules' counters at the end. */
    if (ch->verbose || o->faults || o->n_fault)
        log_set_level(ch->verbose > 1 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    if (ch->level_given)
        log_set_level(ch->level);
    return true;
}

enum serve_parse serve_parse(int argc, char **argv, struct serve_opts *o, struct err **errp)
{
    struct choices ch = {0};
    int opt, at = 1;

    *o = (struct serve_opts){.name = "", .port = DEFAULT_PORT};
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":k:p:b:x:D:e:trf:B:no:vhV", long_options, NULL)) != -1) {
        if (opt == 'h') {
            fputs(help_text, stdout);
            return SERVE_DONE;
        }
        if (opt == 'V') {
            printf("breakwater %s\n", BREAKWATER_VERSION);
            return SERVE_DONE;
        }
        if (opt == ':' || opt == '?') {
            const char *word = argv[optind > at ? optind - 1 : at];
            if (opt == ':')
                err_set(errp, EINVAL, "option '%s' needs a value", word);
            else
                err_set(errp, EINVAL, "option '%s' is not known", word);
            return SERVE_WRONG;
        }
        if (!take_option(opt, optarg, o, &ch, errp))
            return SERVE_WRONG;
        at = optind;
    }
    if (optind == argc)
        err_set(errp, EINVAL, "the image is missing");
    else if (optind + 1 < argc)
        err_set(errp, EINVAL, "one image at a time: '%s' is one too many", argv[optind + 1]);
    if (optind + 1 != argc)
        return SERVE_WRONG;
    o->image = argv[optind];
    return finish(o, &ch, errp) ? SERVE_RUN : SERVE_WRONG;
}

void serve_opts_free(struct serve_opts *o)
{
    for (unsigned i = 0; i < o->n_bitmaps; i++)
        mem_free(o->bitmaps[i].name);
    mem_free(o->bitmaps);
    mem_free(o->fault);
}
