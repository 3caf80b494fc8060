/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Objects of object-add.
 */
#ifndef CONTROL_OBJECT_H
#define CONTROL_OBJECT_H

#include "control/control_priv.h"
#include "filters/throttle.h"
#include "io/tls.h"

#define SECRET_MAX 65536 /* bytes */

struct control_object {
    struct control_object *next; /* newest first */
    char *id;
    char *secret; /* terminated, and maybe with more NULs inside; NULL: not a secret */
    size_t secret_len;
    struct tls_creds *creds;         /* a reference; NULL: not credentials */
    struct throttle_group *throttle; /* a reference; NULL: not a throttle group */
    bool proves_clients;             /* only clients with a certificate of our CA get in */
};

struct control_object *object_find(struct control *c, const char *id);
/* object_creds: credentials by id, borrowed; or NULL with QEMU's text. */
struct tls_creds *object_creds(struct control *c, const char *id, struct err **errp);
/* object_throttle: a throttle group by id, borrowed; or NULL with QEMU's text. */
struct throttle_group *object_throttle(struct control *c, const char *id, struct err **errp);
/* throttle_group_load: a new group from checked properties; its type is q_throttle_group. */
struct throttle_group *throttle_group_load(const json_t *args, struct err **errp);
extern const struct qtype q_throttle_group;
void objects_clear(struct control *c);

#endif
