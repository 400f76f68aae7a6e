/* relay-out/users.h - who may log in, and with which sender addresses
 *
 * Read from a file of lines "name:hash" or "name:hash:sender sender ..." (written by relayctl
 * password): the hash is one of crypt(3)'s, a sender an address, "@domain", or "*" for any, which is
 * also what no sender at all means. '#' begins a comment line.
 *
 * A check takes as long for a user who is not there, and at least a second when it fails; after a
 * number of failures from one client no more are checked for ten minutes. Thread-safe.
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

/* REPLY_OK, REPLY_AUTH_FAILED, REPLY_AUTH_TOO_OFTEN, or REPLY_AUTH_TEMPORARY while too many are being
 * checked, which may take some tenths of a second. `answer_at_ms`: when that may be said, so
 * that nobody guesses fast; 0: at once. */
enum own_reply users_check(struct users *users, const struct address *client, const char *user,
                           const char *password, int64_t *answer_at_ms);

/* The null sender always. */
bool users_may_send(const struct users *users, const char *user, const struct path *sender);

#endif
