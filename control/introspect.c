/* SPDX-License-Identifier: BSD-3-Clause
 *
 * query-qmp-schema: all commands, events and the types that they use, in the form of QEMU's
 * qapi/introspect.json. Types are named as in QEMU's schema (where QEMU masks them by numbers, as
 * names are not part of the promise).
 */
#include <string.h>

#include "control/control_priv.h"

/* A run over the types in use. seen: names that are on the list already. */
struct walk {
    json_t *list, *seen;
    bool failed;
};

static void add_type(struct walk *w, const struct qtype *t);

static void put(struct walk *w, json_t *entry)
{
    if (!entry || json_array_append_new(w->list, entry) < 0)
        w->failed = true;
}

/* Integers of all widths are one type in introspection. */
static const char *type_name(const struct qtype *t)
{
    return t->kind == Q_INT || t->kind == Q_SIZE ? "int" : t->name;
}

static json_t *member_list(struct walk *w, const struct qtype *t)
{
    json_t *list = json_array();

    for (const struct qmember *m = t->member; m && m->name; m++) {
        json_t *entry = json_pack("{s:s,s:s}", "name", m->name, "type", type_name(m->type));

        add_type(w, m->type);
        if (m->optional)
            json_object_set_new(entry, "default", json_null());
        if (json_array_append_new(list, entry) < 0)
            w->failed = true;
    }
    return list;
}

static const char *json_type_name(const struct qtype *t)
{
    switch (t->kind) {
    case Q_STR:
        return "string";
    case Q_NUMBER:
        return "number";
    case Q_BOOL:
        return "boolean";
    case Q_NULL:
        return "null";
    case Q_ANY:
        return "value";
    default:
        return "int";
    }
}

static json_t *name_list(const char *const *names)
{
    json_t *list = json_array();

    for (; *names; names++)
        json_array_append_new(list, json_string(*names));
    return list;
}

/* In QEMU's schema a value of an enumeration is an object with a name. */
static json_t *enum_members(const char *const *names)
{
    json_t *list = json_array();

    for (; *names; names++)
        json_array_append_new(list, json_pack("{s:s}", "name", *names));
    return list;
}

static void add_alternate(struct walk *w, const struct qtype *t)
{
    json_t *list = json_array();

    for (const struct qmember *m = t->member; m->name; m++) {
        json_array_append_new(list, json_pack("{s:s}", "type", type_name(m->type)));
        add_type(w, m->type);
    }
    put(w, json_pack("{s:s,s:s,s:o}", "name", t->name, "meta-type", "alternate", "members", list));
}

static void add_object(struct walk *w, const struct qtype *t)
{
    json_t *entry = json_pack("{s:s,s:s,s:o}", "name", t->name, "meta-type", "object", "members",
                              member_list(w, t));

    if (t->kind == Q_UNION) {
        json_t *variants = json_array();

        for (const struct qvariant *v = t->variant; v && v->tag; v++) {
            const char *name = v->type ? v->type->name : "q_empty";

            json_array_append_new(variants, json_pack("{s:s,s:s}", "case", v->tag, "type", name));
            if (v->type)
                add_type(w, v->type);
        }
        json_object_set_new(entry, "tag", json_string(t->tag));
        json_object_set_new(entry, "variants", variants);
    }
    put(w, entry);
}

static void add_type(struct walk *w, const struct qtype *t)
{
    const char *name = type_name(t);

    if (json_object_get(w->seen, name))
        return;
    json_object_set_new(w->seen, name, json_true());
    switch (t->kind) {
    case Q_ENUM:
        put(w, json_pack("{s:s,s:s,s:o,s:o}", "name", name, "meta-type", "enum", "members",
                         enum_members(t->values), "values", name_list(t->values)));
        break;
    case Q_LIST:
        add_type(w, t->element);
        put(w, json_pack("{s:s,s:s,s:s}", "name", name, "meta-type", "array", "element-type",
                         type_name(t->element)));
        break;
    case Q_STRUCT:
    case Q_UNION:
        add_object(w, t);
        break;
    case Q_ALT:
        add_alternate(w, t);
        break;
    default:
        put(w, json_pack("{s:s,s:s,s:s}", "name", name, "meta-type", "builtin", "json-type",
                         json_type_name(t)));
        break;
    }
}

static const struct qtype empty = {.kind = Q_STRUCT, .name = "q_empty"};

json_t *introspect_all(void)
{
    struct walk w = {.list = json_array(), .seen = json_object()};
    const struct command *c;
    const struct event_type *ev;

    for (unsigned i = 0; (c = command_at(i)); i++) {
        const struct qtype *args = c->args ? c->args : &empty, *ret = c->ret ? c->ret : &empty;

        put(&w, json_pack("{s:s,s:s,s:s,s:s}", "name", c->name, "meta-type", "command", "arg-type",
                          args->name, "ret-type", type_name(ret)));
        add_type(&w, args);
        add_type(&w, ret);
    }
    for (unsigned i = 0; (ev = event_type_at(i)); i++) {
        put(&w, json_pack("{s:s,s:s,s:s}", "name", ev->name, "meta-type", "event", "arg-type",
                          ev->data->name));
        add_type(&w, ev->data);
    }
    json_decref(w.seen);
    if (!w.failed)
        return w.list;
    json_decref(w.list);
    return NULL;
}
