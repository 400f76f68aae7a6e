/* net/dial.h - outgoing TCP connections under a deadline
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_DIAL_H
#define POSTERN_NET_DIAL_H

#include <stdbool.h>

#include "base/address.h"
#include "base/deadline.h"
#include "base/error.h"

/* Connects to `to`, from `from` when that is not NULL. Returns a blocking, close-on-exec,
 * TCP_NODELAY descriptor, which the caller owns, with TCP_USER_TIMEOUT `user_timeout_ms`: a host that
 * has vanished is noticed within that time, and ten seconds more where its reply is waited for on a
 * stream (0: the kernel's time); or -1 with the reason in errno and in
 * `err` ("connect to 10.0.0.2:25: Connection refused"). */
int dial_connect(const struct address *to, const struct address *from, int user_timeout_ms,
                 struct deadline deadline, struct error *err);

/* The same in two steps, so that another thread can end the second by shutdown(2): dial_open() makes
 * the descriptor, which the caller owns, and dial_finish() connects it: 0, or -1. */
int dial_open(const struct address *to, const struct address *from, int user_timeout_ms,
              struct error *err);
int dial_finish(int fd, const struct address *to, struct deadline deadline, struct error *err);

/* Does this errno of dial_connect() tell of this machine (no route, no descriptor, no memory), and
 * nothing of the host that was asked for? */
bool dial_failed_here(int failure);

#endif
