/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Types of QMP arguments, declared as data: they are checked against, introspected by
 * query-qmp-schema, and used to complete command lines. The kinds are those of QEMU's QAPI
 * (docs/devel/qapi-code-gen), and so are the texts of the errors.
 */
#ifndef CONTROL_SCHEMA_H
#define CONTROL_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"

enum qkind {
    Q_STR,
    Q_INT,    /* with bounds */
    Q_SIZE,   /* the same; as text it may have a suffix: 64k */
    Q_NUMBER, /* with a fraction */
    Q_BOOL,
    Q_NULL,
    Q_ANY,
    Q_ENUM,
    Q_LIST,
    Q_STRUCT,
    Q_UNION, /* members, one of which (the tag) picks more members */
    Q_ALT,   /* one of several types with different JSON types */
};

struct qtype;

struct qmember {
    const char *name;
    const struct qtype *type;
    bool optional;
};
struct qvariant { /* of a union: the tag's value, and a struct with what is there besides */
    const char *tag;
    const struct qtype *type; /* NULL: nothing */
};

struct qtype {
    enum qkind kind;
    const char *name;
    int64_t min, max;             /* Q_INT, Q_SIZE */
    const char *const *values;    /* Q_ENUM: up to a NULL */
    const struct qtype *element;  /* Q_LIST */
    const struct qmember *member; /* STRUCT, UNION, ALT; up to one without a name */
    const char *tag;              /* Q_UNION: a member's name */
    const struct qvariant *variant;
};

extern const struct qtype q_str, q_bool, q_int, q_size, q_number, q_null, q_any, q_uint8, q_uint16,
    q_uint32, q_int64, q_str_list;

/* Declaring types. */
#define Q_MEMBERS(...)                                                                             \
    (const struct qmember[])                                                                       \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }
#define Q_NAMES(...)                                                                               \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

/* schema_check: is *value of this type? It is changed in place: to what the type wants, if
 * from_text, where all values may be strings (on a command line); unchanged otherwise. name: of the
 * parameter, for messages; "" for the arguments as a whole. Errors have QEMU's texts. */
bool schema_check(const struct qtype *t, const char *name, bool from_text, json_t **value,
                  struct err **errp);

/* schema_find_member: of a struct or union (with tag's value, or NULL), or NULL. */
const struct qmember *schema_find_member(const struct qtype *t, const char *tag, const char *name);
/* schema_variant: the struct that belongs to the tag's value, or NULL. */
const struct qtype *schema_variant(const struct qtype *t, const char *tag);

/* Access to checked arguments. A member that is not there: NULL, or otherwise. */
const char *arg_str(const json_t *args, const char *name);
int64_t arg_int(const json_t *args, const char *name, int64_t otherwise);
bool arg_bool(const json_t *args, const char *name, bool otherwise);
static inline json_t *arg_get(const json_t *args, const char *name)
{
    return json_object_get(args, name);
}
static inline bool arg_has(const json_t *args, const char *name)
{
    return json_object_get(args, name) != NULL;
}

/* dotted_parse: "a=1,b.c=on,d.0=x" as an object of strings, objects and lists, as QEMU's command
 * line has it; implied: the key of a first word without '=' (NULL: there is none). A doubled comma
 * stands for a comma. Text that begins with '{' is JSON. NULL with *errp set. */
json_t *dotted_parse(const char *text, const char *implied, struct err **errp);
/* dotted_set: put a string, or any value (taken over), at a dotted key of an object. */
bool dotted_set(json_t *object, const char *key, json_t *value, struct err **errp);
/* dotted_lists: turn objects whose keys are 0, 1, 2... into lists, throughout *value. */
bool dotted_lists(json_t **value, struct err **errp);

#endif
