/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A client of a control socket that waits for each answer: for command lines.
 */
#ifndef CLI_QMP_CLIENT_H
#define CLI_QMP_CLIENT_H

#include <stdbool.h>

#include <jansson.h>

#include "base/err.h"

struct qmp_client;

/* What is done with events that come while an answer is awaited. Borrowed. */
typedef void qmp_event_fn(void *arg, const json_t *event);

/* qmp_connect: to a Unix socket; greets and negotiates. NULL and *errp on failure. Blocks. */
struct qmp_client *qmp_connect(const char *path, struct err **errp);
void qmp_disconnect(struct qmp_client *q); /* NULL is allowed */
void qmp_on_event(struct qmp_client *q, qmp_event_fn *fn, void *arg);

/* qmp_command: args: borrowed, NULL for none. *result: a new reference. Errors: QMP_ANSWERED if the
 * server answered with an error ("CLASS: TEXT" if the class says anything), others as they come.
 * Blocks. */
#define QMP_ANSWERED 100010
bool qmp_command(struct qmp_client *q, const char *name, const json_t *args, json_t **result,
                 struct err **errp);
/* qmp_next: the next object that comes, a new reference; NULL with no error at the end. Blocks. */
json_t *qmp_next(struct qmp_client *q, struct err **errp);

#endif
