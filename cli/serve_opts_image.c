/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Options of serve: the image and how it is opened.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/parse.h"
#include "cli/serve_opts_priv.h"

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

static bool parse_detect_zeroes(const char *text, enum detect_zeroes *out, struct err **errp)
{
    static const char *const modes[] = {"off", "on", "unmap"}; /* in the order of the enum */

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (strcmp(text, modes[i]) == 0) {
            *out = (enum detect_zeroes)i;
            return true;
        }
    }
    return err_set(errp, EINVAL, "--detect-zeroes: '%s' is not known; it is off, on or unmap",
                   text);
}

static bool parse_l2_cache(const char *text, uint64_t *out, struct err **errp)
{
    return parse_size(text, "--l2-cache-size", out, errp) &&
           (*out || err_set(errp, EINVAL, "--l2-cache-size: '%s' is no room for a table", text));
}

static bool check_aio(const char *text, struct err **errp)
{
    return strcmp(text, "threads") == 0 || strcmp(text, "native") == 0 ||
           strcmp(text, "io_uring") == 0 ||
           err_set(errp, EINVAL, "--aio: '%s' is not known; it is threads, native or io_uring",
                   text);
}

static bool take_image_key(struct serve_export *x, const struct kv *kv, struct err **errp)
{
    const char *what = *kv->key ? kv->key : kv->value;

    if (strcmp(kv->key, "driver") == 0)
        return format_parse(kv->value, "--image-opts driver", &x->format, errp);
    if (strcmp(kv->key, "file.driver") == 0)
        return strcmp(kv->value, "file") == 0 ||
               err_set(errp, ENOTSUP, "--image-opts: file.driver=%s is not supported; it is file",
                       kv->value);
    if (strcmp(kv->key, "file.filename") == 0) {
        mem_free(x->image_text);
        x->image_text = mem_strdup(kv->value);
        return x->image_text || err_set(errp, ENOMEM, "--image-opts: out of memory");
    }
    return err_set(errp, ENOTSUP,
                   "--image-opts: '%s' is not supported; there are driver, file.driver and "
                   "file.filename",
                   what);
}

bool serve_settle_image_opts(struct serve_export *x, struct err **errp)
{
    struct kv_list list;
    bool ok = true;

    if (!x->image_opts)
        return true;
    if (x->format != FORMAT_UNSAID)
        return err_set(errp, EINVAL, "--image-opts and -f exclude each other");
    if (!kv_parse(x->image, "--image-opts", &list, errp))
        return false;
    for (size_t i = 0; ok && i < list.n; i++)
        ok = take_image_key(x, &list.v[i], errp);
    kv_free(&list);
    if (!ok)
        return false;
    if (x->format == FORMAT_UNSAID || !x->image_text)
        return err_set(errp, EINVAL, "--image-opts: %s is missing",
                       x->image_text ? "driver" : "file.filename");
    x->image = x->image_text;
    return true;
}

enum take serve_take_image(int opt, const char *arg, struct serve_export *x, struct err **errp)
{
    switch (opt) {
    case 'f':
        return take_if(format_parse(arg, "--format", &x->format, errp));
    case 'l':
        mem_free(x->snapshot_text);
        x->has_snapshot = x->read_only = true;
        return take_if(snapshot_ref_parse(arg, "-l", &x->snapshot, &x->snapshot_text, errp));
    case 's':
        x->temporary = true;
        return TAKE_OK;
    case 'r':
        x->read_only = true;
        return TAKE_OK;
    case 'o':
        return take_if(parse_size(arg, "--offset", &x->offset, errp));
    case 'n':
        x->cache = CACHE_NONE;
        return TAKE_OK;
    case OPT_L2_CACHE_SIZE:
        return take_if(parse_l2_cache(arg, &x->l2_cache_bytes, errp));
    case OPT_AIO: /* there is one way here */
        return take_if(check_aio(arg, errp));
    case OPT_IMAGE_OPTS:
        x->image_opts = true;
        return TAKE_OK;
    case OPT_CACHE:
        return take_if(parse_cache(arg, &x->cache, errp));
    case OPT_DISCARD:
        return take_if(parse_discard(arg, &x->ignore_discard, errp));
    case OPT_DETECT_ZEROES:
        return take_if(parse_detect_zeroes(arg, &x->detect_zeroes, errp));
    case OPT_ALLOW_RESIZE:
        x->resizable = true;
        return TAKE_OK;
    case 'A':
        x->allocation_depth = true;
        return TAKE_OK;
    case OPT_NO_LOCK:
        x->no_lock = true;
        return TAKE_OK;
    case OPT_BACKING_DIR:
        x->backing_dir = arg;
        return TAKE_OK;
    }
    return TAKE_OTHER;
}
