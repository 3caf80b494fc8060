/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Values as people write them. Every message names the key and quotes what was wrong.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/parse.h"
#include "faults/text.h"

static const struct {
    const char *name;
    int error;
} errors[] = {
#define X(name)                                                                                    \
    {                                                                                              \
#name, name                                                                                \
    }
    X(EPERM),
    X(ENOENT),
    X(EINTR),
    X(EIO),
    X(ENXIO),
    X(E2BIG),
    X(EBADF),
    X(EAGAIN),
    X(ENOMEM),
    X(EACCES),
    X(EFAULT),
    X(EBUSY),
    X(EEXIST),
    X(ENODEV),
    X(EINVAL),
    X(EFBIG),
    X(ENOSPC),
    X(ESPIPE),
    X(EROFS),
    X(EDOM),
    X(ERANGE),
    X(ENODATA),
    X(ETIME),
    X(ENOLINK),
    X(EPROTO),
    X(EBADMSG),
    X(EOVERFLOW),
    X(EILSEQ),
    X(EREMOTEIO),
    X(EOPNOTSUPP),
    X(EDQUOT),
    X(ECONNRESET),
    X(ESHUTDOWN),
    X(ETIMEDOUT),
    X(ESTALE),
    X(ENOMEDIUM),
    X(ECANCELED),
#undef X
    {"ENOTSUP", ENOTSUP},
};

/* A copy that ends with a 0; empty if it is too long to be any number. */
static const char *terminated(struct ini_text t, char buf[64])
{
    size_t n = t.len < 64 ? t.len : 0;

    memcpy(buf, t.at, n);
    buf[n] = 0;
    return buf;
}

bool value_size(struct ini_text t, const char *key, uint64_t *out, struct err **errp)
{
    char buf[64], shown[64];

    if (parse_size(terminated(t, buf), key, out, NULL) && *out <= INT64_MAX)
        return true;
    return err_set(errp, EINVAL, "'%s' must be a size in bytes, such as 512, 4k or 1M, not \"%s\"",
                   key, text_printable(t, shown));
}

bool value_number(struct ini_text t, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                  struct err **errp)
{
    char buf[64], shown[64];

    if (parse_u64(terminated(t, buf), key, min, max, out, NULL))
        return true;
    if (max == UINT64_MAX)
        return err_set(errp, EINVAL, "'%s' must be a number from %" PRIu64 " on, not \"%s\"", key,
                       min, text_printable(t, shown));
    return err_set(errp, EINVAL,
                   "'%s' must be a number from %" PRIu64 " to %" PRIu64 ", not \"%s\"", key, min,
                   max, text_printable(t, shown));
}

bool value_bool(struct ini_text t, const char *key, bool *out, struct err **errp)
{
    char buf[64], shown[64];

    if (parse_bool(terminated(t, buf), key, out, NULL))
        return true;
    return err_set(errp, EINVAL, "'%s' must be on or off, not \"%s\"", key,
                   text_printable(t, shown));
}

bool value_word(struct ini_text t, const char *key, const char *const *names, size_t n,
                unsigned *out, struct err **errp)
{
    const char *meant;
    char shown[64], list[256];
    struct out o = {list, sizeof(list), 0};

    for (size_t i = 0; i < n; i++) {
        if (names[i] && text_is(t, names[i])) {
            *out = (unsigned)i;
            return true;
        }
    }
    meant = text_nearest(t, names, n);
    if (meant)
        return err_set(errp, EINVAL, "unknown %s \"%s\": did you mean %s?", key,
                       text_printable(t, shown), meant);
    for (size_t i = 0; i < n; i++)
        if (names[i])
            out_put(&o, "%s%s", o.used ? ", " : "", names[i]);
    return err_set(errp, EINVAL, "unknown %s \"%s\": there are %s", key, text_printable(t, shown),
                   list);
}

bool value_words(struct ini_text t, const char *key, const char *const *names, size_t n,
                 unsigned *out, struct err **errp)
{
    struct ini_text part;
    unsigned i = 0;

    *out = 0;
    while (text_split(&t, ',', &part)) {
        if (!value_word(text_trim(part), key, names, n, &i, errp))
            return false;
        *out |= 1u << i;
    }
    return true;
}

bool value_errno(struct ini_text t, const char *key, int *out, struct err **errp)
{
    const char *names[ARRAY_LEN(errors)];
    char shown[64];
    unsigned i = 0;
    uint64_t v;

    if (t.len > 0 && t.at[0] >= '0' && t.at[0] <= '9') {
        if (!value_number(t, key, 1, 4095, &v, errp))
            return false;
        *out = (int)v;
        return true;
    }
    for (i = 0; i < ARRAY_LEN(errors); i++) {
        names[i] = errors[i].name;
        if (text_is(t, names[i])) {
            *out = errors[i].error;
            return true;
        }
    }
    if (text_nearest(t, names, ARRAY_LEN(names)))
        return err_set(errp, EINVAL, "unknown %s \"%s\": did you mean %s?", key,
                       text_printable(t, shown), text_nearest(t, names, ARRAY_LEN(names)));
    return err_set(errp, EINVAL,
                   "unknown %s \"%s\": write a name such as EIO or ENOSPC, or a number", key,
                   text_printable(t, shown));
}

bool value_prob(struct ini_text t, const char *key, double *out, struct err **errp)
{
    struct ini_text digits = t;
    char buf[64], shown[64], *end;
    bool percent = t.len > 0 && t.at[t.len - 1] == '%';

    if (percent)
        digits.len--;
    digits = text_trim(digits);
    terminated(digits, buf);
    /* strtod takes more than is meant: signs, exponents, "nan". */
    if (buf[0] && strspn(buf, "0123456789.") == strlen(buf)) {
        *out = strtod(buf, &end) / (percent ? 100 : 1);
        if (*end == 0 && *out > 0 && *out <= 1)
            return true;
    }
    return err_set(errp, EINVAL,
                   "'%s' must be a probability above 0, such as 25%% or 0.25, not \"%s\"", key,
                   text_printable(t, shown));
}

const char *errno_text(int error, char buf[16])
{
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        if (errors[i].error == error) {
            snprintf(buf, 16, "%s", errors[i].name);
            return buf;
        }
    }
    snprintf(buf, 16, "%d", error);
    return buf;
}
