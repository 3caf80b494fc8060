/* SPDX-License-Identifier: BSD-3-Clause
 *
 * NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
 *
 * Wildcards ("base:", "qemu:", "qemu:dirty-bitmap:") work in LIST only. A query that matches
 * nothing, also one of an unknown namespace, is passed over in silence, as the protocol wants.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "server/server_priv.h"

/* Each query is held against each context, while everybody else waits. */
#define MAX_QUERIES 1024u

static bool str_is(struct wire_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.p, text, s.len) == 0;
}

static bool matches(struct wire_str q, const struct offer *o, bool wildcards)
{
    size_t n = strlen(o->prefix);

    if (wildcards && str_is(q, "qemu:"))
        return strncmp(o->prefix, "qemu:", 5) == 0;
    if (wildcards && str_is(q, o->prefix))
        return true;
    return q.len == n + strlen(o->leaf) && memcmp(q.p, o->prefix, n) == 0 &&
           memcmp(q.p + n, o->leaf, q.len - n) == 0;
}

static void reply_context(struct conn *c, uint32_t option, const struct offer *o, uint32_t id)
{
    uint8_t head[4 + 32];
    size_t n = strlen(o->prefix);

    put_be32(head, id);
    memcpy(head + 4, o->prefix, n);
    hs_reply(c, option, NBD_REP_META_CONTEXT, head, 4 + n, o->leaf, strlen(o->leaf));
}

/* Keep the chosen offers as the connection's contexts. */
static bool select_contexts(struct conn *c, struct target *t, struct offer *v, unsigned n,
                            const bool *chosen, struct err **errp)
{
    AUTO_FREE struct metactx *meta = mem_array(n, sizeof(*meta));
    unsigned k = 0;

    if (!meta)
        return err_set(errp, ENOMEM, "out of memory for %u contexts", n);
    /* Differences from the latest base on: each is made from the one before. */
    for (unsigned i = n; i-- > 0;) {
        if (chosen[i] && v[i].base && !checkpoint_diff(t->ckpt, v[i].base, errp))
            return false;
    }
    for (unsigned i = 0; i < n; i++) {
        if (!chosen[i])
            continue;
        meta[k].id = v[i].id;
        meta[k].map = v[i].map;
        if (v[i].base) {
            meta[k].map = checkpoint_diff(t->ckpt, v[i].base, errp);
            if (!meta[k].map)
                return false;
        }
        k++;
    }
    c->meta = steal(meta);
    c->n_meta = k;
    c->meta_target = *t;
    *t = (struct target){0};
    return true;
}

static bool answer(struct conn *c, uint32_t option, struct wire_meta *m, struct target *t,
                   struct err **errp)
{
    bool set = option == NBD_OPT_SET_META_CONTEXT;
    unsigned n;
    AUTO_FREE struct offer *v = metactx_offers(t, &n);
    AUTO_FREE bool *chosen = v ? mem_array(n, sizeof(*chosen)) : NULL;

    if (!chosen)
        return err_set(errp, ENOMEM, "out of memory for the list of contexts");
    for (uint32_t i = 0; i < m->n_queries; i++) {
        struct wire_str q = wire_string(&m->queries);
        for (unsigned k = 0; k < n; k++)
            chosen[k] |= matches(q, &v[k], !set);
    }
    if (!set && m->n_queries == 0)
        memset(chosen, true, n);
    if (set && !select_contexts(c, t, v, n, chosen, errp))
        return false;
    for (unsigned k = 0; k < n; k++) {
        if (chosen[k])
            reply_context(c, option, &v[k], set ? v[k].id : 0);
    }
    hs_reply(c, option, NBD_REP_ACK, NULL, 0, NULL, 0);
    return true;
}

void conn_forget_meta(struct conn *c)
{
    mem_free(c->meta);
    c->meta = NULL;
    c->n_meta = 0;
    target_release(&c->meta_target);
}

void opt_meta(struct conn *c, uint32_t option, const uint8_t *data, size_t len)
{
    bool set = option == NBD_OPT_SET_META_CONTEXT;
    struct wire_meta m;
    struct target t;
    struct err *e = NULL;
    int64_t since = clock_ns();

    if (set) /* also a failing SET forgets what was selected before */
        conn_forget_meta(c);
    if (set && !c->structured) {
        hs_error(c, option, NBD_REP_ERR_INVALID, "structured replies must be negotiated first");
        return;
    }
    if (!wire_get_meta(data, len, &m)) {
        hs_error(c, option, NBD_REP_ERR_INVALID,
                 "malformed: lengths that do not add up, or a string over %u bytes or with a NUL",
                 NBD_NAME_MAX);
        return;
    }
    if (m.n_queries > MAX_QUERIES) {
        hs_error(c, option, NBD_REP_ERR_TOO_BIG, "%u queries; at most %u are answered", m.n_queries,
                 MAX_QUERIES);
        return;
    }
    if (!target_find(c, m.name, set ? TARGET_OPEN : TARGET_PEEK, &t, &e)) {
        hs_error_err(c, option, e);
        return;
    }
    hs_slept(c, since);
    if (!answer(c, option, &m, &t, &e))
        hs_error_err(c, option, e);
    target_release(&t);
}
