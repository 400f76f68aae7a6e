/* server/privileges.h - from root to the service's own user
 *
 * Changes the process; called by main() before any thread runs. Owns nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_PRIVILEGES_H
#define POSTERN_SERVER_PRIVILEGES_H

#include <sys/types.h>

#include "base/error.h"

/* Gives up what the process will not need: umask, dumping, gaining privileges, and, when it runs as
 * root, root: `user` and `group` ("" = the user's own) are taken on for good. "root" as user keeps
 * it. 0, or -1 with a reason that names the option. Call before threads are started. */
int privileges_drop(const char *user, const char *group, struct error *err);

/* Who that is. 0, or -1 with a reason that names the option. */
int privileges_find(const char *user, const char *group, uid_t *uid, gid_t *gid, struct error *err);

#endif
