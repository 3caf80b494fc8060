/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Giving up privileges: see privileges.h. The order matters: groups first, as the user that we
 * become may not change them any more.
 */
#include "cli/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/parse.h"

#define ID_MAX (UINT32_MAX - 1) /* the last is "no change" */

static bool is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

static bool find_group(const char *group, gid_t *gid, struct err **errp)
{
    uint64_t v;

    if (is_number(group)) {
        if (!parse_u64(group, "--group", 0, ID_MAX, &v, errp))
            return false;
        *gid = (gid_t)v;
        return true;
    }
    errno = 0;
    const struct group *g = getgrnam(group);
    if (!g)
        return err_set(errp, errno ? errno : ENOENT, "--group: there is no group '%s'", group);
    *gid = g->gr_gid;
    return true;
}

static bool find_user(const char *user, struct privileges *out, bool need_group, struct err **errp)
{
    const struct passwd *pw;
    uint64_t v = 0;

    errno = 0;
    if (is_number(user)) {
        if (!parse_u64(user, "--user", 0, ID_MAX, &v, errp))
            return false;
        pw = getpwuid((uid_t)v);
        out->uid = (uid_t)v;
        if (!pw && need_group)
            return err_set(errp, EINVAL, "--user: nothing is known of user %s: give --group, too",
                           user);
    } else {
        pw = getpwnam(user);
        if (!pw)
            return err_set(errp, errno ? errno : ENOENT, "--user: there is no user '%s'", user);
        out->uid = pw->pw_uid;
    }
    if (need_group)
        out->gid = pw->pw_gid;
    return true;
}

bool privileges_find(const char *user, const char *group, struct privileges *out, struct err **errp)
{
    *out = (struct privileges){.drop = user || group, .uid = geteuid(), .gid = getegid()};
    return (!user || find_user(user, out, !group, errp)) &&
           (!group || find_group(group, &out->gid, errp));
}

static bool is_gone(const struct privileges *p)
{
    uid_t r, e, s;
    gid_t rg, eg, sg;

    if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0)
        return false;
    if (r != p->uid || e != p->uid || s != p->uid || rg != p->gid || eg != p->gid || sg != p->gid)
        return false;
    return getgroups(0, NULL) == 0;
}

bool privileges_drop(const struct privileges *p, struct err **errp)
{
    if (!p->drop)
        return true;
    if (setgroups(0, NULL) < 0)
        return err_set_errno(errp, errno, "--user, --group: giving up supplementary groups");
    if (setresgid(p->gid, p->gid, p->gid) < 0)
        return err_set_errno(errp, errno, "--group: becoming group %lu", (unsigned long)p->gid);
    if (setresuid(p->uid, p->uid, p->uid) < 0)
        return err_set_errno(errp, errno, "--user: becoming user %lu", (unsigned long)p->uid);
    if (!is_gone(p))
        return err_set(errp, EPERM, "--user, --group: not all privileges could be given up");
    if (p->uid != 0 && (setresuid(0, 0, 0) == 0 || setresgid(0, 0, 0) == 0 || seteuid(0) == 0))
        return err_set(errp, EPERM, "--user: privileges can be taken back");
    return true;
}
