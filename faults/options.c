/* SPDX-License-Identifier: BSD-3-Clause
 *
 * blkdebug's options as key and value: "align=4k", "inject-error.0.event=read_aio". What comes as
 * JSON has been flattened to the same by whoever reads it.
 *
 * The rules of a section stand either under consecutive numbers from 0 or, if there is one, without
 * a number; both at once is an error, with blkdebug's words. They come behind those of the file
 * that `config` names, errors of both before states of both.
 */
#include "faults/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/mem.h"
#include "base/parse.h"
#include "faults/load_priv.h"

#define INDEX_MAX 4096 /* rules of a section */

struct reader {
    struct loader load;
    const struct fault_option *v;
    size_t n;
    struct err **errp;
};

/* What follows "SECTION." in a key; NULL: it is of no such section. */
static const char *key_in(const char *key, const char *section)
{
    size_t n = strlen(section);

    return strncmp(key, section, n) == 0 && key[n] == '.' ? key + n + 1 : NULL;
}

/* The key of a rule that is meant; KEY_COUNT: none of this section. */
static unsigned rule_key(const char *name, enum rule_action section)
{
    unsigned k = KEY_ID + 1; /* an id is for files only */

    while (k < KEY_COUNT &&
           !(strcmp(name, load_keys[k].name) == 0 && (load_keys[k].sections & (1u << section))))
        k++;
    return k;
}

/* "12.event" -> 12 and "event"; *rest is NULL if nothing follows. False: it does not begin so. */
static bool split_index(const char *key, unsigned *index, const char **rest)
{
    const char *p = key;

    *index = 0;
    for (; *p >= '0' && *p <= '9' && *index <= INDEX_MAX; p++)
        *index = *index * 10 + (unsigned)(*p - '0');
    if (p == key || (*p && *p != '.') || (key[0] == '0' && p > key + 1))
        return false;
    *rest = *p ? p + 1 : NULL;
    return true;
}

static bool begin_rule(struct reader *rd, enum rule_action section, const char *where)
{
    struct loader *l = &rd->load;

    l->option = where;
    l->in_section = true;
    l->section = section;
    memset(l->set, 0, sizeof(l->set));
    return true;
}

static void set_key(struct reader *rd, unsigned k, const char *value)
{
    rd->load.set[k] = (struct setting){{value, strlen(value)}, {0, 0}, true};
}

/* One rule without a number. */
static bool read_single(struct reader *rd, enum rule_action section)
{
    const char *name = rule_section_names[section];

    begin_rule(rd, section, name);
    for (size_t i = 0; i < rd->n; i++) {
        const char *key = key_in(rd->v[i].key, name);
        unsigned k = key ? rule_key(key, section) : 0;

        if (!key)
            continue;
        if (k == KEY_COUNT)
            return err_set(rd->errp, EINVAL, "Unknown option '%s' for [%s]", key, name);
        set_key(rd, k, rd->v[i].value);
    }
    return load_end_section(&rd->load);
}

/* Rule number `index`: *found is false if nothing of it is there. */
static bool read_indexed(struct reader *rd, enum rule_action section, unsigned index, bool *found)
{
    const char *name = rule_section_names[section];
    char where[48];

    snprintf(where, sizeof(where), "%s.%u", name, index);
    begin_rule(rd, section, where);
    *found = false;
    for (size_t i = 0; i < rd->n; i++) {
        const char *key = key_in(rd->v[i].key, name), *rest;
        unsigned at, k;

        if (!key || !split_index(key, &at, &rest) || at != index)
            continue;
        *found = true;
        if (!rest)
            return err_set(rd->errp, EINVAL, "[%s] section (index %u) does not consist of keys",
                           name, index);
        k = rule_key(rest, section);
        if (k == KEY_COUNT)
            return err_set(rd->errp, EINVAL, "[%s] section doesn't support the option '%s'", name,
                           rest);
        set_key(rd, k, rd->v[i].value);
    }
    rd->load.in_section = *found;
    return load_end_section(&rd->load);
}

static bool read_section(struct reader *rd, enum rule_action section)
{
    const char *name = rule_section_names[section];
    unsigned end = 0;
    bool found = true;

    for (size_t i = 0; i < rd->n; i++) {
        const char *key = key_in(rd->v[i].key, name);

        if (key && rule_key(key, section) < KEY_COUNT)
            return read_single(rd, section);
    }
    while (found && end <= INDEX_MAX) {
        if (!read_indexed(rd, section, end, &found))
            return false;
        end += found;
    }
    for (size_t i = 0; i < rd->n; i++) {
        const char *key = key_in(rd->v[i].key, name), *rest;
        unsigned at;

        if (key && (!split_index(key, &at, &rest) || at >= end))
            return err_set(rd->errp, EINVAL, "Unused option '%s' for [%s]", key, name);
    }
    return true;
}

/* --- Options that are no rules --- */

static bool take_limit(const struct fault_option *o, struct fault_limits *limits, bool *known,
                       struct err **errp)
{
    const struct {
        const char *name;
        uint64_t *out;
    } all[] = {
        {"align", &limits->align},
        {"max-transfer", &limits->max_transfer},
        {"opt-write-zero", &limits->opt_write_zero},
        {"max-write-zero", &limits->max_write_zero},
        {"opt-discard", &limits->opt_discard},
        {"max-discard", &limits->max_discard},
    };

    *known = true;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (strcmp(o->key, all[i].name) == 0)
            return parse_size(o->value, o->key, all[i].out, errp);
    *known = false;
    return true;
}

static bool take_plain(struct reader *rd, const char **config, struct fault_limits *limits)
{
    for (size_t i = 0; i < rd->n; i++) {
        const struct fault_option *o = &rd->v[i];
        bool known;

        for (size_t k = 0; k < i; k++)
            if (strcmp(rd->v[k].key, o->key) == 0)
                return err_set(rd->errp, EINVAL, "blkdebug: '%s' is given twice", o->key);
        if (key_in(o->key, rule_section_names[RULE_INJECT]) ||
            key_in(o->key, rule_section_names[RULE_SET_STATE]))
            continue;
        if (strcmp(o->key, "config") == 0) {
            *config = o->value;
            continue;
        }
        if (!take_limit(o, limits, &known, rd->errp))
            return false;
        if (!known)
            return err_set(rd->errp, EINVAL,
                           "Block protocol 'blkdebug' doesn't support the option '%s'", o->key);
    }
    return true;
}

bool rules_load_blkdebug(struct rules *r, const struct fault_option *v, size_t n,
                         struct fault_limits *limits, struct err **errp)
{
    struct err *e = NULL;
    struct reader rd = {.v = v, .n = n, .errp = &e};
    struct fault_limits got = {0};
    const char *config = NULL;
    AUTO_FREE char *text = NULL;
    size_t len = 0;
    bool ok;

    if (!take_plain(&rd, &config, &got))
        return err_move(errp, e);
    if (config && *config) {
        text = rules_read_file(config, &len, &e);
        if (!text)
            return err_move(errp, e);
    }
    load_begin(&rd.load, r, config, &e);
    ok = (!text || load_lines(&rd.load, text, len)) && read_section(&rd, RULE_INJECT) &&
         read_section(&rd, RULE_SET_STATE);
    ok = load_finish(&rd.load, ok);
    if (ok)
        *limits = got;
    return ok || err_move(errp, e);
}

bool blkdebug_split_name(const char *name, char **config, const char **image, struct err **errp)
{
    static const char prefix[] = "blkdebug:";
    const char *colon;

    *config = NULL;
    *image = name;
    if (strncmp(name, prefix, sizeof(prefix) - 1) != 0)
        return true;
    name += sizeof(prefix) - 1;
    colon = strchr(name, ':');
    if (!colon)
        return err_set(errp, EINVAL, "blkdebug requires both config file and image path");
    *config = mem_strndup(name, (size_t)(colon - name));
    if (!*config)
        return err_set(errp, ENOMEM, "out of memory for a file name");
    *image = colon + 1;
    return true;
}
