/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rule files: sections and keys become rules.
 *
 * A section is judged when it ends, because a key that is given twice counts as given last. Rules
 * are collected first and added only when the whole file is good: all inject-error sections, then
 * all set-state sections, each in file order, as blkdebug adds them.
 *
 * Where QEMU takes a number that cannot work and goes on with it cut to 32 bits (an errno of
 * 4294967301), a sign that makes a failure look like success (an errno of -5) or a sector that no
 * disk has, the file is refused instead.
 *
 * Sections that blkdebug does not have are read by lang.c; its own are read to the letter, unless
 * [engine] says strict = off: then settings are written as in ours, and errno has names.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"
#include "faults/load_priv.h"

#define FILE_MAX (1 * MiB)
#define ERRNO_MAX 4095
#define SECTOR_SHIFT 9

const struct load_key load_keys[KEY_COUNT] = {
    [KEY_ID] = {"id", IN_INJECT | IN_SET_STATE},
    [KEY_EVENT] = {"event", IN_INJECT | IN_SET_STATE},
    [KEY_STATE] = {"state", IN_INJECT | IN_SET_STATE},
    [KEY_NEW_STATE] = {"new_state", IN_SET_STATE},
    [KEY_IOTYPE] = {"iotype", IN_INJECT},
    [KEY_ERRNO] = {"errno", IN_INJECT},
    [KEY_SECTOR] = {"sector", IN_INJECT},
    [KEY_ONCE] = {"once", IN_INJECT},
    [KEY_IMMEDIATELY] = {"immediately", IN_INJECT},
};

bool load_bad(struct loader *l, struct ini_place at, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    err_vset(l->errp, EINVAL, fmt, ap);
    va_end(ap);
    return l->option ? err_prefix(l->errp, "%s: ", l->option)
                     : err_prefix(l->errp, "%s:%u:%u: ", l->file, at.line, at.column);
}

/* Where the piece of the line that is being read stands which begins at `at`. */
static struct ini_place place_of(const struct loader *l, const char *at)
{
    return (struct ini_place){l->line, (unsigned)(at - l->line_text) + 1};
}

bool load_no_memory(struct loader *l)
{
    return err_set(l->errp, ENOMEM, "%s: no memory for its rules", l->file ? l->file : "blkdebug");
}

/* --- Values --- */

/* A number as strtoull takes it in base 0, sign and leading blanks included; def if it is not
 * given. */
static bool get_number(struct loader *l, enum key k, uint64_t def, uint64_t *out)
{
    struct ini_text t = l->set[k].value;
    char buf[64], shown[64], *end;
    int error;

    *out = def;
    if (!l->set[k].given)
        return true;
    if (k == KEY_ERRNO && l->lang.relaxed && value_errno(t, "errno", &error, NULL)) {
        *out = (uint64_t)error;
        return true;
    }
    if (t.len > 0 && t.len < sizeof(buf)) {
        memcpy(buf, t.at, t.len);
        buf[t.len] = 0;
        errno = 0;
        *out = strtoull(buf, &end, 0);
        if (errno == 0 && end == buf + t.len)
            return true;
    }
    return load_bad(l, l->set[k].at,
                    "'%s' must be a number (decimal, 0x hexadecimal or 0 octal), not \"%s\"",
                    load_keys[k].name, text_printable(t, shown));
}

/* States are compared as 32-bit numbers; a small negative one is a state like any other. */
static bool get_state(struct loader *l, enum key k, uint32_t *out)
{
    uint64_t v;

    if (!get_number(l, k, 0, &v))
        return false;
    if (v > UINT32_MAX && v < (uint64_t)INT32_MIN)
        return load_bad(l, l->set[k].at, "'%s' is %" PRIu64 ": a state has 32 bits",
                        load_keys[k].name, v);
    *out = v;
    return true;
}

static bool get_bool(struct loader *l, enum key k, bool *out)
{
    static const char *const yes[] = {"on", "yes", "true", "y"}, *const no[] = {"off", "no",
                                                                                "false", "n"};
    struct ini_text t = l->set[k].value;
    char shown[64];

    *out = false;
    if (!l->set[k].given)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        *out = text_is(t, yes[i]);
        if (*out || text_is(t, no[i]))
            return true;
    }
    return load_bad(l, l->set[k].at, "'%s' must be \"on\" or \"off\", not \"%s\"",
                    load_keys[k].name, text_printable(t, shown));
}

static bool get_name(struct loader *l, enum key k, const char *const *names, unsigned n,
                     unsigned *out)
{
    struct ini_text t = l->set[k].value;
    const char *meant;
    char shown[64];

    for (unsigned i = 0; i < n; i++) {
        if (text_is(t, names[i])) {
            *out = i;
            return true;
        }
    }
    meant = text_nearest(t, names, n);
    if (meant)
        return load_bad(l, l->set[k].at, "unknown %s \"%s\": did you mean \"%s\"?",
                        load_keys[k].name, text_printable(t, shown), meant);
    return load_bad(l, l->set[k].at, "unknown %s \"%s\": docs/faults.md lists them",
                    load_keys[k].name, text_printable(t, shown));
}

/* --- Sections --- */

static bool check_id(struct loader *l)
{
    struct setting *s = &l->set[KEY_ID];
    char shown[64];
    struct id *ids;

    if (!s->given)
        return true;
    if (!text_id_is_well_formed(s->value))
        return load_bad(l, s->at,
                        "\"%s\" is no id: use letters, digits, '-', '.' and '_', a letter first",
                        text_printable(s->value, shown));
    for (size_t i = 0; i < l->n_ids; i++)
        if (l->ids[i].section == l->section && l->ids[i].text.len == s->value.len &&
            memcmp(l->ids[i].text.at, s->value.at, s->value.len) == 0)
            return load_bad(l, s->at, "another [%s] has the id \"%s\" already",
                            rule_section_names[l->section], text_printable(s->value, shown));
    ids = mem_realloc(l->ids, (l->n_ids + 1) * sizeof(ids[0]));
    if (!ids)
        return load_no_memory(l);
    l->ids = ids;
    ids[l->n_ids++] = (struct id){l->section, s->value};
    return true;
}

static bool fill_inject(struct loader *l, struct rule *rule)
{
    uint64_t error, sector;
    unsigned io = 0; /* gcc -O3 does not see that get_name sets it */

    if (!get_number(l, KEY_ERRNO, EIO, &error) || !get_number(l, KEY_SECTOR, UINT64_MAX, &sector) ||
        !get_bool(l, KEY_ONCE, &rule->once) || !get_bool(l, KEY_IMMEDIATELY, &rule->immediately))
        return false;
    if (error > ERRNO_MAX)
        return load_bad(l, l->set[KEY_ERRNO].at, "'errno' must be 0 to %d", ERRNO_MAX);
    rule->error = error;
    if (sector != UINT64_MAX && sector > INT64_MAX >> SECTOR_SHIFT)
        return load_bad(l, l->set[KEY_SECTOR].at,
                        "'sector' must be -1 (any) or 0 to %" PRId64 ", in units of 512 bytes",
                        INT64_MAX >> SECTOR_SHIFT);
    rule->off = sector == UINT64_MAX ? SECTOR_ANY : (int64_t)(sector << SECTOR_SHIFT);

    rule->io_mask = (1u << FAULT_IO_COUNT) - 1 - (1u << FAULT_BLOCK_STATUS);
    if (l->set[KEY_IOTYPE].given) {
        if (!get_name(l, KEY_IOTYPE, fault_io_names, FAULT_IO_COUNT, &io))
            return false;
        rule->io_mask = 1u << io;
    }
    return true;
}

static bool fill_rule(struct loader *l, struct rule *rule)
{
    const struct rules_names *names = rules_event_names(l->rules);

    rule->action = l->section;
    if (!l->set[KEY_EVENT].given)
        return load_bad(l, (struct ini_place){l->section_line, 1},
                        "[%s] lacks its event: add a line event = \"...\"",
                        rule_section_names[l->section]);
    if (!get_name(l, KEY_EVENT, names->event, names->n_events, &rule->event) ||
        !get_state(l, KEY_STATE, &rule->state))
        return false;
    if (l->section == RULE_SET_STATE)
        return get_state(l, KEY_NEW_STATE, &rule->new_state);
    return fill_inject(l, rule);
}

/* The section that is open, if any, becomes a rule. */
bool load_end_section(struct loader *l)
{
    struct rule *rule;

    if (l->lang.section != LANG_CLOSED)
        return lang_end(&l->lang);
    if (!l->in_section)
        return true;
    l->in_section = false;
    if (!check_id(l))
        return false;
    rule = mem_new(struct rule);
    if (!rule)
        return load_no_memory(l);
    if (!fill_rule(l, rule)) {
        rule_free(rule);
        return false;
    }
    rule_list_push(l->section == RULE_INJECT ? &l->injects : &l->set_states, rule);
    rule->where = l->option ? mem_strdup(l->option) : mem_printf("%s:%u", l->file, l->section_line);
    if (l->set[KEY_ID].given)
        rule->id = mem_strndup(l->set[KEY_ID].value.at, l->set[KEY_ID].value.len);
    return (rule->where && (rule->id || !l->set[KEY_ID].given)) || load_no_memory(l);
}

static bool unknown_section(struct loader *l, const struct ini_line *line)
{
    static const char *const names[] = {"inject-error", "set-state", "suspend", "cache",
                                        "fault",        "script",    "engine"};
    const char *meant = text_nearest(line->name, names, ARRAY_LEN(names));
    char shown[64];

    text_printable(line->name, shown);
    if (meant)
        return load_bad(l, place_of(l, line->name.at), "unknown section [%s]: did you mean [%s]?",
                        shown, meant);
    return load_bad(l, place_of(l, line->name.at),
                    "unknown section [%s]: there are [inject-error], [set-state], [suspend], "
                    "[cache], [fault], [script] and [engine]",
                    shown);
}

static bool begin_section(struct loader *l, const struct ini_line *line)
{
    for (unsigned i = 0; i < RULE_SUSPEND; i++) {
        if (!text_is(line->name, rule_section_names[i]))
            continue;
        l->in_section = true;
        l->section = i;
        l->section_line = l->line;
        memset(l->set, 0, sizeof(l->set));
        if (line->value.len > 0)
            l->set[KEY_ID] = (struct setting){line->value, place_of(l, line->value.at), true};
        return true;
    }
    if (lang_begin(&l->lang, line->name, line->value, l->line))
        return true;
    return *l->errp ? false : unknown_section(l, line);
}

static bool unknown_key(struct loader *l, struct ini_text name)
{
    const char *names[KEY_COUNT], *meant;
    char shown[64];

    for (unsigned k = 0; k < KEY_COUNT; k++)
        names[k] = load_keys[k].sections & (1u << l->section) ? load_keys[k].name : NULL;
    text_printable(name, shown);
    meant = text_nearest(name, names, KEY_COUNT);
    if (meant)
        return load_bad(l, place_of(l, name.at), "unknown key '%s' in [%s]: did you mean %s?",
                        shown, rule_section_names[l->section], meant);
    return load_bad(l, place_of(l, name.at), "unknown key '%s' in [%s]: docs/faults.md lists them",
                    shown, rule_section_names[l->section]);
}

/* The key of that name. KEY_COUNT: none; that it belongs elsewhere is an error. */
static bool find_key(struct loader *l, struct ini_text name, enum key *out)
{
    for (*out = 0; *out < KEY_COUNT; ++*out)
        if (text_is(name, load_keys[*out].name))
            return load_keys[*out].sections & (1u << l->section) ||
                   load_bad(l, place_of(l, name.at), "'%s' does not belong in [%s]",
                            load_keys[*out].name, rule_section_names[l->section]);
    return true;
}

/* strict = off: a setting as in our own sections. A key given twice counts as given last here, too.
 */
static bool add_relaxed(struct loader *l, struct ini_text text)
{
    struct ini_text name, value;
    enum key k;

    text = text_trim(text);
    if (text.len == 0 || text.at[0] == '#')
        return true;
    if (!lang_take_apart(&l->lang, text, l->line, &name, &value) || !find_key(l, name, &k))
        return false;
    if (k == KEY_COUNT)
        return unknown_key(l, name);
    l->set[k] = (struct setting){value, place_of(l, value.at), true};
    return true;
}

static bool add_setting(struct loader *l, const struct ini_line *line)
{
    char shown[64];
    enum key k;

    if (!l->in_section)
        return load_bad(l, place_of(l, line->name.at),
                        "a setting before the first section: start with [inject-error], "
                        "[set-state] or [fault] in the first column");
    if (!find_key(l, line->name, &k))
        return false;
    if (k < KEY_COUNT) {
        if (!line->quoted || line->value.len == 0)
            return load_bad(l, place_of(l, line->value.at),
                            "write the value in double quotes: %s = \"...\"", load_keys[k].name);
        if (!line->closed)
            return load_bad(l, place_of(l, line->value.at - 1),
                            "the value of '%s' lacks its closing quote", load_keys[k].name);
        l->set[k] = (struct setting){line->value, place_of(l, line->value.at), true};
        return true;
    }
    if (memchr(line->name.at, '=', line->name.len))
        return load_bad(l, place_of(l, line->name.at), "put a space before '=' in \"%s\"",
                        text_printable(line->name, shown));
    if (line->name.at[0] == '#')
        return load_bad(l, place_of(l, line->name.at), "a comment must start in the first column");
    return unknown_key(l, line->name);
}

static bool load_line(struct loader *l, const char *text, size_t len)
{
    struct ini_line line;
    const char *nul = memchr(text, 0, len);

    l->line_text = l->lang.line_text = text;
    if (nul)
        return load_bad(l, place_of(l, nul), "the line holds a NUL byte: this is no text file");
    if (len - (text[len - 1] == '\n') > INI_LINE_MAX)
        return load_bad(l, place_of(l, text + INI_LINE_MAX), "the line is longer than %d bytes",
                        INI_LINE_MAX);
    if (l->lang.section != LANG_CLOSED && text[0] != '[')
        return lang_line(&l->lang, (struct ini_text){text, len}, l->line);
    if (l->lang.relaxed && l->in_section && text[0] != '[')
        return add_relaxed(l, (struct ini_text){text, len});
    ini_parse(text, len, &line);
    switch (line.kind) {
    case INI_BLANK:
        return true;
    case INI_SECTION:
        return load_end_section(l) && begin_section(l, &line);
    case INI_SETTING:
        return add_setting(l, &line);
    case INI_BAD:
        break;
    }
    return load_bad(l, place_of(l, text),
                    text[0] == '[' ? "a section without a name"
                                   : "a line of white space only: make it empty");
}

bool load_lines(struct loader *l, const char *text, size_t len)
{
    while (len > 0) {
        const char *newline = memchr(text, '\n', len);
        size_t n = newline ? (size_t)(newline - text) + 1 : len;

        l->line++;
        if (!load_line(l, text, n))
            return false;
        text += n;
        len -= n;
    }
    return load_end_section(l);
}

void load_begin(struct loader *l, struct rules *r, const char *file, struct err **e)
{
    *l = (struct loader){.rules = r, .file = file, .errp = e};
    rule_list_init(&l->injects);
    rule_list_init(&l->set_states);
    lang_init(&l->lang, r, file, e);
}

bool load_finish(struct loader *l, bool ok)
{
    struct rule_list *const lists[] = {&l->injects, &l->set_states, &l->lang.suspends, NULL};

    if (ok && rules_add(l->rules, lists) < 0)
        ok = load_no_memory(l);
    if (ok)
        lang_commit(&l->lang);
    lang_drop(&l->lang);
    rule_list_free(&l->injects);
    rule_list_free(&l->set_states);
    mem_free(l->ids);
    return ok;
}

bool rules_load(struct rules *r, const char *file, const char *text, size_t len, struct err **errp)
{
    struct err *e = NULL;
    struct loader l;

    load_begin(&l, r, file, &e);
    return load_finish(&l, load_lines(&l, text, len)) || err_move(errp, e);
}

char *rules_read_file(const char *path, size_t *len, struct err **errp)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO_FREE char *text = NULL;
    ssize_t n;

    *len = 0;
    if (fd < 0) {
        err_set_errno(errp, errno, "Could not open rule file '%s'", path);
        return NULL;
    }
    text = mem_alloc(FILE_MAX + 1);
    if (!text) {
        err_set(errp, ENOMEM, "No memory to read rule file '%s'", path);
        return NULL;
    }
    /* By reading, not by asking for the size: it may be a pipe. */
    do {
        n = read(fd, text + *len, FILE_MAX + 1 - *len);
        if (n > 0)
            *len += n;
    } while ((n > 0 && *len <= FILE_MAX) || (n < 0 && errno == EINTR));
    if (n < 0)
        err_set_errno(errp, errno, "Could not read rule file '%s'", path);
    else if (*len > FILE_MAX)
        err_set(errp, EFBIG, "Rule file '%s' is larger than 1 MiB", path);
    else
        return steal(text);
    return NULL;
}

bool rules_load_file(struct rules *r, const char *path, struct err **errp)
{
    size_t len;
    AUTO_FREE char *text = rules_read_file(path, &len, errp);

    return text && rules_load(r, path, text, len, errp);
}
