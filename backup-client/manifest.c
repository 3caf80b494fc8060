/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Manifests to and from JSON.
 *
 * A manifest may come from a damaged disk or from somebody who wishes us ill: every field is
 * checked for presence, type and range, no path is ever taken from one (file names follow from the
 * uuid), and messages name the file and the field. Unknown fields are left alone, so that a later
 * version may add some; a change of meaning raises "version".
 */
#include "backup-client/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "backup-client/uri.h"
#include "base/cleanup.h"
#include "base/mem.h"

struct field_reader {
    const json_t *object;
    const char *name; /* of the file */
    struct err **errp;
};

static bool field_bad(const struct field_reader *f, const char *key, const char *why)
{
    return err_set(f->errp, EBADMSG, "%s: field \"%s\" %s", f->name, key, why);
}

static const char *field_text(const struct field_reader *f, const char *key, size_t max)
{
    const json_t *v = json_object_get(f->object, key);
    if (!json_is_string(v)) {
        field_bad(f, key, v ? "is not a string" : "is missing");
        return NULL;
    }
    if (json_string_length(v) > max || strlen(json_string_value(v)) != json_string_length(v)) {
        field_bad(f, key, "is too long or holds a NUL");
        return NULL;
    }
    return json_string_value(v);
}

static bool field_copy(const struct field_reader *f, const char *key, size_t max, char **out)
{
    const char *text = field_text(f, key, max);
    if (!text)
        return false;
    *out = mem_strdup(text);
    return *out || err_set(f->errp, ENOMEM, "out of memory");
}

static bool field_u64(const struct field_reader *f, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(f->object, key);
    if (!json_is_integer(v))
        return field_bad(f, key, v ? "is not an integer" : "is missing");
    if (json_integer_value(v) < 0)
        return field_bad(f, key, "is negative");
    *out = (uint64_t)json_integer_value(v);
    return true;
}

static bool field_bool(const struct field_reader *f, const char *key, bool *out)
{
    const json_t *v = json_object_get(f->object, key);
    if (!json_is_boolean(v))
        return field_bad(f, key, v ? "is not true or false" : "is missing");
    *out = json_is_true(v);
    return true;
}

static bool field_uuid(const struct field_reader *f, const char *key, struct uuid *out)
{
    const char *text = field_text(f, key, UUID_TEXT_LEN);
    if (!text)
        return false;
    return uuid_parse(text, out) || field_bad(f, key, "is not a UUID in lower case");
}

static bool field_digest(const struct field_reader *f, const char *key, struct digest *out)
{
    const char *text = field_text(f, key, DIGEST_HEX_LEN);
    if (!text)
        return false;
    return hex_decode(text, out->v, DIGEST_LEN) || field_bad(f, key, "is not a SHA-256 in hex");
}

static bool field_is(const struct field_reader *f, const char *key, const char *want)
{
    const char *text = field_text(f, key, 64);
    if (!text)
        return false;
    if (strcmp(text, want) != 0)
        return err_set(f->errp, ENOTSUP, "%s: field \"%s\" is \"%s\"; this program knows \"%s\"",
                       f->name, key, text, want);
    return true;
}

static bool field_time(const struct field_reader *f, const char *key, int64_t *out)
{
    const char *text = field_text(f, key, 20);
    struct tm tm = {0};
    char again[32];
    if (!text)
        return false;
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (!end || *end)
        return field_bad(f, key, "is not a time like 2026-01-31T23:59:59Z");
    *out = (int64_t)timegm(&tm);
    manifest_time(*out, again, sizeof(again));
    return strcmp(again, text) == 0 || field_bad(f, key, "is not a real time");
}

static bool parse_identity(const struct field_reader *f, struct manifest *m)
{
    uint64_t version = 0;
    if (!field_is(f, "format", MANIFEST_FORMAT) || !field_u64(f, "version", &version))
        return false;
    if (version != MANIFEST_VERSION)
        return err_set(f->errp, ENOTSUP,
                       "%s: field \"version\" is %" PRIu64 "; this program knows %d", f->name,
                       version, MANIFEST_VERSION);
    if (!field_uuid(f, "uuid", &m->uuid) || !field_u64(f, "sequence", &m->sequence) ||
        !field_time(f, "created", &m->created) || !field_copy(f, "disk", DISK_NAME_MAX, &m->disk))
        return false;
    if (m->sequence == 0)
        return field_bad(f, "sequence", "is 0; the first backup is 1");
    return true;
}

static bool parse_parent(const struct field_reader *f, struct manifest *m)
{
    const json_t *parent = json_object_get(f->object, "parent");
    const char *level = field_text(f, "level", 16);
    if (!level)
        return false;
    if (strcmp(level, "full") != 0 && strcmp(level, "incremental") != 0)
        return field_bad(f, "level", "is neither \"full\" nor \"incremental\"");
    m->has_parent = strcmp(level, "incremental") == 0;
    if (!parent)
        return field_bad(f, "parent", "is missing");
    if (!m->has_parent)
        return json_is_null(parent) || field_bad(f, "parent", "is set in a full backup");
    if (!json_is_object(parent))
        return field_bad(f, "parent", "is not an object");

    struct field_reader in = {parent, f->name, f->errp};
    if (!field_uuid(&in, "uuid", &m->parent) ||
        !field_digest(&in, "manifest_sha256", &m->parent_manifest))
        return err_prefix(f->errp, "in \"parent\": ");
    return !uuid_equal(&m->parent, &m->uuid) || field_bad(f, "parent", "is the backup itself");
}

static bool parse_source(const struct field_reader *f, struct manifest *m)
{
    const json_t *source = json_object_get(f->object, "source");
    if (!json_is_object(source))
        return field_bad(f, "source", source ? "is not an object" : "is missing");

    struct field_reader in = {source, f->name, f->errp};
    if (!field_copy(&in, "uri", NBD_URI_MAX, &m->source_uri) ||
        !field_copy(&in, "export", NBD_NAME_MAX, &m->source_export) ||
        !field_bool(&in, "live", &m->live))
        return err_prefix(f->errp, "in \"source\": ");
    if (!json_is_null(json_object_get(source, "bitmap")) &&
        !field_copy(&in, "bitmap", 1023, &m->bitmap))
        return err_prefix(f->errp, "in \"source\": ");
    if (json_is_null(json_object_get(source, "checkpoint")))
        return true;

    char want[CHECKPOINT_NAME_LEN + 1];
    const char *checkpoint = field_text(&in, "checkpoint", CHECKPOINT_NAME_LEN);
    if (!checkpoint)
        return err_prefix(f->errp, "in \"source\": ");
    manifest_checkpoint(&m->uuid, want);
    if (strcmp(checkpoint, want) != 0)
        return field_bad(&in, "checkpoint", "does not belong to the backup's uuid");
    m->has_checkpoint = true;
    return true;
}

static bool parse_content(const struct field_reader *f, struct manifest *m)
{
    uint64_t block = 0;
    if (!field_u64(f, "size", &m->size) || !field_u64(f, "block_size", &block) ||
        !field_u64(f, "data_bytes", &m->data_bytes) ||
        !field_u64(f, "zero_bytes", &m->zero_bytes) ||
        !field_u64(f, "layer_size", &m->layer_size) || !field_is(f, "algorithm", "sha256") ||
        !field_digest(f, "layer_root", &m->layer_root) ||
        !field_digest(f, "disk_root", &m->disk_root))
        return false;
    if (m->size == 0 || m->size > INT64_MAX - BACKUP_BLOCK)
        return field_bad(f, "size", "is out of range");
    if (block != BACKUP_BLOCK)
        return field_bad(f, "block_size", "is not 65536");
    if (m->data_bytes > m->size || m->zero_bytes > m->size - m->data_bytes)
        return field_bad(f, "data_bytes", "and \"zero_bytes\" exceed the disk");
    return true;
}

/* The JSON parser recurses, and this may run on a coroutine's small stack. */
#define NESTING_MAX 16

static bool nested_too_deeply(const char *text, size_t len)
{
    bool in_string = false;
    unsigned depth = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"')
            in_string = !in_string;
        else if (in_string)
            i += text[i] == '\\';
        else if (text[i] == '[' || text[i] == '{')
            depth++;
        else if ((text[i] == ']' || text[i] == '}') && depth > 0)
            depth--;
        if (depth > NESTING_MAX)
            return true;
    }
    return false;
}

bool manifest_parse(const char *text, size_t len, const char *name, struct manifest *out,
                    struct err **errp)
{
    json_error_t why;
    memset(out, 0, sizeof(*out));
    if (len > MANIFEST_MAX_BYTES)
        return err_set(errp, EBADMSG, "%s: longer than %d bytes", name, MANIFEST_MAX_BYTES);
    if (nested_too_deeply(text, len))
        return err_set(errp, EBADMSG, "%s: nested more than %d deep", name, NESTING_MAX);
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return err_set(errp, EBADMSG, "%s: line %d: %s", name, why.line, why.text);

    struct field_reader f = {root, name, errp};
    bool ok = json_is_object(root) || err_set(errp, EBADMSG, "%s: not a JSON object", name);
    ok = ok && parse_identity(&f, out) && parse_parent(&f, out) && parse_source(&f, out) &&
         parse_content(&f, out);
    json_decref(root);
    if (!ok)
        manifest_free(out);
    return ok;
}

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *digest_json(const struct digest *d)
{
    char hex[DIGEST_HEX_LEN + 1];
    hex_encode(d->v, DIGEST_LEN, hex);
    return json_string(hex);
}

static json_t *uuid_json(const struct uuid *u)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(u, text);
    return json_string(text);
}

static json_t *manifest_json(const struct manifest *m)
{
    char checkpoint[CHECKPOINT_NAME_LEN + 1], created[32];
    manifest_checkpoint(&m->uuid, checkpoint);
    manifest_time(m->created, created, sizeof(created));

    json_t *parent = m->has_parent ? json_pack("{s:o, s:o}", "uuid", uuid_json(&m->parent),
                                               "manifest_sha256", digest_json(&m->parent_manifest))
                                   : json_null();
    json_t *source =
        json_pack("{s:s, s:s, s:o, s:o, s:b}", "uri", m->source_uri, "export", m->source_export,
                  "checkpoint", text_or_null(m->has_checkpoint ? checkpoint : NULL), "bitmap",
                  text_or_null(m->bitmap), "live", m->live);
    return json_pack("{s:s, s:i, s:o, s:I, s:s, s:o, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I,"
                     " s:s, s:o, s:o}",
                     "format", MANIFEST_FORMAT, "version", MANIFEST_VERSION, "uuid",
                     uuid_json(&m->uuid), "sequence", (json_int_t)m->sequence, "level",
                     manifest_level(m), "parent", parent, "created", created, "disk", m->disk,
                     "source", source, "size", (json_int_t)m->size, "block_size",
                     (json_int_t)BACKUP_BLOCK, "data_bytes", (json_int_t)m->data_bytes,
                     "zero_bytes", (json_int_t)m->zero_bytes, "layer_size",
                     (json_int_t)m->layer_size, "algorithm", "sha256", "layer_root",
                     digest_json(&m->layer_root), "disk_root", digest_json(&m->disk_root));
}

char *manifest_format(const struct manifest *m)
{
    json_t *root = manifest_json(m);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    char *out = text ? mem_printf("%s\n", text) : NULL;
    free(text);
    json_decref(root);
    return out;
}

void manifest_free(struct manifest *m)
{
    mem_free(m->disk);
    mem_free(m->source_uri);
    mem_free(m->source_export);
    mem_free(m->bitmap);
    memset(m, 0, sizeof(*m));
}

void manifest_time(int64_t when, char *buf, size_t buf_len)
{
    time_t t = (time_t)when;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || strftime(buf, buf_len, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        buf[0] = '\0';
}

void manifest_checkpoint(const struct uuid *u, char *buf)
{
    memcpy(buf, CHECKPOINT_PREFIX, 3);
    uuid_format(u, buf + 3);
}

bool text_is_utf8(const char *text)
{
    json_t *j = json_string(text);
    json_decref(j);
    return j != NULL;
}

bool disk_name_check(const char *name, struct err **errp)
{
    size_t len = strlen(name);
    if (len == 0 || len > DISK_NAME_MAX)
        return err_set(errp, EINVAL, "disk name '%.*s': 1 to %d bytes are allowed", DISK_NAME_MAX,
                       name, DISK_NAME_MAX);
    if (name[0] == '.' || name[0] == '-')
        return err_set(errp, EINVAL, "disk name '%s': may not start with '%c'", name, name[0]);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c == '/' || c == '@' || c < 0x20 || c == 0x7f)
            return err_set(errp, EINVAL, "disk name '%s': byte 0x%02x is not allowed", name, c);
    }
    return text_is_utf8(name) || err_set(errp, EINVAL, "disk name '%s': is not UTF-8", name);
}
