/* relay-out/users.h - who may log in, and with which sender addresses
 *
 * Read from a file of lines "name:hash" or "name:hash:sender sender ..." (written by relayctl
 * password). The hash is one of crypt(3)'s. A sender is an address, "@domain", or "*" for any; no sender
 * at all also means any. '#' begins a comment line.
 *
 * A check takes equally long for a user that does not exist, and at least a second if it fails. After a
 * number of failures from one client, its logins are not checked for ten minutes. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_USERS_H
#define POSTERN_RELAY_OUT_USERS_H

#include "base/address.h"
#include "base/error.h"
#include "smtp/path.h"
#include "smtp/reply.h"

struct users;

/* NULL with a reason: file and line. */
struct users *users_new(const char *file, unsigned failures, struct error *err);
void users_free(struct users *users);

/* REPLY_OK, REPLY_AUTH_FAILED, REPLY_AUTH_TOO_OFTEN, or REPLY_AUTH_TEMPORARY while too many logins are
 * being checked. A check may take some tenths of a second. `*answer_at_ms` is set to the time before
 * which the reply must not be sent, to slow down guessing; 0: at once. */
enum own_reply users_check(struct users *users, const struct address *client, const char *user,
                           const char *password, int64_t *answer_at_ms);

/* May this user send as `sender`? The null sender is always allowed. */
bool users_may_send(const struct users *users, const char *user, const struct path *sender);

#endif
