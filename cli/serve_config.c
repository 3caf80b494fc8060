/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The configuration file of serve: INI, read by inih.
 *
 *     [server]
 *     socket = /run/breakwater.sock
 *
 *     [export disk]
 *     file = disk.qcow2
 *     read-only = yes
 *
 * Its keys are the long options, by the same table; so what is said of an option holds for the key.
 * Names of files are taken from the folder of the file, wherever the server was started.
 *
 * Lines reach inih through a reader of ours, which knows their numbers, and sees what inih would
 * pass over or take amiss: sections without keys or of the same name, lines longer than it reads
 * (it would go on with their rest as a new line), and indented lines (it would take them for values
 * of the key above).
 */
#include <errno.h>
#include <ini.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"

#define LINE_SIZE 8192
#define KEY_MAX 49 /* bytes of a key that inih keeps */
#define LIST_MAX 128

struct config {
    struct serve_opts *o;
    const struct said *defaults;
    FILE *file;
    unsigned line;
    enum serve_scope scope;      /* of the section that was begun; SCOPE_COMMAND: of none yet */
    struct serve_export *x;      /* of an [export] */
    const char *given[LIST_MAX]; /* keys of the section that may not come again */
    unsigned n_given;
    bool had_server;
    struct err *error; /* the first */
};

/* at_line: say where. bad: say what and where. Both return false. */
static bool at_line(struct config *c)
{
    return err_prefix(&c->error, "%s:%u: ", c->o->config, c->line);
}

static bool bad(struct config *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool bad(struct config *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    err_vset(&c->error, EINVAL, fmt, ap);
    va_end(ap);
    return at_line(c);
}

static bool out_of_memory(struct config *c)
{
    return err_set(&c->error, ENOMEM, "%s: out of memory", c->o->config);
}

/* --- Sections --- */

static bool begin_export(struct config *c, char *id)
{
    for (unsigned i = 0; i < c->o->n_exports; i++) {
        if (strcmp(c->o->exports[i]->id, id) == 0) {
            return bad(c, "the section [export %s] is there twice", id);
        }
    }
    c->scope = SCOPE_EXPORT;
    c->x = serve_export_add(c->o, c->defaults, &c->error);
    if (!c->x)
        return at_line(c);
    c->x->id = mem_strdup(id);
    c->x->where = mem_printf("%s:%u: [export%s%s]", c->o->config, c->line, *id ? " " : "", id);
    return (c->x->id && c->x->where) || out_of_memory(c);
}

static bool begin_server(struct config *c)
{
    c->scope = SCOPE_SERVER;
    if (c->had_server) {
        return bad(c, "the section [server] is there twice");
    }
    c->had_server = true;
    return true;
}

/* text: "[...]", without blanks around it. */
static bool begin_section(struct config *c, char *text)
{
    size_t len = strlen(text);
    char *name = text + 1;

    c->n_given = 0;
    c->x = NULL;
    if (text[len - 1] != ']') {
        return bad(c, "a section is [server] or [export NAME]; there is no ']'");
    }
    text[len - 1] = 0;
    if (strcmp(name, "server") == 0)
        return begin_server(c);
    if (strncmp(name, "export", 6) == 0 && (name[6] == 0 || name[6] == ' ')) {
        name += 6;
        return begin_export(c, name + strspn(name, " "));
    }
    return bad(c, "there is no section [%s]; there are [server] and [export NAME]", name);
}

/* --- Keys --- */

static const char *nearest_key(const char *key, enum serve_scope scope)
{
    const char *names[LIST_MAX];
    size_t n = 0;

    for (const struct serve_option *o = serve_options; o->name && n < LIST_MAX; o++) {
        if (o->scope == scope)
            names[n++] = o->name;
    }
    return parse_nearest(key, strlen(key), names, n);
}

static bool unknown_key(struct config *c, const char *key)
{
    bool server = c->scope == SCOPE_SERVER;
    const char *meant = nearest_key(key, c->scope);

    if (strlen(key) >= KEY_MAX)
        bad(c, "a key that begins with '%s' is not known", key);
    else if (serve_option_named(key, server ? SCOPE_EXPORT : SCOPE_SERVER))
        bad(c, "the key '%s' belongs into a section [%s]", key, server ? "export NAME" : "server");
    else if (meant)
        bad(c, "the key '%s' is not known; did you mean '%s'?", key, meant);
    else if (serve_option_named(key, SCOPE_COMMAND))
        bad(c, "'%s' is for the command line only", key);
    else
        bad(c, "the key '%s' is not known", key);
    return false;
}

/* Options without a value are yes or no here. */
static bool take_flag(struct config *c, const struct serve_option *opt, const char *value,
                      bool *wanted)
{
    return parse_bool(value, opt->name, wanted, &c->error) || at_line(c);
}

/* "checkpoints = no" is --no-checkpoints, where there is such an option. */
static const struct serve_option *opposite(const struct serve_option *opt)
{
    char name[KEY_MAX + 4];

    snprintf(name, sizeof(name), "no-%s", opt->name);
    return serve_option_named(name, opt->scope);
}

static char *path_in_folder(const struct config *c, const char *path)
{
    AUTO_FREE char *copy = mem_strdup(c->o->config);

    if (*path == '/' || *path == '@' || strncmp(path, "blkdebug:", 9) == 0 ||
        !strchr(c->o->config, '/'))
        return mem_strdup(path);
    return copy ? mem_printf("%s/%s", dirname(copy), path) : NULL;
}

static bool give(struct config *c, const struct serve_option *opt, const char *value)
{
    bool ok = c->x ? serve_take_for_export(opt->code, value, c->x, &c->error)
                   : serve_take_for_server(opt->code, value, c->o, &c->error);

    return ok || err_prefix(&c->error, "%s: ", opt->name) || at_line(c);
}

static bool once(struct config *c, const struct serve_option *opt)
{
    if (opt->flags & SERVE_MANY)
        return true;
    for (unsigned i = 0; i < c->n_given; i++) {
        if (strcmp(c->given[i], opt->name) == 0) {
            return bad(c, "the key '%s' is there twice in this section", opt->name);
        }
    }
    c->given[c->n_given++] = opt->name; /* at most as many as there are options */
    return true;
}

static bool take_setting(struct config *c, const char *key, const char *value)
{
    const struct serve_option *opt = serve_option_named(key, c->scope);
    bool wanted;

    if (c->scope == SCOPE_COMMAND) {
        return bad(c, "'%s' stands before the first section", key);
    }
    if (!opt)
        return unknown_key(c, key);
    if (!once(c, opt))
        return false;
    if (opt->has_arg == no_argument) {
        if (!take_flag(c, opt, value, &wanted))
            return false;
        opt = wanted ? opt : opposite(opt);
        return !opt || give(c, opt, NULL);
    }
    if (!(opt->flags & SERVE_PATH))
        return give(c, opt, value);
    AUTO_FREE char *path = path_in_folder(c, value);
    return path ? give(c, opt, path) : out_of_memory(c);
}

/* For inih: 1 is good. */
static int on_setting(void *user, const char *section, const char *key, const char *value)
{
    struct config *c = user;

    return !c->error && take_setting(c, key, value);
}

/* --- Lines --- */

/* A line into buf, without blanks at either end. False at the end, or with an error. */
static bool read_line(struct config *c, char *buf, size_t size)
{
    size_t n = 0;
    int ch;

    while ((ch = fgetc(c->file)) != EOF && ch != '\n') {
        if (n == 0 && (ch == ' ' || ch == '\t'))
            continue;
        if (ch == 0 || n + 3 > size) {
            c->line++;
            return ch ? bad(c, "the line is longer than %zu bytes", size - 3)
                      : bad(c, "there is a byte 0 in it");
        }
        buf[n++] = (char)ch;
    }
    if (ferror(c->file)) {
        err_set_errno(&c->error, errno ? errno : EIO, "%s", c->o->config);
        return false;
    }
    if (ch == EOF && n == 0)
        return false;
    while (n > 0 && strchr(" \t\r", buf[n - 1]))
        n--;
    buf[n] = 0;
    c->line++;
    return true;
}

/* What fgets would do, for inih: the settings only. */
static char *next_setting(char *buf, int size, void *stream)
{
    struct config *c = stream;

    for (;;) {
        char *text = buf;

        if (c->error || !read_line(c, buf, (size_t)size))
            return NULL;
        if (c->line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
            text += 3;
        if (*text == '[') {
            if (!begin_section(c, text))
                return NULL;
        } else if (*text && !strchr("#;", *text)) {
            if (!strpbrk(text, "=:")) {
                bad(c, "'%.60s' is neither a section nor KEY = VALUE", text);
                return NULL;
            }
            memmove(buf, text, strlen(text) + 1);
            return strcat(buf, "\n");
        }
    }
}

bool serve_config_load(struct serve_opts *o, const struct said *defaults, struct err **errp)
{
    struct config c = {.o = o, .defaults = defaults};

#ifdef HAVE_INI_MAX_LINE
    ini_max_line = ini_initial_alloc = LINE_SIZE;
    ini_use_stack = false;
#endif
    c.file = fopen(o->config, "re");
    if (!c.file)
        return err_set_errno(errp, errno, "--config '%s'", o->config);
    int wrong = ini_parse_stream(next_setting, &c, on_setting, &c);
    fclose(c.file);
    if (wrong && !c.error)
        err_set(&c.error, wrong == -2 ? ENOMEM : EINVAL, "%s:%u: malformed", o->config, c.line);
    return !c.error || err_move(errp, c.error);
}
