/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Errors of the control path: an errno-style code and a message for a person.
 *
 * Control-path functions return bool and take `struct err **errp` last. On failure they store one
 * error there (errp may be NULL if the caller does not care) and return false. The message names
 * the file, the field, the value and the limit. The data path does not use this: it returns -errno.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

struct err;

/* err_set: store a new error in *errp and return false, so that callers can `return err_set(...)`.
 * code: positive errno that names the kind (EINVAL malformed, ENOTSUP, EFBIG over a limit, ...).
 * errp: NULL, or points to NULL. Never fails: without memory a static error is stored. */
bool err_set(struct err **errp, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool err_vset(struct err **errp, int code, const char *fmt, va_list ap);

/* err_set_errno: like err_set, with ": " and the text of code appended to the message. */
bool err_set_errno(struct err **errp, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* err_prefix: put text in front of the message of *errp, if there is one. Returns false. */
bool err_prefix(struct err **errp, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* err_move: hand src (may be NULL) to *errp, freeing it when errp is NULL. Returns false. */
bool err_move(struct err **errp, struct err *src);

/* err_msg, err_code: what it says. e may be NULL ("no error", 0). The text belongs to e. */
const char *err_msg(const struct err *e);
int err_code(const struct err *e);

/* err_free: NULL is allowed. */
void err_free(struct err *e);

#endif
