/* relay-in/backend-connect.h - a fresh backend connection brought to where MAIL can follow
 *
 * Connect, greeting, STARTTLS where the rules want it, XCLIENT, the client's own EHLO or HELO.
 * Identity or 451: never anything in between (promise 3).
 *
 * Owns nothing: slot, stream and buffers are the courier's. On the worker's thread; it waits for the backend.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_BACKEND_CONNECT_H
#define POSTERN_RELAY_IN_BACKEND_CONNECT_H

#include "relay-in/backend.h"
#include "smtp/courier.h"
#include "smtp/nexthop.h"

/* 0 with `hop` ready (end it with nexthop_quit() or stream_abort(), then backend_disconnected());
 * or -1 with `reply` the reply to pass to the client, everything closed and given back. */
int backend_introduce(struct backend *backend, const struct client_identity *client,
                      struct nexthop *hop, struct stream_buffers *buffers, struct reply *reply);

#endif
