/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Choosing an export: NBD_OPT_EXPORT_NAME, NBD_OPT_INFO, NBD_OPT_GO.
 */
#include <stdio.h>

#include "base/log.h"
#include "server/server_priv.h"

static void log_entered(const struct conn *c)
{
    log_info("connection %llu: serves '%s'%s%s%s, %s replies", (unsigned long long)c->id,
             c->target.exp->name, c->target.ckpt ? " at checkpoint '" : "",
             c->target.ckpt ? c->target.ckpt->name : "", c->target.ckpt ? "'" : "",
             c->extended     ? "extended"
             : c->structured ? "structured"
                             : "simple");
}

enum hs_next opt_export_name(struct conn *c, const uint8_t *data, size_t len)
{
    uint8_t reply[8 + 2 + 124] = {0};
    struct wire_str name = {(const char *)data, len};
    struct target t;
    struct err *e = NULL;
    int64_t since = clock_ns();

    /* This option has no way to say no but to hang up. With extended headers it "MUST NOT" come. */
    if (memchr(data, 0, len) || c->extended)
        return HS_CLOSE;
    if (!target_find(c, name, TARGET_OPEN, &t, &e) || !hs_enter(c, &t, &e)) {
        log_info("connection %llu: %s", (unsigned long long)c->id, err_msg(e));
        err_free(e);
        target_release(&t);
        return HS_CLOSE;
    }
    hs_slept(c, since);
    put_be64(reply, c->size);
    put_be16(reply + 8, c->flags);
    hs_raw(c, reply, c->hs->no_zeroes ? 10 : sizeof(reply));
    log_entered(c);
    return HS_TRANSMIT;
}

static void info_string(struct conn *c, uint32_t option, uint16_t type, const char *s)
{
    uint8_t head[2];

    put_be16(head, type);
    hs_reply(c, option, NBD_REP_INFO, head, sizeof(head), s, strlen(s));
}

static void info_all(struct conn *c, uint32_t option, const struct target *t, uint16_t flags,
                     const struct wire_go *g)
{
    const struct node *n = target_node(t);
    uint8_t info[14];

    put_be16(info, NBD_INFO_EXPORT);
    put_be64(info + 2, n->size);
    put_be16(info + 10, flags);
    hs_reply(c, option, NBD_REP_INFO, info, 12, NULL, 0);
    if (wire_go_asks(g, NBD_INFO_NAME)) {
        uint8_t head[2];
        put_be16(head, NBD_INFO_NAME);
        hs_reply(c, option, NBD_REP_INFO, head, sizeof(head), g->name.p, g->name.len);
    }
    if (wire_go_asks(g, NBD_INFO_DESCRIPTION) && t->exp->description)
        info_string(c, option, NBD_INFO_DESCRIPTION, t->exp->description);

    /* Any byte range is served, so the minimum is 1 even on direct I/O: the node pads. */
    put_be16(info, NBD_INFO_BLOCK_SIZE);
    put_be32(info + 2, 1);
    put_be32(info + 6, n->limits.align > 4096 ? n->limits.align : 4096);
    put_be32(info + 10, ADVERTISED_PAYLOAD);
    hs_reply(c, option, NBD_REP_INFO, info, 14, NULL, 0);
}

enum hs_next opt_go(struct conn *c, uint32_t option, const uint8_t *data, size_t len)
{
    bool go = option == NBD_OPT_GO;
    struct wire_go g;
    struct target t;
    struct err *e = NULL;
    int64_t since = clock_ns();

    if (!wire_get_go(data, len, &g)) {
        hs_error(c, option, NBD_REP_ERR_INVALID,
                 "malformed: lengths that do not add up, or a name over %u bytes or with a NUL",
                 NBD_NAME_MAX);
        return HS_GO_ON;
    }
    if (!target_find(c, g.name, go ? TARGET_OPEN : TARGET_PEEK, &t, &e)) {
        hs_error_err(c, option, e);
        return HS_GO_ON;
    }
    hs_slept(c, since);
    if (!go) {
        info_all(c, option, &t, target_flags(&t, c), &g);
        target_release(&t);
    } else if (hs_enter(c, &t, &e)) {
        info_all(c, option, &c->target, c->flags, &g);
        log_entered(c);
    } else {
        target_release(&t);
        hs_error_err(c, option, e);
        return HS_GO_ON;
    }
    hs_reply(c, option, NBD_REP_ACK, NULL, 0, NULL, 0);
    return go ? HS_TRANSMIT : HS_GO_ON;
}
