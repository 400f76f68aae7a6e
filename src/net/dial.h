/* net/dial.h - outgoing TCP connections under a deadline
 *
 * Makes and connects descriptors, which the caller owns. Keeps no state; thread-safe. Used for
 * everything that Postern connects to.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_DIAL_H
#define POSTERN_NET_DIAL_H

#include <stdbool.h>

#include "base/address.h"
#include "base/deadline.h"
#include "base/error.h"

/* Connects to `to`, from `from` unless that is NULL. Returns a blocking, close-on-exec, TCP_NODELAY
 * descriptor that the caller owns, or -1 with the reason in errno and in `err` ("connect to
 * 10.0.0.2:25: Connection refused").
 *
 * `user_timeout_ms` is its TCP_USER_TIMEOUT; 0 leaves the kernel's. A host that vanishes is noticed
 * within that time, plus ten seconds while a stream waits for its reply. */
int dial_connect(const struct address *to, const struct address *from, int user_timeout_ms,
                 struct deadline deadline, struct error *err);

/* The same in two steps, so that another thread can end the second with shutdown(2). dial_open() makes
 * the descriptor, which the caller owns. dial_finish() connects it and returns 0 or -1. */
int dial_open(const struct address *to, const struct address *from, int user_timeout_ms,
              struct error *err);
int dial_finish(int fd, const struct address *to, struct deadline deadline, struct error *err);

/* Is this errno of dial_connect() a fault of this machine (no route, no descriptor, no memory), so that
 * it says nothing about the other host? */
bool dial_failed_here(int failure);

#endif
