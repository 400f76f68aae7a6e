/* server/privileges.h - switches from root to the service's own user
 *
 * Changes the whole process, so it is called before threads start. Owns nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_PRIVILEGES_H
#define POSTERN_SERVER_PRIVILEGES_H

#include <sys/types.h>

#include "base/error.h"

/* Sets umask, disables core dumps and gaining privileges and, if running as root, switches permanently to `user`
 * and `group` ("" = the user's own). The user "root" stays root. Returns 0, or -1 with a reason that names the
 * option. */
int privileges_drop(const char *user, const char *group, struct error *err);

/* Looks up the ids of user and group. Returns 0, or -1 with a reason that names the option. */
int privileges_find(const char *user, const char *group, uid_t *uid, gid_t *gid, struct error *err);

#endif
