/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Error objects: one allocation each, message included. When even that fails, a shared static error
 * takes its place, so that a failure is never mistaken for success.
 */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

struct err {
    int code;
    bool is_static;
    char *msg;
};

static struct err no_memory = {
    .code = ENOMEM,
    .is_static = true,
    .msg = (char *)"out of memory",
};

static void err_store(struct err **errp, int code, char *msg)
{
    if (!errp) {
        mem_free(msg);
        return;
    }
    assert(!*errp);
    struct err *e = msg ? mem_new(struct err) : NULL;
    if (!e) {
        mem_free(msg);
        *errp = &no_memory;
        return;
    }
    e->code = code;
    e->msg = msg;
    *errp = e;
}

bool err_vset(struct err **errp, int code, const char *fmt, va_list ap)
{
    err_store(errp, code, errp ? mem_vprintf(fmt, ap) : NULL);
    return false;
}

bool err_set(struct err **errp, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_vset(errp, code, fmt, ap);
    va_end(ap);
    return false;
}

bool err_set_errno(struct err **errp, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *head = errp ? mem_vprintf(fmt, ap) : NULL;
    va_end(ap);
    err_store(errp, code, head ? mem_printf("%s: %s", head, strerror(code)) : NULL);
    mem_free(head);
    return false;
}

bool err_prefix(struct err **errp, const char *fmt, ...)
{
    if (!errp || !*errp || (*errp)->is_static)
        return false;
    va_list ap;
    va_start(ap, fmt);
    char *head = mem_vprintf(fmt, ap);
    va_end(ap);
    char *joined = head ? mem_printf("%s%s", head, (*errp)->msg) : NULL;
    mem_free(head);
    if (joined) { /* without memory the message stays as it was */
        mem_free((*errp)->msg);
        (*errp)->msg = joined;
    }
    return false;
}

bool err_move(struct err **errp, struct err *src)
{
    if (!errp) {
        err_free(src);
        return false;
    }
    assert(!*errp);
    *errp = src;
    return false;
}

const char *err_msg(const struct err *e)
{
    return e ? e->msg : "no error";
}

int err_code(const struct err *e)
{
    return e ? e->code : 0;
}

void err_free(struct err *e)
{
    if (!e || e->is_static)
        return;
    mem_free(e->msg);
    mem_free(e);
}
