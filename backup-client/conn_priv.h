/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One libnbd connection and the requests on it.
 */
#ifndef BACKUP_CLIENT_CONN_PRIV_H
#define BACKUP_CLIENT_CONN_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "io/co.h"
#include "io/lock.h"

struct nbd_handle;

/* A request: lives on the stack of the coroutine that waits for it. */
struct nbd_op {
    struct co *waiter; /* NULL: nobody sleeps on it yet */
    bool done;
    int error; /* errno; 0 = success */
    struct nbd_op *prev, *next;
};

struct conn {
    struct nbd_handle *nbd;
    uint64_t timeout_ms;
    struct nbd_op *ops; /* under way */
    int64_t heard_ns;   /* when the server last said something, or was first asked */
    bool closing, dead;
    int fd;          /* the socket, libnbd's, that conn_step waits on */
    const char *why; /* dead: the reason, or NULL: libnbd's */
    struct co_group *pumps;
};

/* conn_new: an unconnected handle. */
struct conn *conn_new(uint64_t timeout_ms, struct err **errp);
/* conn_free: closes without a word. The pump must have ended. NULL is allowed. */
void conn_free(struct conn *c);

/* conn_step: wait for the socket and let libnbd go on. 0, or -errno (then the connection is dead).
 * For use before the pump runs. Yields. */
int conn_step(struct conn *c);
/* conn_pump: start the coroutine that drives c from now on; counted in group. */
bool conn_pump(struct conn *c, struct co_group *group);
/* conn_stop: end the pump; what is under way fails with ECANCELED. Does not yield. */
void conn_stop(struct conn *c, const char *why);

/* op_callback: libnbd's completion callback; user_data is the op. It retires the command.
 * op_begin before the command is issued; op_wait after: yields; returns 0 or -errno. op_cancel
 * instead of op_wait if issuing it failed. */
int op_callback(void *op, int *error);
void op_begin(struct conn *c, struct nbd_op *op);
void op_cancel(struct conn *c, struct nbd_op *op);
int op_wait(struct conn *c, struct nbd_op *op);

#endif
