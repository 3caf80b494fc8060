/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One line of our sections: KEY=VALUE, taken apart and kept until its section is complete. What is
 * wrong is told with its column.
 */
#include <string.h>

#include "faults/fault_priv.h"

struct ini_place lang_place(const struct lang *l, struct ini_text t, unsigned line)
{
    return (struct ini_place){line, (unsigned)(t.at - l->line_text) + 1};
}

static bool add_key(struct lang *l, struct ini_text key, struct ini_text value, unsigned line)
{
    const char *names[FK_COUNT], *meant;
    char shown[64];

    for (unsigned k = 0; k < FK_COUNT; k++) {
        names[k] = fault_keys[k].name;
        if (!text_is(key, names[k]))
            continue;
        if (l->set[k].given)
            return lang_bad(l, lang_place(l, key, line), "'%s' is given twice", names[k]);
        l->set[k] = (struct fault_setting){value, lang_place(l, value, line), true};
        return true;
    }
    text_printable(key, shown);
    if (text_is(key, "iotype") || text_is(key, "sector"))
        return lang_bad(l, lang_place(l, key, line),
                        "'%s' belongs in [inject-error]; a fault has op, range and others", shown);
    meant = text_nearest(key, names, FK_COUNT);
    if (meant)
        return lang_bad(l, lang_place(l, key, line), "unknown key '%s': did you mean %s?", shown,
                        meant);
    return lang_bad(l, lang_place(l, key, line),
                    "unknown key '%s': `breakwater faults actions` lists them", shown);
}

/* The same for the other sections. */
static bool add_section_key(struct lang *l, struct ini_text key, struct ini_text value,
                            unsigned line)
{
    const struct lang_section *s = &lang_sections[l->section];
    const char *meant;
    char shown[64], list[128] = "";
    struct out o = {list, sizeof(list), 0};

    for (unsigned k = 0; k < s->n_keys; k++) {
        out_put(&o, "%s%s", k ? ", " : "", s->keys[k]);
        if (!text_is(key, s->keys[k]))
            continue;
        if (l->set[k].given)
            return lang_bad(l, lang_place(l, key, line), "'%s' is given twice", s->keys[k]);
        l->set[k] = (struct fault_setting){value, lang_place(l, value, line), true};
        return true;
    }
    meant = text_nearest(key, s->keys, s->n_keys);
    text_printable(key, shown);
    if (meant)
        return lang_bad(l, lang_place(l, key, line), "unknown key '%s' in [%s]: did you mean %s?",
                        shown, s->name, meant);
    return lang_bad(l, lang_place(l, key, line), "unknown key '%s' in [%s]: there %s %s", shown,
                    s->name, s->n_keys == 1 ? "is" : "are", list);
}

/* What stands after '=': in quotes, or up to a comment. */
static bool parse_value(struct lang *l, struct ini_text t, unsigned line, struct ini_text *out)
{
    struct ini_text rest = t;
    char shown[64];

    if (t.len > 0 && t.at[0] == '"') {
        rest = (struct ini_text){t.at + 1, t.len - 1};
        text_split(&rest, '"', out);
        if (!rest.at)
            return lang_bad(l, lang_place(l, t, line), "the value lacks its closing quote");
        rest = text_trim(rest);
        if (rest.len > 0 && rest.at[0] != '#')
            return lang_bad(l, lang_place(l, rest, line),
                            "nothing but a comment may follow the value, not \"%s\"",
                            text_printable(rest, shown));
        return true;
    }
    for (size_t i = 0; i < t.len; i++)
        if (t.at[i] == '#' && (i == 0 || t.at[i - 1] == ' ' || t.at[i - 1] == '\t'))
            t.len = i;
    *out = text_trim(t);
    return true;
}

bool lang_take_apart(struct lang *l, struct ini_text text, unsigned line, struct ini_text *key,
                     struct ini_text *value)
{
    char shown[64];

    *value = text;
    text_split(value, '=', key);
    *key = text_trim(*key);
    if (!value->at || key->len == 0)
        return lang_bad(l, lang_place(l, text, line), "\"%s\" is no setting: write KEY=VALUE",
                        text_printable(text, shown));
    if (!parse_value(l, text_trim(*value), line, value))
        return false;
    if (value->len == 0)
        return lang_bad(l, lang_place(l, *key, line), "'%s' has no value",
                        text_printable(*key, shown));
    return true;
}

bool lang_setting(struct lang *l, struct ini_text text, unsigned line)
{
    struct ini_text key, value;

    if (!lang_take_apart(l, text, line, &key, &value))
        return false;
    return lang_sections[l->section].keys ? add_section_key(l, key, value, line)
                                          : add_key(l, key, value, line);
}

bool lang_line(struct lang *l, struct ini_text text, unsigned line)
{
    l->line_text = text.at;
    text = text_trim(text);
    return text.len == 0 || text.at[0] == '#' || lang_setting(l, text, line);
}
