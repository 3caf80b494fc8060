/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Lists of who may use an export: see authz.h.
 */
#include "server/authz.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "io/tls.h"

#define SHA256_SIZE 32

struct authz_entry {
    struct authz_rule rule; /* rule.text is ours */
    uint8_t sha256[SHA256_SIZE];
    struct authz_entry *next;
};

struct authz {
    unsigned refs;
    bool otherwise;
    struct authz_entry *first, **last;
};

struct authz *authz_new(bool otherwise)
{
    struct authz *a = mem_new(struct authz);

    if (!a)
        return NULL;
    a->refs = 1;
    a->otherwise = otherwise;
    a->last = &a->first;
    return a;
}

struct authz *authz_ref(struct authz *a)
{
    a->refs++;
    return a;
}

void authz_unref(struct authz *a)
{
    if (!a || --a->refs > 0)
        return;
    while (a->first) {
        struct authz_entry *e = a->first;
        a->first = e->next;
        mem_free((char *)(uintptr_t)e->rule.text);
        mem_free(e);
    }
    mem_free(a);
}

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

static bool parse_sha256(const char *text, uint8_t out[SHA256_SIZE])
{
    size_t n = 0;

    for (const char *p = text; *p; p += 2) {
        if (*p == ':' && n > 0)
            p++;
        if (n == SHA256_SIZE || !isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]))
            return false;
        out[n++] = (uint8_t)(hex_digit(p[0]) << 4 | hex_digit(p[1]));
    }
    return n == SHA256_SIZE;
}

bool authz_add(struct authz *a, const struct authz_rule *rule, struct err **errp)
{
    uint8_t sha256[SHA256_SIZE] = {0};

    if (rule->kind == AUTHZ_SHA256 && !parse_sha256(rule->text, sha256))
        return err_set(errp, EINVAL, "'%s' is no SHA-256 fingerprint: 64 hexadecimal digits",
                       rule->text);
    struct authz_entry *e = mem_new(struct authz_entry);
    char *text = mem_strdup(rule->text);
    if (!e || !text) {
        mem_free(e);
        mem_free(text);
        return err_set(errp, ENOMEM, "out of memory for a rule about clients");
    }
    e->rule = *rule;
    e->rule.text = text;
    memcpy(e->sha256, sha256, sizeof(sha256));
    *a->last = e;
    a->last = &e->next;
    return true;
}

static bool text_matches(const struct authz_rule *r, const char *who)
{
    if (!who)
        return false;
    return r->glob ? fnmatch(r->text, who, 0) == 0 : strcmp(r->text, who) == 0;
}

static bool matches(const struct authz_entry *e, const struct tls_peer *peer)
{
    const struct authz_rule *r = &e->rule;

    switch (r->kind) {
    case AUTHZ_IDENTITY:
        return text_matches(r, peer->subject) || text_matches(r, peer->user);
    case AUTHZ_SUBJECT:
        return text_matches(r, peer->subject);
    case AUTHZ_USER:
        return text_matches(r, peer->user);
    case AUTHZ_SHA256:
        return peer->subject && memcmp(e->sha256, peer->sha256, SHA256_SIZE) == 0;
    }
    return false;
}

bool authz_allows(const struct authz *a, const struct tls_peer *peer)
{
    if (!peer || (!peer->subject && !peer->user))
        return false; /* no rule is about nobody, and "otherwise" is about somebody else */
    for (const struct authz_entry *e = a->first; e; e = e->next) {
        if (matches(e, peer))
            return e->rule.allow;
    }
    return a->otherwise;
}
