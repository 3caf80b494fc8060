/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What -o says of a new image, with the names and values of qemu-img.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "cli/image_getopt.h"

static bool take_cluster_size(struct image_opts *o, const char *text, struct err **errp)
{
    uint64_t v;
    if (!parse_size(text, "-o cluster_size", &v, errp))
        return false;
    o->qc.cluster_size = (uint32_t)v; /* create says more of what is allowed */
    return (v > 0 && v <= 2 * MiB) ||
           err_set(errp, EINVAL, "-o cluster_size: the cluster size '%s' is not from 512 to 2M",
                   text);
}

static bool take_refcount_bits(struct image_opts *o, const char *text, struct err **errp)
{
    uint64_t v;
    if (!parse_u64(text, "-o refcount_bits", 1, 64, &v, errp))
        return false;
    o->qc.refcount_bits = (uint32_t)v;
    return true;
}

static bool take_compat(struct image_opts *o, const char *text, struct err **errp)
{
    if (strcmp(text, "0.10") == 0 || strcmp(text, "v2") == 0)
        o->qc.version = 2;
    else if (strcmp(text, "1.1") == 0 || strcmp(text, "v3") == 0)
        o->qc.version = 3;
    else
        return err_set(errp, EINVAL, "-o compat: '%s' is not known; it is 0.10 or 1.1", text);
    return true;
}

static bool take_compression(struct image_opts *o, const char *text, struct err **errp)
{
    o->qc.zstd = strcmp(text, "zstd") == 0;
    return o->qc.zstd || strcmp(text, "zlib") == 0 ||
           err_set(errp, EINVAL, "-o compression_type: '%s' is not known; it is zlib or zstd",
                   text);
}

static bool take_preallocation(struct image_opts *o, const char *text, struct err **errp)
{
    return image_take_preallocation(&o->qc.preallocation, text, "-o preallocation", errp);
}

static bool take_extended_l2(struct image_opts *o, const char *text, struct err **errp)
{
    return parse_bool(text, "-o extended_l2", &o->qc.extended_l2, errp);
}

static bool take_lazy_refcounts(struct image_opts *o, const char *text, struct err **errp)
{
    return parse_bool(text, "-o lazy_refcounts", &o->qc.lazy_refcounts, errp);
}

static bool take_data_file_raw(struct image_opts *o, const char *text, struct err **errp)
{
    return parse_bool(text, "-o data_file_raw", &o->qc.data_file_raw, errp);
}

static const struct create_key {
    const char *name;
    bool (*take)(struct image_opts *o, const char *text, struct err **errp);
} keys[] = {
    {"cluster_size", take_cluster_size},
    {"refcount_bits", take_refcount_bits},
    {"compat", take_compat},
    {"compression_type", take_compression},
    {"extended_l2", take_extended_l2},
    {"lazy_refcounts", take_lazy_refcounts},
    {"data_file_raw", take_data_file_raw},
    {"preallocation", take_preallocation},
};

/* The value becomes ours. */
static const char *own(struct image_opts *o, int slot, char **value)
{
    mem_free(o->owned[slot]);
    o->owned[slot] = *value;
    *value = NULL;
    return o->owned[slot];
}

static bool take_pair(struct image_opts *o, const char *key, char **value, struct err **errp)
{
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strcmp(key, keys[i].name) == 0) {
            o->has_qcow2_opts |= keys[i].take != take_preallocation;
            return keys[i].take(o, *value, errp);
        }
    if (strcmp(key, "backing_fmt") == 0)
        return format_parse(*value, "-o backing_fmt", &o->format[1], errp);
    if (strcmp(key, "size") == 0) {
        o->size = own(o, IMAGE_OWNED_SIZE, value);
    } else if (strcmp(key, "backing_file") == 0) {
        o->backing = own(o, IMAGE_OWNED_BACKING, value);
    } else if (strcmp(key, "data_file") == 0) {
        o->has_qcow2_opts = true;
        o->qc.data_file = own(o, IMAGE_OWNED_DATA_FILE, value);
    } else if (strncmp(key, "encrypt", 7) == 0) {
        return err_set(errp, ENOTSUP, "-o: '%s': encrypted images (AES, LUKS) are not supported",
                       key);
    } else {
        return err_set(errp, EINVAL,
                       "-o: '%s' is not known; there are cluster_size, refcount_bits, compat, "
                       "size, backing_file, backing_fmt, compression_type, extended_l2, "
                       "lazy_refcounts, data_file, data_file_raw and preallocation",
                       *key ? key : *value);
    }
    return true;
}

bool image_take_create(struct image_opts *o, const char *text, struct err **errp)
{
    struct kv_list l;
    bool ok = true;
    if (!kv_parse(text, "-o", &l, errp))
        return false;
    for (size_t i = 0; ok && i < l.n; i++)
        ok = take_pair(o, l.v[i].key, &l.v[i].value, errp);
    kv_free(&l);
    return ok;
}

struct qc_create_opts image_create_defaults(const struct image_opts *o)
{
    struct qc_create_opts co = o->qc;
    co.version = co.version ? co.version : 3;
    co.cluster_size = co.cluster_size ? co.cluster_size : 65536;
    co.refcount_bits = co.refcount_bits ? co.refcount_bits : 16;
    return co;
}

void image_print_create(const struct qc_create_opts *co)
{
    printf(" cluster_size=%" PRIu32 " extended_l2=%s compression_type=%s refcount_bits=%" PRIu32
           " compat=%s",
           co->cluster_size, co->extended_l2 ? "on" : "off", co->zstd ? "zstd" : "zlib",
           co->refcount_bits, co->version < 3 ? "0.10" : "1.1");
    if (co->lazy_refcounts)
        printf(" lazy_refcounts=on");
    if (co->data_file) {
        AUTO_FREE char *plain = image_plain(co->data_file);
        printf(" data_file=%s data_file_raw=%s", plain ? plain : "?",
               co->data_file_raw ? "on" : "off");
    }
    if (co->preallocation != QC_PREALLOC_OFF)
        printf(" preallocation=%s", image_preallocation_name(co->preallocation));
}

void image_create_json(json_t *j, const struct qc_create_opts *co)
{
    json_object_set_new(j, "cluster-size", json_integer(co->cluster_size));
    json_object_set_new(j, "refcount-bits", json_integer(co->refcount_bits));
    json_object_set_new(j, "compat", json_string(co->version < 3 ? "0.10" : "1.1"));
    json_object_set_new(j, "compression-type", json_string(co->zstd ? "zstd" : "zlib"));
    json_object_set_new(j, "extended-l2", json_boolean(co->extended_l2));
    json_object_set_new(j, "lazy-refcounts", json_boolean(co->lazy_refcounts));
    if (co->data_file) {
        json_object_set_new(j, "data-file", image_json_text(co->data_file));
        json_object_set_new(j, "data-file-raw", json_boolean(co->data_file_raw));
    }
    json_object_set_new(j, "preallocation",
                        json_string(image_preallocation_name(co->preallocation)));
}
