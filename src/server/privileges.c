/* server/privileges.c - switches from root to the service's own user
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/i18n.h"

static int privileges_become(const char *user, uid_t uid, gid_t gid, struct error *err)
{
    if (initgroups(user, gid) == 0 && setgid(gid) == 0 && setuid(uid) == 0)
        return 0;
    error_set(err, _("cannot become user %s: %s"), user, strerror(errno));
    return -1;
}

int privileges_find(const char *user, const char *group, uid_t *uid, gid_t *gid, struct error *err)
{
    const struct passwd *entry = getpwnam(user);
    if (entry == NULL) {
        error_set(err,
                  _("there is no user \"%s\": create it (systemd-sysusers does), or set the "
                    "option \"user\" to one that exists"),
                  user);
        return -1;
    }
    *uid = entry->pw_uid;
    *gid = entry->pw_gid;
    if (group[0] == '\0')
        return 0;
    const struct group *wanted = getgrnam(group);
    if (wanted == NULL) {
        error_set(
            err,
            _("there is no group \"%s\": set the option \"group\" to one that exists, or omit it"),
            group);
        return -1;
    }
    *gid = wanted->gr_gid;
    return 0;
}

int privileges_drop(const char *user, const char *group, struct error *err)
{
    uid_t uid;
    gid_t gid;

    umask(077);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (geteuid() != 0 || strcmp(user, "root") == 0)
        return 0;
    return privileges_find(user, group, &uid, &gid, err) == 0
               ? privileges_become(user, uid, gid, err)
               : -1;
}
