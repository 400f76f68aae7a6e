/* relay-in/backend-connect.h - makes a backend connection on which MAIL can follow
 *
 * Connects, reads the greeting, does STARTTLS if the rules require it, and sends XCLIENT and the client's own
 * EHLO or HELO. The result is the client's identity or 451, never anything in between (promise 3).
 *
 * Owns nothing: the courier owns slot, stream and buffers. Runs on the worker's thread and waits for the
 * backend.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_BACKEND_CONNECT_H
#define POSTERN_RELAY_IN_BACKEND_CONNECT_H

#include "relay-in/backend.h"
#include "smtp/courier.h"
#include "smtp/nexthop.h"

/* Returns 0 with `hop` ready; end it with nexthop_quit() or stream_abort(), then backend_disconnected(). Returns -1
 * with the reply for the client in `reply`, and everything closed and given back. */
int backend_introduce(struct backend *backend, const struct client_identity *client,
                      struct nexthop *hop, struct stream_buffers *buffers, struct reply *reply);

#endif
