/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One connection of an NBD node, and the requests on it.
 */
#ifndef BLOCK_NBD_PRIV_H
#define BLOCK_NBD_PRIV_H

#include <sys/socket.h>

#include "block/nbd.h"
#include "io/lock.h"

struct nbd_handle;

struct nbd_call { /* a request; on the stack of the coroutine that waits for it */
    struct nbd_link *link;
    struct co *waiter; /* NULL: nobody sleeps on it yet */
    bool done;
    int error; /* errno; 0: success */
    struct nbd_call *prev, *next;
};

struct nbd_link {
    struct nbd_handle *h;
    unsigned refs;          /* the owner's, the pump's, and one for each call */
    int fd;                 /* libnbd's socket, which the pump waits on */
    bool dead;              /* nothing works any more: libnbd is only called to free the handle */
    char *why;              /* dead: libnbd's words; may be NULL */
    int code;               /* dead: errno */
    struct nbd_call *calls; /* under way */
    struct co_group *pumps;
    void (*died)(void *arg);
    void *died_arg;
};

/* link_new: a handle that link_connect can be called with. */
struct nbd_link *link_new(struct err **errp);
/* link_connect: connect and shake hands; past deadline_ns ETIMEDOUT. link_kill ends it, too.
 * ENOENT: there is no such export, or no such socket file. Yields. */
bool link_connect(struct nbd_link *l, const char *export, const struct sockaddr *addr,
                  socklen_t addr_len, int64_t deadline_ns, struct err **errp);
/* link_start: drive the connection from now on. died is called (it must not yield) when it is lost,
 * after all calls have ended. pumps: counts the coroutine that does it. */
bool link_start(struct nbd_link *l, struct co_group *pumps, void (*died)(void *arg), void *arg,
                struct err **errp);
/* link_kill: give it up; calls under way fail. died is not called. Does not yield. */
void link_kill(struct nbd_link *l);
/* link_unref: the owner's reference; l must have been killed, or be dead, or never started. */
void link_unref(struct nbd_link *l);

/* call_begin, then issue the command with call_callback for its completion, then call_wait with
 * what issuing it returned: yields; 0 or -errno, -ENOTCONN if the connection was lost. */
void call_begin(struct nbd_link *l, struct nbd_call *c);
int call_callback(void *call, int *error);
int call_wait(struct nbd_call *c, int64_t issued);

/* --- nbd_dial.c --- */

/* nbd_dial: a connection to one of the addresses of opts, made by deadline_ns. *opening is the
 * attempt under way, for whoever wants to kill it; else NULL. Yields. */
struct nbd_link *nbd_dial(const struct nbd_opts *opts, int64_t deadline_ns,
                          struct nbd_link **opening, struct err **errp);

#endif
